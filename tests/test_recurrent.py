"""The LSTM: its arithmetic against a plain loop over cells, and its state through sharing, cropping, padding and batches."""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM

from interp.errors import RunError, UserError
from interp.models.language.lstm import LSTMForCausalLM
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History
from interp.models.loading import names as registry
from interp.models.loading.language import load, look_up
from interp.models.loading.names import ModelEntry
from probes.verbatim_memory.measure import null_model
from tests.test_loading import word_level
from tests.tiny_models import VOCABULARY, random_ids, tiny, tiny_hf

SIZES = dict(vocab_size=VOCABULARY, hidden_size=12, state_size=20, num_hidden_layers=2)
CLOSE = dict(atol=2e-5, rtol=0.0)


@pytest.fixture(scope="module")
def lstm() -> LanguageModel:
    return tiny("interp_lstm", **SIZES)


def by_cells(hf: LSTMForCausalLM, ids: Sequence[int]) -> torch.Tensor:
    """Next-token logits after every token, in double precision: one nn.LSTMCell per layer, one token at a time."""
    cells = []
    for layer in range(hf.config.num_hidden_layers):
        cell = nn.LSTMCell(hf.config.hidden_size if layer == 0 else hf.config.state_size, hf.config.state_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).data = getattr(hf.lstm, f"{name}_l{layer}").data
        cells.append(cell.double())
    states = [(torch.zeros(1, hf.config.state_size).double(),) * 2 for _ in cells]
    logits = []
    for token in ids:
        flowing = hf.embedding.weight[token].double()[None] * hf.config.hidden_size**0.5
        for layer, cell in enumerate(cells):
            states[layer] = cell(flowing, states[layer])
            flowing = states[layer][0]
        projected = flowing @ hf.projection.weight.double().T + hf.projection.bias.double()
        logits.append(projected @ hf.embedding.weight.double().T)  # tied
    return torch.cat(logits).detach().float()


@contextmanager
def counted(model: LanguageModel) -> Iterator[list[int]]:
    """Collects the number of tokens of every batch the embedding sees, padding included."""
    seen: list[int] = []
    hook = model.hf.get_input_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0].numel()))
    try:
        yield seen
    finally:
        hook.remove()


# ---------------------------------------------------------------------- arithmetic


def test_logits_and_surprisal_are_those_of_a_plain_loop_over_cells(lstm):
    ids = random_ids(40)
    wanted = by_cells(lstm.hf, ids)
    assert wanted.std() > 0.1  # logits that differ: equality means something
    torch.testing.assert_close(lstm.extend(lstm.rows(1), [ids], logits="all")[0], wanted, **CLOSE)
    log_p = wanted.log_softmax(dim=-1)
    surprisal = lstm.surprisal([ids])[0]
    assert surprisal[0].isnan()
    torch.testing.assert_close(
        surprisal[1:], -torch.stack([log_p[i, token] for i, token in enumerate(ids[1:])]), **CLOSE
    )


def test_a_new_lstm_starts_from_its_own_scales_with_open_forget_gates_and_tied_embeddings():
    hf = LSTMForCausalLM(LSTMForCausalLM.config_class(**SIZES))
    biases = (hf.lstm.bias_ih_l1 + hf.lstm.bias_hh_l1).view(4, -1)  # torch's order: input, forget, cell, output
    assert biases.tolist() == [[0.0] * 20, [1.0] * 20, [0.0] * 20, [0.0] * 20]
    for gate in hf.lstm.weight_hh_l1.view(4, 20, 20):
        torch.testing.assert_close(gate @ gate.T, torch.eye(20), atol=1e-5, rtol=0)
    for gate in hf.lstm.weight_ih_l0.view(4, 20, 12):
        assert 0.9 * math.sqrt(6 / 32) < gate.abs().max() < math.sqrt(6 / 32)
    assert hf.lm_head.weight is hf.embedding.weight
    assert hf.embedding.weight.std().item() == pytest.approx(0.1, rel=0.1)
    d, s = 12, 20
    assert hf.num_parameters() == VOCABULARY * d + 4 * s * (d + s + 2) + 4 * s * (s + s + 2) + (s + 1) * d


# ---------------------------------------------------------------------- state


def test_reading_on_from_the_kept_state_equals_reading_all_again_and_costs_the_new_tokens_alone(lstm):
    ids = random_ids(60)
    rows = lstm.rows(1)
    with counted(lstm) as seen:
        parts = [lstm.extend(rows, [part], logits="all") for part in (ids[:30], ids[30:31], ids[31:])]
    assert seen == [30, 1, 29]
    torch.testing.assert_close(torch.cat(parts, dim=1)[0], by_cells(lstm.hf, ids), **CLOSE)
    assert rows.ids == [ids]


