"""Damaged copies of a model: each changes what it names, keeps the rest, and leaves the model alone."""

import copy

import pytest
import torch
from torch import Tensor

from interp.errors import UserError
from interp.models.language.architecture import query_key_weights
from interp.models.language.model import LanguageModel
from interp.models.language.recording import Weights
from probes.verbatim_memory.measure import NULLS, null_model
from tests.tiny_models import FAMILIES, random_ids, tiny

IDS = random_ids(40)
FUSED = ("gpt2", "gpt_neox", "phi3")


def logits(model: LanguageModel, ids: list[int] = IDS) -> Tensor:
    return model.extend(model.rows(1, len(ids)), [ids], logits="all")[0]


def first_layer_weights(model: LanguageModel) -> Tensor:
    with model.record(torch.tensor([[10]]), Weights(len(IDS))) as recording:
        logits(model)
    return recording["weights"][0, 0, :, 0]


def test_shuffles_move_query_and_key_entries_and_nothing_else():
    model = tiny("llama")
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    dim = model.geometry.head_dim
    for null in ("qk_shuffled", "qk_shuffled_per_head"):
        damaged = null_model(model, null, seed=1).hf.state_dict()
        for name, value in before.items():
            moved = "q_proj" in name or "k_proj" in name
            assert torch.equal(damaged[name], value) != moved, name
            if moved:
                assert torch.equal(damaged[name].flatten().sort()[0], value.flatten().sort()[0])
                kept = [
                    torch.equal(a.flatten().sort()[0], b.flatten().sort()[0])
                    for a, b in zip(damaged[name].split(dim), value.split(dim), strict=True)
                ]
                assert all(kept) == (null == "qk_shuffled_per_head")
    assert all(torch.equal(value, before[name]) for name, value in model.hf.state_dict().items())


@pytest.mark.parametrize("family", [*FUSED, "llama", "gemma2", "cohere", "opt"])
def test_query_and_key_views_hold_what_the_heads_compute_with(family):
    """A head whose queries are zero attends equally to all it sees; the others attend as before."""
    model = tiny(family)
    module = model.attention_modules[0]
    for name in ("q_proj", "c_attn", "qkv_proj", "query_key_value"):
        bias = getattr(getattr(module, name, None), "bias", None)
        if bias is not None:
            bias.data.zero_()
    views = query_key_weights(module, model.geometry)
    assert views is not None
    assert [len(view) for view in views] == [model.geometry.n_heads, model.geometry.n_kv_heads]
    before = first_layer_weights(model)
    views[0][1].zero_()
    after = first_layer_weights(model)
    others = [head for head in range(model.geometry.n_heads) if head != 1]
    assert torch.allclose(after[others], before[others], atol=1e-6)
    seen = before[1] > 0
    assert torch.allclose(after[1], seen / seen.sum(), atol=1e-6)
    views[1].zero_()
    assert torch.allclose(first_layer_weights(model), (seen / seen.sum()).expand_as(after), atol=1e-6)


@pytest.mark.parametrize("family", [*FUSED, "llama", "falcon"])
def test_shuffles_change_the_logits_or_are_refused(family):
    model = tiny(family)
    for null in ("qk_shuffled", "qk_shuffled_per_head"):
        if family == "falcon":
            with pytest.raises(UserError, match="leave out the qk_shuffled nulls"):
                null_model(model, null, seed=1)
        else:
            assert not torch.allclose(logits(null_model(model, null, seed=1)), logits(model), atol=1e-2)


def test_fresh_weights_are_of_the_same_model_and_from_the_seed():
    model = tiny("llama")
    first, again, other = (null_model(model, "random_init", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(logits(first), logits(again))
    assert not torch.equal(logits(first), logits(other))
    assert not torch.equal(logits(first), logits(model))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "falcon-alibi"])
def test_shuffled_positions_are_another_order_of_places_and_stay_causal(family):
    model = tiny(family)
    damaged = null_model(model, "positions_shuffled", seed=3)
    plain = logits(damaged)
    assert not torch.allclose(plain, logits(model), atol=1e-2)
    changed = [*IDS[:-1], IDS[-1] + 1]
    assert torch.allclose(logits(damaged, changed)[:-1], plain[:-1], atol=1e-5)  # what comes later is not seen
    row = damaged.rows(1, len(IDS))
    parts = [damaged.extend(row, [IDS[:17]], logits="all"), damaged.extend(row, [IDS[17:]], logits="all")]
    assert torch.allclose(torch.cat(parts, dim=1)[0], plain, atol=2e-4)  # the same place for a position in every pass
    places = torch.randperm(model.context_window, generator=torch.Generator().manual_seed(3))
    if family.startswith("falcon"):
        return  # its module cannot be switched to eager attention
    oracle = copy.deepcopy(model.hf)
    oracle.set_attn_implementation("eager")
    with torch.no_grad():
        mask = torch.ones(1, len(IDS), dtype=torch.long)  # without one scattered positions are taken for packed texts
        told = oracle(torch.tensor([IDS]), position_ids=places[: len(IDS)][None], attention_mask=mask).logits[0]
    assert torch.allclose(told, plain, atol=2e-4)


def test_a_model_without_position_ids_is_refused():
    with pytest.raises(UserError, match="leave out the null positions_shuffled"):
        null_model(tiny("falcon-alibi"), "positions_shuffled", seed=0)


def test_every_null_leaves_the_model_as_it_was():
    model = tiny("llama")
    before = logits(model)
    for null in NULLS:
        null_model(model, null, seed=5)
        assert torch.equal(logits(model), before)


def test_positions_are_shuffled_where_none_are_given_too():
    model = tiny("llama")
    damaged = null_model(model, "positions_shuffled", seed=3)
    ids = torch.tensor([random_ids(9)])
    positions = torch.arange(9)[None]
    torch.testing.assert_close(
        damaged.hf(input_ids=ids).logits, damaged.hf(input_ids=ids, position_ids=positions).logits
    )
    first = damaged.hf(input_ids=ids[:, :5], use_cache=True)
    rest = damaged.hf(input_ids=ids[:, 5:], past_key_values=first.past_key_values)
    torch.testing.assert_close(rest.logits, damaged.hf(input_ids=ids).logits[:, 5:])
