"""Edits of embedding rows against copies of the model whose weights are really changed, on every kind of family."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interp.errors import ArgumentError, UserError
from interp.models.language.model import LanguageModel
from interp.models.language.recording import HeadOutputs
from interp.models.lens.lens import LogitLens
from tests.tiny_models import VOCABULARY, random_ids, tiny

FAMILIES = ["llama", "gpt2", "gemma2", "gemma3_text", "mistral", "cohere", "gptj", "opt", "bamba", "lfm2", "mamba"]
"""Tied and not, grouped keys, sliding windows, scaled embeddings and logits, an output bias, hybrids, a recurrent one."""
ROWS = [random_ids(12, seed=3), random_ids(12, seed=4)]
IDS = torch.tensor([sorted({*row})[:4] for row in ROWS])
OTHERS = torch.tensor([[5, 6, 7, 8], [90, 5, 91, 6]])


def made(family: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    changes: dict[str, Any] = {"mamba": dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2)}.get(
        family, {}
    )
    model = tiny(family, **changes)
    model.hf.to(dtype)
    return model


def changed(model: LanguageModel, ids: Tensor, rows: Tensor, side: str) -> Any:
    """A copy of the weights, the two embeddings apart, with one sequence's rows really in them."""
    hf = copy.deepcopy(model.hf)
    hf.set_attn_implementation("eager") if hf.config.model_type not in ("mamba", "gptj") else None
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    own_in, own_out = embedding.weight.data.clone(), head.weight.data.clone()
    embedding.weight, head.weight = nn.Parameter(own_in.clone()), nn.Parameter(own_out.clone())
    swaps = not rows.is_floating_point()
    if side != "output":
        embedding.weight.data[ids] = own_in[rows] if swaps else rows.to(own_in)
    if side != "input":
        head.weight.data[ids] = own_out[rows] if swaps else rows.to(own_out)
        if swaps and head.bias is not None:
            head.bias = nn.Parameter(head.bias.data.clone())
            head.bias.data[ids] = head.bias.data[rows]
    return LanguageModel(hf, None, model.identity)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_is_the_model_with_these_rows(family: str) -> None:
    model = made(family)
    width = model.hf.get_input_embeddings().weight.shape[1]  # type: ignore[union-attr, index]
    before = model.surprisal(ROWS)
    for side in ("input", "output", "both"):
        for rows in (OTHERS, torch.randn(2, 4, width, generator=torch.Generator().manual_seed(1))):
            with model.edit_rows(IDS, rows, side=side):  # type: ignore[arg-type]
                found = model.surprisal(ROWS)
            for row in range(2):
                wanted = changed(model, IDS[row], rows[row], side).surprisal([ROWS[row]])[0]
                assert torch.allclose(found[row, 1:], wanted[1:], atol=2e-4), (side, row)
            assert not torch.allclose(found[:, 1:], before[:, 1:], atol=1e-3), side
    assert torch.equal(model.surprisal(ROWS)[:, 1:], before[:, 1:])  # nothing is left behind


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "mamba"])
def test_half_precision(family: str) -> None:
    model = made(family, torch.bfloat16)
    rows = 0.25 * torch.randn(2, 4, model.hf.get_input_embeddings().weight.shape[1])  # type: ignore[union-attr, index]
    with model.edit_rows(IDS, rows):
        found = model.surprisal(ROWS)
    rounding = 0.0
    for row in range(2):
        wanted = changed(model, IDS[row], rows[row], "both").surprisal([ROWS[row]])[0]
        exact = changed(made(family), IDS[row], rows[row], "both").surprisal([ROWS[row]])[0]
        rounding = float((wanted - exact)[1:].abs().max())
        assert float((found[row] - wanted)[1:].abs().max()) <= max(0.02, rounding), row


def test_a_cipher_is_the_text_in_other_letters() -> None:
    """E∘π and U∘π read x as the model reads π(x)."""
    model = made("llama")
    generator = torch.Generator().manual_seed(0)
    key = torch.stack([torch.randperm(VOCABULARY, generator=generator) for _ in ROWS])
    with model.edit_rows(torch.arange(VOCABULARY).expand(2, -1), key):
        found = model.surprisal(ROWS)
    wanted = model.surprisal([key[row][ids].tolist() for row, ids in enumerate(ROWS)])
    assert torch.allclose(found[:, 1:], wanted[:, 1:], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "bamba"])