def test_rows_of_different_length_read_as_they_would_alone(lstm):
    texts = [random_ids(n, seed=n) for n in (7, 1, 23, 12)]
    rows = lstm.rows(4)
    together = lstm.extend(rows, texts, logits="all")
    following = lstm.extend(rows, [random_ids(n, seed=100 + n) for n in (2, 9, 1, 5)], logits="last")
    for row, n in enumerate((2, 9, 1, 5)):
        alone = by_cells(lstm.hf, [*texts[row], *random_ids(n, seed=100 + n)])
        torch.testing.assert_close(together[row, : len(texts[row])], alone[: len(texts[row])], **CLOSE)
        torch.testing.assert_close(following[row, 0], alone[-1], **CLOSE)


def test_padding_does_not_run_through_the_state_of_a_shorter_row(lstm):
    lengths = torch.tensor([3, 5, 0])
    before = torch.randn(2, 2, 3, 20, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([random_ids(5, seed) for seed in range(3)])
    other = tokens.clone()
    other[0, 3:], other[2] = 4, 9
    with torch.no_grad():
        one = lstm.hf(input_ids=tokens, state=before, lengths=lengths)
        two = lstm.hf(input_ids=other, state=before, lengths=lengths)
        short = lstm.hf(input_ids=tokens[:1, :3], state=before[:, :, :1])
        unaware = lstm.hf(input_ids=tokens, state=before)
    assert torch.equal(one.state, two.state)
    assert torch.equal(one.logits[0, :3], two.logits[0, :3])
    torch.testing.assert_close(one.state[:, :, :1], short.state, **CLOSE)
    assert torch.equal(one.state[:, :, 2], before[:, :, 2])  # read nothing
    assert (unaware.state[:, :, 0] - one.state[:, :, 0]).abs().max() > 0.01  # padding would have mattered


@pytest.mark.parametrize(("cut", "read_again"), [(30, 0), (50, 0), (41, 11), (29, 29), (0, 0)])
def test_a_crop_goes_back_to_the_last_state_before_the_cut_and_reads_the_rest_again(lstm, cut, read_again):
    ids, other = random_ids(50), random_ids(4, seed=1)
    rows = lstm.rows(1)
    lstm.extend(rows, [ids[:30]])
    lstm.extend(rows, [ids[30:]])
    rows.crop(cut)
    assert rows.lengths == [cut]
    with counted(lstm) as seen:
        logits = lstm.extend(rows, [other], logits="all")
    assert seen == [read_again + 4]
    torch.testing.assert_close(logits[0], by_cells(lstm.hf, [*ids[:cut], *other])[cut:], **CLOSE)


def test_branches_go_their_own_ways_from_one_reading(lstm):
    trunk, ends = random_ids(30), [random_ids(n, seed=n) for n in (3, 6, 1)]
    row = lstm.rows(1)
    with counted(lstm) as seen:
        lstm.extend(row, [trunk], logits="none")  # read at once: a fork must not read it three times
        branches = row.fork(3)
        logits = lstm.extend(branches, ends, logits="last")
    assert seen == [30, 18]
    for index, end in enumerate(ends):
        torch.testing.assert_close(logits[index, 0], by_cells(lstm.hf, [*trunk, *end])[-1], **CLOSE)
    again = lstm.extend(branches.select([2, 0]), [[5], [6]])
    torch.testing.assert_close(again[0, 0], by_cells(lstm.hf, [*trunk, *ends[2], 5])[-1], **CLOSE)
    torch.testing.assert_close(again[1, 0], by_cells(lstm.hf, [*trunk, *ends[0], 6])[-1], **CLOSE)
    torch.testing.assert_close(lstm.extend(row, [[7]])[0, 0], by_cells(lstm.hf, [*trunk, 7])[-1], **CLOSE)


WISHES = st.lists(st.tuples(st.sampled_from(["read", "crop", "select"]), st.integers(0, 2**16)), max_size=8)


@settings(max_examples=40, deadline=None)
@given(WISHES)
def test_whatever_is_done_to_rows_the_next_logits_are_those_of_the_whole_text(wishes):
    model = tiny("interp_lstm", **SIZES)
    rows = model.rows(3)
    for wish, seed in wishes:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randint(0, 6, (3,), generator=generator).tolist()
        if wish == "read" and any(draws):
            model.extend(rows, [random_ids(n, seed) for n in draws], logits="none" if seed % 2 else "all")
        elif wish == "crop":
            rows.crop([min(draw, length) for draw, length in zip(draws, rows.lengths, strict=True)])
        elif wish == "select":
            rows = rows.select([draw % 3 for draw in draws])
    wanted = torch.stack([by_cells(model.hf, [*row, 3])[-1] for row in rows.ids])
    torch.testing.assert_close(model.extend(rows, [[3]] * 3)[:, 0], wanted, **CLOSE)


def test_a_reading_that_fails_has_read_nothing(lstm):
    rows = lstm.rows(1)
    lstm.extend(rows, [[3, 4]])
    with pytest.raises(UserError, match=f"has {VOCABULARY} rows"):
        lstm.extend(rows, [[5, VOCABULARY]])
    assert rows.ids == [[3, 4]]
    torch.testing.assert_close(lstm.extend(rows, [[6]])[0, 0], by_cells(lstm.hf, [3, 4, 6])[-1], **CLOSE)


@pytest.mark.parametrize("family", ["mamba", "rwkv"])
def test_transformers_recurrent_models_read_everything_again(family):
    sizes = dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2)
    more = {"mamba": dict(state_size=4), "rwkv": dict(attention_hidden_size=16, context_length=64)}[family]
    model = tiny(family, **sizes, **more)
    ids = random_ids(20)
    rows = model.rows(2)
    assert isinstance(rows, History)
    model.extend(rows, [ids[:10], ids[:3]])
    with counted(model) as seen:
        logits = model.extend(rows, [ids[10:], ids[3:5]], logits="last")
    assert seen == [40]
    assert rows.state_lengths == [0, 0]
    with torch.no_grad():
        for row, end in enumerate((20, 5)):
            alone = model.hf(input_ids=torch.tensor([ids[:end]]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(logits[row, 0], alone, **CLOSE)


# ---------------------------------------------------------------------- files and refusals


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-lstm"
    tiny_hf("interp_lstm", **SIZES).half().save_pretrained(folder)
    word_level().save_pretrained(folder)
    return folder


def test_a_saved_lstm_loads_by_the_same_call_as_any_model(folder):
    model = load(str(folder))
    assert isinstance(model.hf, LSTMForCausalLM)
    assert (model.hf.dtype, model.identity.dtype, model.context_window) == (torch.float32, "float32", None)
    assert model.hf.lm_head.weight is model.hf.embedding.weight
    kept = tiny_hf("interp_lstm", **SIZES).half().float()
    ids = random_ids(20)
    assert torch.equal(model.surprisal([ids])[0, 1:], LanguageModel(kept, None, model.identity).surprisal([ids])[0, 1:])
    facts = look_up(str(folder))
    assert (facts.identity, facts.model_type, facts.geometry) == (model.identity, "interp_lstm", None)
    assert load(str(folder), dtype="bfloat16").hf.dtype == torch.bfloat16
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert plain.dtype == torch.float16  # as stored


def test_an_lstm_has_no_heads_and_says_so(lstm):
    with pytest.raises(UserError, match=r"has no attention heads"):
        lstm.prefix([3])


def test_random_initialisation_of_an_lstm_knows_nothing_of_the_model(lstm):
    wrapped = LanguageModel(lstm.hf, word_level(), lstm.identity)
    one, two = (null_model(wrapped, "random_init", seed=3) for _ in range(2))
    ids = random_ids(10)
    assert torch.equal(one.surprisal([ids])[0, 1:], two.surprisal([ids])[0, 1:])
    assert not torch.allclose(one.surprisal([ids])[0, 1:], lstm.surprisal([ids])[0, 1:], atol=0.01)


def damage(**changes: int):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage(state_size=24), "weights have other shapes"),
        (damage(num_hidden_layers=3), r"lacks 4 of the weights .* lstm\.bias_hh_l2"),
        (damage(hidden_size=16), "weights have other shapes"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "cannot be loaded"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(folder, spoil, words):
    spoil(folder)
    with pytest.raises(RunError, match=words) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_model_that_should_have_come_with_the_toolkit_is_missed_in_one_sentence(folder, tmp_path, monkeypatch):
    entry = ModelEntry("lstm-here", "trained:lstm-here")
    monkeypatch.setattr(registry, "aliases", lambda: {"lstm-here": entry})
    monkeypatch.setattr(registry, "TRAINED", tmp_path / "trained")
    with pytest.raises(
        RunError, match=r"^lstm-here comes with the toolkit but config.json, .* install the toolkit again\.$"
    ):
        load("lstm-here")
    shutil.copytree(folder, tmp_path / "trained" / "lstm-here")
    identity = load("lstm-here").identity
    assert identity.revision == look_up(str(folder)).identity.revision  # a sha256 of the files
    assert (identity.name, identity.source) == ("lstm-here", "trained:lstm-here")
    (tmp_path / "trained" / "lstm-here" / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(RunError, match=r"^trained:lstm-here cannot be loaded"):
        load("lstm-here")
