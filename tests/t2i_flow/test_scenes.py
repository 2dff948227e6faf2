"""Scenes: what a caption names is what is drawn, in the sense that the words before it decide."""

import itertools

import numpy as np
import pytest

from probes.t2i_flow.scenes import (
    COLOURS,
    HELD_OUT,
    MASKS,
    SENSES,
    SHAPES,
    Item,
    Scene,
    caption,
    item_named,
    render,
    sample_scenes,
    split_of,
)

RED_DISC, BLUE_CROSS = Item("red", "disc"), Item("blue", "cross")


def test_captions_by_hand():
    assert caption(["red disc"]) == "a red disc"
    assert caption(["red disc", "cyan bat"], ["the", ""], "beside") == "the red disc beside cyan bat"
    assert caption(["red bat"], context="game", context_before=True) == "in the game , a red bat"
    assert caption(["red bat"], context="game") == "a red bat , in the game"


@pytest.mark.parametrize(
    ("noun", "context", "shape"),
    [("bat", None, "cross"), ("bat", "game", "plus sign"), ("bat", "bar", "cross"), ("pool", None, "frame"), ("pool", "bar", "square")],
)  # fmt: skip
def test_senses_by_hand(noun, context, shape):
    item = item_named("red", noun, context)
    assert (item.phrase, item.drawn) == (f"red {noun}", ("red", shape))
    other = item.other_sense
    assert other is not None
    assert {item.shape, other.shape} == set(SENSES[noun][:2])
    assert Item("red", "disc").other_sense is None


@pytest.mark.parametrize("split", ["train", "unseen", "held_out"])
def test_a_split_has_what_it_may_have(split):
    scenes = sample_scenes(np.random.default_rng(0), 600, split=split)
    assert {len(scene.items) for scene in scenes} == {1, 2}
    for scene in scenes:
        drawn = [item.drawn for item in scene.items]
        assert len(set(drawn)) == len(drawn)
        assert any(one in HELD_OUT for one in drawn) == (split == "held_out")
        assert split_of(scene) == split
        places = [scene.text.index(item.phrase) for item in scene.items]
        assert places == sorted(places)
        assert (scene.context is None) == ("in the" not in scene.text)
        assert scene.text.startswith("in the ") == scene.context_before


def test_captions_are_as_many_kinds_as_promised():
    scenes = sample_scenes(np.random.default_rng(3), 3000)
    assert 0.35 < np.mean([len(scene.items) == 1 for scene in scenes]) < 0.5
    unseen = [split_of(scene) == "unseen" for scene in _any_scenes(2000)]
    assert 0.2 < np.mean(unseen) < 0.3
    repeated = sample_scenes(np.random.default_rng(3), 5)
    assert repeated == scenes[:5]  # a seed says it all
    orders = {tuple(item.drawn for item in scene.items) for scene in scenes}
    assert any(order[::-1] in orders for order in orders if len(order) == 2)


def _any_scenes(n: int) -> list[Scene]:
    rng = np.random.default_rng(4)
    items = [
        Item(colour, shape) for colour, shape in itertools.product(COLOURS, SHAPES) if (colour, shape) not in HELD_OUT
    ]
    pairs = [[items[i] for i in rng.choice(len(items), size=2, replace=False)] for _ in range(n)]
    return [Scene(caption([item.phrase for item in pair]), tuple(pair)) for pair in pairs]


def test_only_a_context_before_the_noun_changes_its_sense():
    seen = set()
    for scene in sample_scenes(np.random.default_rng(1), 2000):
        for item in scene.items:
            if item.noun in SENSES:
                plain, after_context, context = SENSES[item.noun]
                changed = scene.context == context and scene.context_before
                assert item.shape == (after_context if changed else plain)
                seen.add((item.noun, changed, scene.context == context))
    assert len(seen) == 6  # each noun: plain, changed by its context, and with that context after it


def test_a_picture_has_each_object_in_its_cell_and_nothing_else():
    picture = render([RED_DISC, BLUE_CROSS], [1, 2])
    assert picture.shape == (16, 16, 3)
    assert (picture[:7, 8:15, 0] > 0).sum() == MASKS["disc"].sum()
    assert (picture[8:15, :7, 2] > 0).sum() == MASKS["cross"].sum()
    assert picture.sum() == MASKS["disc"].sum() + MASKS["cross"].sum()
