"""What a model has room for and what it is made of: halving batches, head counts, windows, and models that have no heads."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from interp.errors import RunError, UserError
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.models.language.architecture import context_window, head_geometry, rotary_switch
from interp.models.language.out_of_memory import halving_on_out_of_memory, is_out_of_memory
from interp.models.language.recording import TopKeys
from tests.tiny_models import random_ids, tiny

TOO_MUCH = 2**62  # bytes: no machine has them


def ask_torch() -> Any:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


def ask_python() -> Any:
    return bytearray(TOO_MUCH)


def ask_a_gpu() -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")


def work_up_to(room: int, ask: Callable[[], Any], seen: list[list[int]]) -> Callable[[list[int]], list[int]]:
    """Doubles the items of a batch; asks for too much memory when the batch is larger than `room`."""

    def work(batch: list[int]) -> list[int]:
        seen.append(batch)
        if len(batch) > room:
            ask()
        return [2 * item for item in batch]

    return work


@pytest.mark.parametrize("ask", [ask_torch, ask_python, ask_a_gpu])
def test_a_batch_too_large_is_halved_until_it_fits_and_results_keep_their_order(ask):
    seen: list[list[int]] = []
    results = halving_on_out_of_memory(work_up_to(2, ask, seen), [1, 2, 3, 4, 5, 6, 7])
    assert results == [[2], [4, 6], [8, 10], [12, 14]]
    # 7 do not fit: 3 and 4; 3 do not fit: 1 and 2; 4 do not fit: 2 and 2.
    assert seen == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3], [1], [2, 3], [4, 5, 6, 7], [4, 5], [6, 7]]


def test_a_batch_that_fits_is_worked_at_once():
    seen: list[list[int]] = []
    assert halving_on_out_of_memory(work_up_to(9, ask_torch, seen), [1, 2, 3]) == [[2, 4, 6]]
    assert seen == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("ask", "asked_for"),
    [
        (ask_torch, f"you tried to allocate {TOO_MUCH} bytes"),
        (ask_python, ""),
        (ask_a_gpu, "Tried to allocate 4.00 GiB"),
    ],
)
def test_one_item_too_large_says_how_much_it_needed_in_one_sentence(ask, asked_for):
    with pytest.raises(RunError, match=r"^One item at a time still does not fit in memory") as caught:
        halving_on_out_of_memory(work_up_to(0, ask, []), [1, 2])
    sentence = str(caught.value)
    assert asked_for in sentence
    assert sentence.endswith(": use shorter texts, --dtype bfloat16 or --device-map auto.")
    assert "\n" not in sentence
    assert "()" not in sentence
    assert is_out_of_memory(caught.value.__cause__)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("allocate memory"), KeyError("x")])
def test_other_errors_pass_through_untouched(error):
    calls = []

    def work(batch: list[int]) -> None:
        calls.append(batch)
        raise error

    with pytest.raises(type(error)) as caught:
        halving_on_out_of_memory(work, [1, 2])
    assert caught.value is error
    assert calls == [[1, 2]]


def test_what_the_failed_attempt_held_is_free_before_the_halves_begin():
    held: list[weakref.ref[torch.Tensor]] = []

    def work(batch: list[int]) -> int:
        assert [tensor() for tensor in held] == [None] * len(held)
        activations = torch.ones(10)
        held.append(weakref.ref(activations))
        if len(batch) > 1:
            ask_torch()
        return len(batch)

    assert halving_on_out_of_memory(work, [1, 2, 3, 4]) == [1, 1, 1, 1]
    assert len(held) == 7


# ---------------------------------------------------------------- head counts and windows, without a model

_SIZES = dict(num_hidden_layers=5, num_attention_heads=12, hidden_size=96)
_FALCON = dict(num_hidden_layers=5, num_attention_heads=12, hidden_size=96, num_kv_heads=3)
_TEXT = dict(_SIZES, num_key_value_heads=4, head_dim=32, max_position_embeddings=700)


@pytest.mark.parametrize(
    ("family", "fields", "expected"),
    [
        ("llama", _SIZES, (5, 12, 12, 8)),  # no grouping unless named; 96 / 12 = 8
        ("llama", dict(_SIZES, num_key_value_heads=3), (5, 12, 3, 8)),
        ("qwen3", dict(_SIZES, num_key_value_heads=4, head_dim=32), (5, 12, 4, 32)),  # 12 · 32 is not the width
        ("gpt2", dict(n_layer=5, n_head=12, n_embd=96), (5, 12, 12, 8)),
        ("gpt_neox", _SIZES, (5, 12, 12, 8)),
        ("falcon", dict(_FALCON, new_decoder_architecture=True), (5, 12, 3, 8)),
        ("falcon", dict(_FALCON, new_decoder_architecture=False, multi_query=True), (5, 12, 1, 8)),
        ("falcon", dict(_FALCON, new_decoder_architecture=False, multi_query=False), (5, 12, 12, 8)),
        ("gemma3", dict(text_config=_TEXT), (5, 12, 4, 32)),  # an image model's decoder
        ("mamba", {}, None),
        ("rwkv", {}, None),
    ],
)
def test_head_counts_are_read_from_a_configuration(family, fields, expected):
    geometry = head_geometry(AutoConfig.for_model(family, **fields))
    assert geometry == (expected and HeadGeometry(*expected))


def test_query_heads_share_key_heads_in_consecutive_groups():
    """12 query heads, 3 key heads: heads 4, 5, 6 and 7 read the keys of key head 1, each with a query of its own."""
    assert HeadGeometry(5, 12, 3, 8).group_size == 4
    model = tiny("llama", num_attention_heads=12, num_key_value_heads=3, hidden_size=96)
    attention = model.hf.model.layers[0].self_attn

    def heads_changed_by(weight: torch.Tensor, head: int) -> list[int]:
        scores = []
        for factor in (1, 2):
            weight[8 * head : 8 * head + 8] *= factor
            with model.record(torch.arange(10)[None], TopKeys(1)) as recording:
                model.prefix(random_ids(10))
            scores.append(recording["top_logit"][0, 0])
        return (scores[0] != scores[1]).flatten(1).any(1).nonzero().flatten().tolist()

    assert heads_changed_by(attention.k_proj.weight, 1) == [4, 5, 6, 7]
    assert heads_changed_by(attention.q_proj.weight, 5) == [5]


@pytest.mark.parametrize(
    ("family", "fields", "window"),
    [
        ("llama", dict(max_position_embeddings=300), 300),
        ("gpt2", dict(n_positions=300), 300),
        ("gemma3", dict(text_config=_TEXT), 700),
        ("mistral", dict(max_position_embeddings=300, sliding_window=16), 300),  # old tokens leave, new ones may come
        ("mamba", {}, None),
        ("bloom", {}, None),
    ],
)
def test_the_window_is_what_bounds_the_positions(family, fields, window):
    assert context_window(AutoConfig.for_model(family, **fields)) == window


@pytest.mark.parametrize(
    ("rope", "switch"),
    [
        (None, None),
        (dict(rope_type="linear", factor=2.0, rope_theta=1e4), None),
        (dict(rope_type="dynamic", factor=2.0, rope_theta=1e4), 300),
        (
            dict(
                rope_type="longrope",
                rope_theta=1e4,
                short_factor=[1.0] * 4,
                long_factor=[2.0] * 4,
                original_max_position_embeddings=64,
            ),
            64,
        ),
    ],
)
def test_the_rotary_switch_is_where_the_original_window_ended(rope, switch):
    config = AutoConfig.for_model("llama", **_SIZES, max_position_embeddings=300, rope_parameters=rope)
    assert rotary_switch(config) == switch


# ---------------------------------------------------------------- heads and models that are not there


@pytest.mark.parametrize("head", [(3, 0), (-1, 0), (0, 4), (0, -1)])
def test_a_head_out_of_range_is_refused_wherever_it_is_named(head):
    model = tiny("llama")
    message = f"^there is no head {head[0]}-{head[1]}: layers go from 0 to 2 and heads from 0 to 3$"
    for opened in (model.edit_heads([(1, 1), head]), model.block_attention([head], keys=[0])):
        with pytest.raises(IndexError, match=message), opened:
            pass
    assert model.hooks.edits == []


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 3, 1)], ids=["a layer too many", "one column for all heads"])
def test_a_grid_of_another_models_heads_is_refused(shape):
    """Otherwise the head of the missing layer is edited in silence nowhere, and the one column everywhere."""
    model = tiny("llama")
    grid = torch.zeros(shape, dtype=torch.bool)
    grid[0, -1, 0] = True
    with pytest.raises((IndexError, ValueError, UserError)), model.edit_heads(grid):
        model.prefix([3, 4, 5])


_WITHOUT_HEADS = {
    "mamba": dict(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
    "rwkv": dict(vocab_size=97, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
}


@pytest.mark.parametrize("family", _WITHOUT_HEADS)
def test_a_model_without_heads_says_so_whatever_is_asked_of_its_heads(family):
    model = tiny(family, **_WITHOUT_HEADS[family])
    attempts = [
        lambda: model.geometry,
        lambda: model.record(torch.tensor([[0]]), TopKeys(1)).__enter__(),
        lambda: model.edit_heads([(0, 0)]).__enter__(),
        lambda: model.block_attention([(0, 0)], keys=[0]).__enter__(),
        lambda: model.mean_head_outputs([[3, 4]]),
    ]
    for attempt in attempts:
        with pytest.raises(UserError, match=rf"^tiny-{family} \({family}\) has no attention heads\.$"):
            attempt()
    assert model.attention_modules == []
    assert model.facts == ModelFacts(
        ModelIdentity(f"tiny-{family}", "tests", "0", "float32"), family, None, model.context_window
    )
    assert model.facts.name == f"tiny-{family}"


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("xlm", dict(emb_dim=64, n_layers=3, n_heads=4, causal=True), "does not use transformers' attention interface"),
        (
            "jetmoe",
            dict(num_hidden_layers=3, num_key_value_heads=2, kv_channels=16, num_local_experts=2, intermediate_size=32),
            "keeps its 3 attention layers where",
        ),
    ],
)
def test_attention_that_cannot_be_looked_at_is_refused_when_heads_are_asked_for(family, fields, message):
    model = tiny(family, **{"vocab_size": 97, "hidden_size": 64, **fields})
    assert model.attention_modules == []
    for ask in (lambda: model.geometry, lambda: model.prefix([3]), lambda: model.edit_heads([(0, 0)]).__enter__()):
        with pytest.raises(UserError, match=message):
            ask()