def test_forks_ragged_rows_generation_and_other_edits_see_it(family: str) -> None:
    model = made(family)
    layer = model.geometry.layers[0]
    oracle = changed(model, IDS[0], OTHERS[0], "both")
    with oracle.edit_heads([(layer, 1)]):
        wanted = oracle.surprisal([ROWS[0]])[0]
    with oracle.edit_heads([(layer, 1)]), oracle.record(torch.tensor([[11]]), HeadOutputs()) as recorded:
        oracle.prefix(ROWS[0])
    with model.edit_heads([(layer, 1)]), model.edit_rows(IDS[:1], OTHERS[:1]):
        prefix = model.prefix(ROWS[0][:5])
        logits = model.extend(prefix.fork(2), [ROWS[0][5:], ROWS[0][5:8]], logits="all")
        found = torch.log_softmax(logits[0], -1)[range(6), ROWS[0][6:]]
        assert torch.allclose(-found, wanted[6:], atol=1e-4)
        with model.record(torch.tensor([[11]]), HeadOutputs()) as recording:
            model.prefix(ROWS[0])
        written = model.generate(model.prefix(ROWS[0][:5]), [ROWS[0][5:]], max_new_tokens=4)
        ids = model.hf.generate(torch.tensor([ROWS[0]]), max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert torch.allclose(recording["head_output"], recorded["head_output"], atol=1e-5)
    assert ids[0, 12:].tolist() == written[0]
    with oracle.edit_heads([(layer, 1)]):
        assert written == oracle.generate(oracle.prefix(ROWS[0][:5]), [ROWS[0][5:]], max_new_tokens=4)


def test_the_inner_edit_counts_and_rows_are_the_models_own() -> None:
    model = made("llama")
    one, two = torch.tensor([[ROWS[0][1]]]), torch.tensor([[ROWS[0][2]]])
    with model.edit_rows(one, torch.tensor([[9]])), model.edit_rows(one, two), model.edit_rows(two, one):
        found = model.surprisal(ROWS[:1])
    both = torch.cat([one, two], dim=1)
    with model.edit_rows(both, both.flip(1)):  # each has the other's own row
        assert torch.allclose(found[:, 1:], model.surprisal(ROWS[:1])[:, 1:], atol=1e-5)
    with model.edit_rows(IDS, OTHERS), model.hooks.closed():  # passes that are not the user's
        closed = model.surprisal(ROWS)
    assert torch.equal(closed[:, 1:], model.surprisal(ROWS)[:, 1:])


def test_a_lens_reads_states_of_any_axes_through_an_edit() -> None:
    """One text's states have no axis for rows; which of several sequences they belong to is then not known."""
    model = made("llama")
    lens, ids, key = LogitLens(model), torch.arange(VOCABULARY)[None], torch.arange(VOCABULARY)
    key[[5, 6, 7, 8]] = torch.tensor([6, 5, 8, 7])
    text = [5, *ROWS[0], 8]
    wanted = lens.each_depth(key[text].tolist())[..., key]
    with model.edit_rows(ids, key[None]):
        assert torch.allclose(lens.each_depth(text), wanted, atol=1e-5)
        states = lens.states(torch.tensor([text, text]))
        assert torch.allclose(lens.logits(states, 0)[:, 1], wanted, atol=1e-5)
        assert torch.allclose(lens.logits(states[2, 0, 3], 2), wanted[2, 3], atol=1e-5)
    with model.edit_rows(ids.expand(2, -1), key.expand(2, -1)):
        assert torch.allclose(lens.logits(lens.states(torch.tensor([text, text]))[1], 1)[1], wanted[1], atol=1e-5)
        with pytest.raises(UserError, match="rows for 2 sequences"):
            lens.each_depth(text)


def test_what_does_not_fit_is_refused() -> None:
    model = made("llama")
    for ids, rows, said in (
        ([[1, 1]], torch.tensor([[2, 3]]), "named twice"),
        ([[1]], torch.tensor([[VOCABULARY]]), "rows for the tokens 0 to 96, not for 97"),
        ([[-1]], torch.tensor([[2]]), "not for -1"),
        ([[1]], torch.tensor([[2, 3]]), "one id, or one vector"),
        ([[1]], torch.randn(1, 1, 63), "has 64 numbers, not 63"),
        ([[1]], torch.full((1, 1, 64), torch.nan), "finite"),
    ):
        with pytest.raises(ArgumentError, match=said), model.edit_rows(torch.tensor(ids), rows):
            pass
    wider = made("llama")
    wider.hf.get_input_embeddings().weight = nn.Parameter(torch.randn(VOCABULARY + 3, 64))  # type: ignore[union-attr]
    for side in ("output", "both"):  # Mllama and Moshi embed more tokens than they write
        last = torch.tensor([[VOCABULARY]])
        with pytest.raises(ArgumentError, match="tokens 0 to 96, not for 97"), wider.edit_rows(last, last, side=side):
            wider.surprisal([[5, 6]])
    with wider.edit_rows(torch.tensor([[5]]), torch.tensor([[VOCABULARY]]), side="input"):
        assert wider.surprisal([[5, 6]]).isfinite().any()
    with pytest.raises(UserError, match="rows for 2 sequences and the batch has 1"), model.edit_rows(IDS, OTHERS):
        model.surprisal(ROWS[:1])
    with pytest.raises(UserError, match="read from input_ids"), model.edit_rows(IDS[:1], OTHERS[:1]):
        model.hf(inputs_embeds=torch.randn(1, 3, 64))
