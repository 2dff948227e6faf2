"""Recall and state: the bytes are what a model needs to read on, attention learns what a state that is too small cannot."""

import pandas as pd
import pytest
import torch
from torch.nn.functional import layer_norm, softplus

from figures.context_recall_states import plot_states
from training import mqar
from training.mixers import KERNEL, LAYERS, PARAMETERS, VALUE_WIDTH, WIDTH, Reader, Shape, StateSpace, Taylor, Window
from training.mqar import (
    KEYS,
    PAIRS,
    RESULT,
    SEEDS,
    SHAPES,
    TOKENS,
    UNASKED,
    VALUES,
    VOCABULARY,
    draw,
    recall_of,
    trained,
)

# ---------------------------------------------------------------------- texts


def test_questions_ask_for_keys_whose_values_are_not_written_again():
    ids, wanted = draw(40, 8, torch.Generator().manual_seed(0))
    for row, answers in zip(ids.tolist(), wanted.tolist(), strict=True):
        pairs = dict(zip(row[:16:2], row[1:16:2], strict=True))
        assert len(pairs) == 8
        assert set(answers[:16]) == {UNASKED}
        for token, answer in zip(row[16:], answers[16:], strict=True):
            assert answer == pairs.get(token, UNASKED)
            assert token < KEYS or token >= KEYS + VALUES


# ---------------------------------------------------------------------- states


def step_by_step(mixer, stream):
    """A mixer that keeps its state alone between tokens; the state's numbers are counted."""
    parts = mixer.read(stream).split(mixer.widths, dim=-1)
    query, key, value, extra = (part[0] for part in parts)
    if isinstance(mixer, StateSpace):
        state = torch.zeros(key.shape[1], value.shape[1])
        said = []
        for token in range(len(key)):
            decay, gate = extra[token] + mixer.start
            state = state * torch.exp(-softplus(decay)) + gate.sigmoid() * torch.outer(key[token], value[token])
            said.append(layer_norm(query[token] @ state, value.shape[1:]))
        return mixer.write(torch.stack(said)), state.numel()

    def features(row):
        row = row / row.shape[0] ** 0.25
        return torch.cat([torch.ones(1), row, torch.outer(row, row).flatten() / 2**0.5])

    state = torch.zeros(len(features(key[0])), value.shape[1] + 1)
    said = []
    for token in range(len(key)):
        state = state + torch.outer(features(key[token]), torch.cat([value[token], torch.ones(1)]))
        *sums, total = features(query[token]) @ state
        said.append(torch.stack(sums) / total)
    return mixer.write(torch.stack(said)), state.numel()


@pytest.mark.parametrize("kind", [Taylor, StateSpace])
def test_a_state_of_the_stated_size_is_enough_to_read_on(kind):
    torch.manual_seed(0)
    mixer = kind(4, VALUE_WIDTH)
    stream = torch.randn(1, 12, WIDTH)
    with torch.no_grad():
        said, numbers = step_by_step(mixer, stream)
        assert torch.allclose(said, mixer(stream)[0], atol=1e-5)
    assert numbers == mixer.state_numbers(12) == mixer.state_numbers(1000)


def test_a_window_keeps_its_tokens_and_attention_all():
    torch.manual_seed(0)
    mixer, stream = Window(8, 4), torch.randn(1, 10, WIDTH)
    changed = stream.clone()
    changed[0, 5] += 1
    with torch.no_grad():
        differs = (mixer(stream) - mixer(changed)).abs().amax(dim=-1)[0] > 1e-6
    assert differs.tolist() == [False] * 5 + [True] * 4 + [False]
    assert mixer.state_numbers(100) == 2 * 8 * 4
    assert Window(8).state_numbers(100) == 2 * 8 * 100


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_have_as_many_parameters_and_read_no_future(shape):
    torch.manual_seed(0)
    model = Reader(shape, VOCABULARY).eval()
    assert abs(sum(part.numel() for part in model.parameters()) / PARAMETERS - 1) < 0.01
    ids, _ = draw(3, 4, torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 20:] = 1
    with torch.no_grad():
        assert torch.allclose(model(ids)[:, :20], model(changed)[:, :20], atol=1e-5)
    assert shape.state_bytes(TOKENS) > 4 * LAYERS * (KERNEL - 1) * WIDTH


# ---------------------------------------------------------------------- training


def test_models_that_are_trained_side_by_side_are_those_trained_alone():
    shape = Shape("state space", 4)
    _, second = trained(shape, (0, 1), steps=4)
    (alone,) = trained(shape, (1,), steps=4)
    for one, other in zip(second.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_attention_learns_what_a_state_that_is_too_small_cannot():
    """By the recipe, with one seed: the window has lost most pairs before the questions come and says no more than chance."""
    large, small = Shape("attention", 8), Shape("window", 8)
    right = {}
    for shape in (large, small):
        (model,) = trained(shape, (0,), steps=300)
        right[shape] = {row["n_pairs"]: row["accuracy"] for row in mqar.tested(model, shape, 0, 300)}
    assert small.state_bytes(TOKENS) < large.state_bytes(TOKENS)
    for n_pairs in PAIRS:
        assert right[large][n_pairs] > 0.9
        assert right[small][n_pairs] < 1.5 / n_pairs


# ---------------------------------------------------------------------- the committed table


def test_the_committed_table_is_of_this_recipe():
    table = pd.read_csv(RESULT)
    known = {(shape.kind, shape.size): shape.state_bytes(TOKENS) for shape in SHAPES}
    for (kind, size), rows in table.groupby(["kind", "size"]):
        assert set(rows["state_bytes"]) == {known[kind, size]}
        assert sorted(rows["seed"].unique()) == list(SEEDS)
        assert sorted(rows["n_pairs"].unique()) == list(PAIRS)
    assert set(table["kind"]) == {shape.kind for shape in SHAPES}
    recall = recall_of(table)
    assert recall["ci_low"].le(recall["value"]).all()
    assert recall["ci_high"].ge(recall["value"]).all()
    assert recall["ci_low"].ge(0).all()
    assert recall["ci_high"].le(1).all()
    figure = plot_states(recall)
    assert {trace.name for trace in figure.data} == set(table["kind"])
