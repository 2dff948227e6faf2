"""Surprisal and mean head outputs equal transformers' logits and module inputs, however much is read at once."""

import math

import pytest
import torch
from torch import Tensor

from interp.models.language.architecture import attention_modules, output_projection
from interp.models.language.prefix import stack
from interp.models.language.recording import HeadOutputs, Weights
from tests.reading import IDS, ROWS, N, close, whole
from tests.tiny_models import FAMILIES, tiny, tiny_hf


def surprisal_by_hand(family: str, ids: list[int]) -> Tensor:
    log_p = torch.log_softmax(whole(family, ids), dim=-1)
    return torch.tensor([math.nan, *(-log_p[i - 1, ids[i]].item() for i in range(1, len(ids)))])


@pytest.mark.parametrize("family", FAMILIES)
def test_surprisal_is_minus_log_softmax_of_transformers_logits(family, monkeypatch):
    model = tiny(family)
    surprisal = model.surprisal(ROWS)
    assert surprisal.shape == (3, 25)
    for row, ids in enumerate(ROWS):
        close(surprisal[row, : len(ids)], surprisal_by_hand(family, ids))
        assert surprisal[row, len(ids) :].isnan().all()

    # Behind ragged prefixes: the first token is the last of the context, so that nothing that follows is left unscored.
    monkeypatch.setattr("interp.models.language.forward.LOGITS_AT_ONCE", 97 * 3 * 4)  # four tokens of three rows
    contexts = [IDS[:11], IDS[30:47], IDS[5:9]]
    rows = stack([model.prefix(context[:-1]) for context in contexts])
    surprisal = model.surprisal([[context[-1], *row] for context, row in zip(contexts, ROWS, strict=True)], rows)
    for row, (context, ids) in enumerate(zip(contexts, ROWS, strict=True)):
        expected = surprisal_by_hand(family, context + ids)[len(context) :]
        close(surprisal[row, : len(ids) + 1], torch.cat([torch.tensor([math.nan]), expected]))
    assert rows.lengths == [len(context) + len(ids) for context, ids in zip(contexts, ROWS, strict=True)]


def test_surprisal_is_in_nats():
    model = tiny("llama")
    model.hf.lm_head.weight.zero_()  # every one of the 97 tokens is equally likely: ln 97 = 4.5747
    close(model.surprisal([IDS[:4]])[0], torch.tensor([math.nan, 4.574711, 4.574711, 4.574711]))


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_head_outputs_are_the_mean_input_of_the_output_projection(family):
    model, hf = tiny(family), tiny_hf(family)
    texts = [IDS[:12], IDS[12:42]]
    seen: list[list[Tensor]] = [[], [], []]
    for layer, module in enumerate(attention_modules(hf)):
        keep = lambda _, inputs, layer=layer: seen[layer].append(inputs[0][0])  # noqa: E731
        output_projection(module).register_forward_pre_hook(keep)
    with torch.no_grad():
        for text in texts:
            hf(torch.tensor([text]))
    expected = torch.stack([torch.cat(parts).mean(0) for parts in seen]).unflatten(
        -1, (4, 16)
    )  # 42 tokens, equal weight
    means = model.mean_head_outputs(texts)
    close(means, expected, 2e-5)
    with (
        model.edit_heads([(1, 2)], "mean", means=means),
        model.record(torch.arange(9)[None], HeadOutputs()) as recording,
    ):
        model.prefix(IDS[:9])
    close(recording["head_output"][1, 0, 2], expected[1, 2].expand(9, -1), 2e-5)


@pytest.mark.parametrize(
    ("family", "limit", "at_once"),
    [(family, "interp.models.language.forward.CHUNK_TOKENS", 5) for family in ("llama", "mistral", "falcon-alibi")]
    + [(family, "interp.models.language.attention.SCORES_AT_ONCE", 500) for family in ("llama", "gemma2")],
)
def test_how_much_is_read_at_once_changes_no_number(family, limit, at_once, monkeypatch):
    def run() -> tuple[list[list[int]], list[Tensor]]:
        model = tiny(family)
        trunk = model.prefix(IDS[:20])
        queries = torch.tensor([[25, 21, 20], [44, 30, -1], [33, 32, 20]])
        with model.record(queries, Weights(N)) as recording:
            logits = model.extend(trunk.fork(3), ROWS, logits="last")
        written = model.generate(
            stack([model.prefix(row) for row in ROWS]), [row[:8] for row in ROWS], max_new_tokens=5
        )
        return written, [
            logits,
            recording["weights"],
            model.mean_head_outputs(ROWS),
            model.surprisal(ROWS).nan_to_num(),
        ]

    written, numbers = run()
    monkeypatch.setattr(limit, at_once)
    written_in_parts, numbers_in_parts = run()
    assert written_in_parts == written
    for part, number in zip(numbers_in_parts, numbers, strict=True):
        close(part, number)
