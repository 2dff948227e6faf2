"""The default model with its real weights: what it knows, and that every fast path gives the numbers of the plain one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from interp.models.language.model import LanguageModel
from interp.models.language.recording import Weights
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import load
from interp.models.tokens.chat import chat_frame
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles

pytestmark = pytest.mark.real

N = 300
EARLY, LAST = torch.arange(112, 128), torch.arange(N - 16, N)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load("smollm2-135m", device="cpu")


@pytest.fixture(scope="module")
def eager() -> Any:
    """The same folder in transformers' own hands."""
    folder = converted_asset("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def texts(model: LanguageModel) -> list[list[int]]:
    """Two pieces of news, 300 tokens each."""
    articles = [model.tokenizer(text)["input_ids"] for text in news_articles()[:20]]
    return [ids[:N] for ids in articles if len(ids) >= N][:2]


@pytest.fixture(scope="module")
def recorded(model: LanguageModel, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Logits [token, vocabulary] and the early and last attention rows [layer, head, query, key] of the first text."""
    with model.record(torch.cat([EARLY, LAST])[None], Weights(N)) as recording:
        logits = model.extend(model.prefix(), [texts[0]], logits="all")[0]
    return logits, recording["weights"][:, 0]


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def distance(rows: Tensor, others: Tensor) -> Tensor:
    """Share of each row's attention that lies elsewhere in the other: half the sum of differences, from 0 to 1."""
    return (rows - others).abs().sum(-1) / 2


def test_it_knows_the_capital_of_france(model):
    ids = model.tokenizer("The capital of France is")["input_ids"]
    written = model.generate(model.prefix(), [ids], max_new_tokens=3)[0]
    assert model.tokenizer.decode(written).startswith(" Paris")


def test_recorded_rows_and_logits_equal_eager_attention(recorded, eager, texts):
    with torch.no_grad():
        output = eager(torch.tensor([texts[0]]), output_attentions=True)
    logits, weights = recorded[0], recorded[1][:, :, 16:]
    expected = torch.stack(output.attentions)[:, 0, :, LAST]
    assert weights.shape == expected.shape == (30, 9, 16, N)
    close(weights, expected, 1e-5)
    close(logits, output.logits[0], 1e-3)


def test_surprisal_behind_a_forked_prefix_equals_that_of_the_whole_texts(model, texts):
    trunk = texts[0][:120]
    rows = [texts[0][119:180], [trunk[-1], *texts[1][:40]]]
    branched = model.surprisal(rows, model.prefix(trunk[:-1]).fork(2))
    wholes = [trunk + row[1:] for row in rows]
    together = model.surprisal(wholes)
    for row, text in enumerate(wholes):
        close(branched[row, 1 : len(rows[row])], together[row, 120 : len(text)], 1e-4)
    assert 1 < branched[0, 1:].mean() < 6  # news costs a small model a few nats a token; ln 49152 = 10.8 is ignorance


def test_a_zeroed_head_changes_the_logits_as_a_hook_on_the_plain_model_does(model, eager, texts):
    layer, head = 18, 7  # the strongest copying head of this model
    ids = texts[0][:60]

    def zero(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].index_fill(-1, torch.arange(64 * head, 64 * (head + 1)), 0.0),)

    before = model.extend(model.prefix(), [ids], logits="all")[0]
    with model.edit_heads([(layer, head)], "zero"):
        edited = model.extend(model.prefix(), [ids], logits="all")[0]
    hook = eager.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
    try:
        with torch.no_grad():
            expected = eager(torch.tensor([ids])).logits[0]
    finally:
        hook.remove()
    close(edited, expected, 1e-3)
    assert (edited - before).abs().max() > 0.1


@pytest.mark.slow
def test_rows_in_half_precision_are_near_those_in_float32(recorded, texts):
    """bfloat16 rounds by up to 2⁻⁹ of a number. Sixty blocks add roundings up like steps of a random walk: √60 · 2⁻⁹ ≈ 1.5 %
    of the residual stream, so √2 · 1.5 % of a score, whose typical size is 4.4: δ ≈ 0.1. Scores off by δ move at most
    tanh(δ/2) ≈ 0.05 of a row's attention. Between neighbouring heads 0.4 of it differs, so the bound tells them apart.
    """
    half = load("smollm2-135m", device="cpu", dtype="bfloat16")
    with half.record(EARLY[None], Weights(N)) as recording:
        half.prefix(texts[0][:128])
    rows, half_rows = recorded[1][:, :, :16], recording["weights"][:, 0]
    assert half.hf.dtype == torch.bfloat16
    assert half_rows.dtype == torch.float32
    close(half_rows.sum(-1), torch.ones(30, 9, 16), 1e-5)
    apart = distance(rows, half_rows).mean(dim=(1, 2))
    assert (apart > 0).all()
    assert apart.max() < 0.05
    assert distance(rows, rows.roll(1, dims=1)).mean() > 0.2


def test_no_beginning_of_sequence_token_is_added_to_plain_text(model):
    tokenizer = model.tokenizer
    assert tokenizer.bos_token_id == 1
    assert 1 not in tokenizer("The capital of France is")["input_ids"]
    assert encode_piece(tokenizer, " a text").ids == tokenizer(" a text")["input_ids"]
    assert beginning(tokenizer, "auto") == beginning(tokenizer, "never") == []
    assert beginning(tokenizer, "always") == [1]
    before, _ = chat_frame(tokenizer, "", "", model.identity.name)
    assert before[0] == 1  # the chat template writes its own
    assert before[1] != 1
