"""Coverage: by hand, greedy against the best set, nested sets, and the shuffle of a corpus."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from interp.statistics import standard_errors
from probes.function_tokens.coverage import (
    coverage_rows,
    covered_in_order,
    first_places,
    frequency_intervals,
    greedy_cover,
    matched_rows,
    n_covered,
    sizes,
)
from probes.function_tokens.graph import Graph, total_counts
from tests.function_tokens.planted import N_FEATURES, block_pairs, draw_events


def graph_of(rows: list[list[int]], n_features: int, occurrences: list[int] | None = None) -> Graph:
    matrix = np.zeros((len(rows), n_features), dtype=np.int64)
    for row, features in enumerate(rows):
        matrix[row, features] = 1
    return Graph(sparse.csr_array(matrix), np.arange(len(rows)), np.array(occurrences or [1] * len(rows)))


def test_coverage_in_order_by_hand():
    graph = graph_of([[0, 1], [1, 2, 3], [], [5]], 6)
    assert covered_in_order(graph, np.array([0, 1, 2, 3])).tolist() == [2, 4, 4, 5]
    assert covered_in_order(graph, np.array([3, 2])).tolist() == [1, 1]
    assert first_places(graph, np.array([2, 0, 1, 3]), 9).tolist() == [2, 0, 0, 0, 9, 3]
    assert n_covered(graph, np.array([0, 3])) == 3


def test_edges_need_min_count_occurrences():
    graph = Graph(sparse.csr_array(np.array([[1, 2, 5], [0, 1, 0]])), np.arange(2), np.array([5, 1]))
    assert [covered_in_order(graph.above(least), np.array([0, 1]))[-1] for least in (1, 2, 5, 10)] == [3, 2, 1, 0]


@pytest.mark.parametrize("seed", range(12))
def test_greedy_against_the_best_set(seed):
    generator = np.random.default_rng(seed)
    matrix = (generator.random((9, 25)) < 0.2).astype(np.int64)
    graph = Graph(sparse.csr_array(matrix), np.arange(9), np.ones(9, dtype=np.int64))
    for k in (1, 2, 3, 4):
        best = max(n_covered(graph, np.array(rows)) for rows in combinations(range(9), k))
        found = n_covered(graph, greedy_cover(graph, k))
        assert found >= (1 - 1 / np.e) * best
        if k == 1:
            assert found == best


def test_greedy_stops_when_all_is_reached():
    assert greedy_cover(graph_of([[0, 1, 2], [0], [3]], 4), 10).tolist() == [0, 2]


def test_matched_sets_have_the_occurrences_asked_for():
    graph = graph_of([[0]] * 40, 1, [1] * 30 + [7] * 10)
    for seed in range(5):
        rows = matched_rows(graph, np.arange(40), 50, np.random.default_rng(seed))
        assert graph.occurrences[rows].sum() == 50
        assert len(set(rows.tolist())) == len(rows)


def test_sizes_hold_the_first_ten_and_end_in_time():
    found = sizes(1000)
    assert found[:10].tolist() == list(range(1, 11))
    assert found[-1] == 1000
    assert (np.diff(found) > 0).all()
    assert sizes(3).tolist() == [1, 2, 3]


def make_corpus(dependent: bool, n: int = 6000):
    generator = np.random.default_rng(8)
    tokens = np.minimum(generator.zipf(1.3, n), 200) - 1
    rank = (
        np.argsort(np.argsort(-np.bincount(tokens, minlength=200), kind="stable"), kind="stable").astype(np.int32) + 1
    )
    probabilities = np.tile(generator.uniform(0.0005, 0.01, N_FEATURES), (200, 1))
    if dependent:
        probabilities[rank[np.arange(200)] <= 10, 6:] = 0.0  # the ten most frequent tokens reach six features
    block = np.arange(n) // 500
    return tokens, rank, draw_events(tokens, probabilities, 9), block


def rows_of(dependent: bool):
    import pandas as pd

    tokens, rank, events, block = make_corpus(dependent)
    pairs = block_pairs(tokens, events, block)
    counted = total_counts(pairs, N_FEATURES)
    function_ids = np.flatnonzero(rank <= 10)
    rows = pd.DataFrame(coverage_rows(counted, rank, function_ids, random_sets=4, seed=0))
    return pairs, rank, counted, rows, events, tokens, block


def test_independent_labels_give_the_null_curve():
    _, _, _, rows, *_ = rows_of(dependent=False)
    plain = rows[(rows["chosen_by"] == "frequency") & (rows["min_count"] == 1)]
    assert plain["excess_alive"].abs().max() < 0.1
    assert abs(plain["excess_alive"].mean()) < 0.03
    content = rows[rows["chosen_by"] == "content"]
    assert (content["coverage_alive"] - content["null_alive"]).abs().max() < 0.12


def test_dependent_labels_do_not():
    _, _, _, rows, *_ = rows_of(dependent=True)
    ten = rows[(rows["chosen_by"] == "frequency") & (rows["min_count"] == 1) & (rows["k"] == 10)].iloc[0]
    assert ten["features"] <= 6
    assert ten["excess_alive"] < -0.5


def test_curves_end_at_all_live_features_and_greedy_is_not_below_the_first_token():
    _, _, _, rows, *_ = rows_of(dependent=False)
    plain = rows[(rows["chosen_by"] == "frequency") & (rows["min_count"] == 1)].sort_values("k")
    assert plain["coverage_alive"].iloc[-1] == pytest.approx(1.0)
    assert plain["mass_share"].iloc[-1] == pytest.approx(1.0)
    greedy = rows[rows["chosen_by"] == "greedy"].sort_values("k")
    assert greedy["features"].iloc[0] >= plain["features"].iloc[0]
    assert greedy["coverage_alive"].iloc[-1] == pytest.approx(1.0)


def test_intervals_hold_the_spread_between_corpora():
    """The bootstrap's standard deviation is that of the coverage over fresh corpora, within a factor."""
    import pandas as pd

    pairs, rank, counted, _, events, tokens, block = rows_of(dependent=False)
    position, feature = events
    first = []
    for index in np.unique(block):
        ranks = np.full(N_FEATURES, np.iinfo(np.int32).max, dtype=np.int32)
        inside = block[position] == index
        np.minimum.at(ranks, feature[inside], rank[tokens[position[inside]]])
        first.append({"block": index, "first_rank": ranks})
    ks = np.array([1, 3, 10])
    spread = frequency_intervals(pairs, pd.DataFrame(first), rank, counted, ks, 200, 0)
    fresh = []
    generator = np.random.default_rng(20)
    chance = np.zeros(N_FEATURES)
    chance[:] = np.bincount(feature, minlength=N_FEATURES) / len(tokens)
    for _ in range(150):
        active = generator.random((len(tokens), N_FEATURES)) < chance
        fresh.append([active[rank[tokens] <= k].any(axis=0).sum() / max(1, active.any(axis=0).sum()) for k in ks])
    errors = standard_errors(len(np.unique(block)))
    assert spread["coverage_half"].to_numpy() / errors == pytest.approx(np.std(fresh, axis=0), rel=0.8, abs=0.02)
