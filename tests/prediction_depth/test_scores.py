"""Settle depths, areas, matched differences and draft trees by hand; planted signals are found and shuffled ones are not."""

import numpy as np
import pandas as pd
import pytest

from probes.prediction_depth.recycling import LEVELS, Drafter, draft_tree, recurrences, replay
from probes.prediction_depth.scores import (
    accuracy_draws,
    auroc_draws,
    matched_difference,
    readout_scores,
    settle_depths,
    slope,
)
from probes.prediction_depth.skipping import layers_at, layers_run

ONCE = np.ones((1, 4))


def test_a_prediction_settles_where_it_is_the_last_ones_from_then_on():
    tops = np.array([[7, 1, 5, 2], [3, 1, 5, 2], [7, 4, 5, 3], [7, 1, 5, 4]])
    assert settle_depths(tops).tolist() == [2, 3, 0, 3]


def test_the_area_counts_pairs_of_one_group_alone():
    scores, right = np.array([0.9, 0.1, 0.5, 0.5]), np.array([True, False, True, False])
    assert auroc_draws(scores, right, "aabb", ONCE) == pytest.approx([0.75])  # a pair won, a pair tied
    assert np.isnan(auroc_draws(scores, np.ones(4, bool), "aabb", ONCE)).all()
    twice = np.array([[2.0, 1, 0, 1]])
    assert auroc_draws(scores, right, "aaaa", twice) == pytest.approx([1.0])


def test_accuracy_among_the_surest():
    scores, right = np.array([4.0, 3, 2, 1]), np.array([True, True, False, True])
    assert [accuracy_draws(scores, right, share, ONCE)[0] for share in (0.25, 0.5, 0.75, 1.0)] == pytest.approx(
        [1, 1, 2 / 3, 3 / 4]
    )
    assert accuracy_draws(scores, right, 0.5, np.array([[0.0, 0, 3, 1]])) == pytest.approx([0])


def test_a_matched_difference_compares_within_bins():
    """First rows are rare in the bin of high values: as they are they look lower, within bins they are higher by one."""
    values = np.array([11.0, 10, 10, 10, 1, 1, 1, 0])
    first = np.array([True, False, False, False, True, True, True, False])
    bins = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    weights = np.ones((1, 8))
    assert matched_difference(values, first, bins * 0, weights)[0] < 0
    assert matched_difference(values, first, bins, weights) == pytest.approx([1])
    assert np.isnan(matched_difference(values, first, np.arange(8), weights)).all()


def test_a_slope_is_that_of_least_squares():
    x, y = pd.Series([0.0, 1, 2, 5]), pd.Series([1.0, 2, 2, 9])
    assert slope(x, y, ONCE) == pytest.approx([np.polyfit(x, y, 1)[0]])


def test_a_planted_readout_is_found_at_its_depth_and_not_in_shuffled_labels():
    generator = np.random.default_rng(0)
    right = generator.random(200) < 0.5
    states = generator.normal(size=(3, 200, 20))
    states[1, :, 4] += 2.0 * right
    groups = ["a", "b"] * 100
    by_depth, chosen, depth = readout_scores(states, right, groups, seed=0)
    weights = np.ones((1, 200))
    assert auroc_draws(chosen, right, groups, weights)[0] > 0.85
    assert set(depth) == {1}
    assert abs(auroc_draws(by_depth[0], right, groups, weights)[0] - 0.5) < 0.12
    shuffled = generator.permutation(right)
    _, null, _ = readout_scores(states, shuffled, groups, seed=0)
    assert abs(auroc_draws(null, shuffled, groups, weights)[0] - 0.5) < 0.15


def test_a_readout_of_answers_that_are_all_right_says_nothing():
    by_depth, chosen, _ = readout_scores(np.zeros((2, 10, 3)), np.ones(10, bool), ["a"] * 10, seed=0)
    assert np.isnan(by_depth).all()
    assert np.isnan(chosen).all()


# ---------------------------------------------------------------------- skipped layers


@pytest.mark.parametrize(("budget", "spread"), [(24, 0.3), (18, 0.3), (3, 0.9), (29, 0.5)])
def test_schedules_spend_the_same_and_fall_or_rise(budget, spread):
    falling, constant, rising = (layers_at(name, budget, spread, 41, 30) for name in ("falling", "constant", "rising"))
    assert falling.sum() == constant.sum() == rising.sum() == 41 * budget
    assert (np.diff(falling) <= 0).all()
    assert (np.diff(rising) >= 0).all()
    assert falling[0] > falling[-1]
    assert 1 <= falling.min() <= falling.max() <= 30


def test_arms_keep_the_layers_that_their_names_say():
    order = [3, 5, 0, 1, 2, 4]
    assert layers_run("drop_top", 4, 6, 2, order) == [0, 1, 2, 3]
    assert layers_run("drop_lower_middle", 4, 6, 1, order) == [0, 3, 4, 5]
    assert layers_run("stride", 3, 6, 2, order) == [0, 2, 5]
    assert layers_run("random", 3, 6, 2, order) == [0, 3, 5]


# ---------------------------------------------------------------------- drafts


def test_the_draft_tree_has_the_levels_of_the_released_one():
    tree = draft_tree()
    assert len(tree) == 80
    assert tuple(sum(len(path) == level for path in tree) for level in range(1, 7)) == LEVELS
    assert all(path[:-1] in tree or len(path) == 1 for path in tree)


def test_recycled_drafts_by_hand():
    """Token 1 is followed by 2, 2 by 3, in candidates as in the text: the second time round both are drafted."""
    text = [1, 2, 3, 1, 2, 3, 9]
    candidates = [[2], [3], [1], [2], [3], [9], [0]]
    rows = list(replay("recycled", text, candidates, 1, [7]))
    # Behind the fourth place 2 and 3 are drafted and right; then 1 is drafted, where 9 stands.
    assert [row["accepted"] for row in rows] == [0, 0, 0, 2]
    hits = list(recurrences("recycled", text, candidates, 1, [7]))
    assert [(hit["rank"], hit["age_tokens"]) for hit in hits] == [(-1, -1)] * 3 + [(0, 3), (0, 3), (-1, 3)]


def test_bigrams_unigrams_and_lookup_by_hand():
    text = [1, 2, 1, 2, 1, 3]
    nothing = [[] for _ in text]
    bigram = [(hit["rank"], hit["age_tokens"]) for hit in recurrences("bigram", text, nothing, 1, [])]
    assert bigram == [(-1, -1), (-1, -1), (0, 2), (0, 2), (-1, 2)]
    assert [hit["rank"] for hit in recurrences("unigram", text, nothing, 1, [2, 1])] == [0, 1, 0, 1, -1]
    lookup = Drafter("prompt lookup", [])
    assert lookup.copied([1, 2, 3, 9, 1, 2]) == [3, 9, 1, 2]
    assert lookup.copied([1, 2]) == []
    assert lookup.accepted([1, 2, 3, 9, 1, 2, 3, 9, 5], 5) == 2
