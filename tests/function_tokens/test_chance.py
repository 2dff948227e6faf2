"""The null: exact against enumeration, against shuffles, and flat where nothing depends on the token."""

from itertools import combinations

import numpy as np
import pytest

from probes.function_tokens.degrees import (
    accumulate,
    degree_table,
    expected_features,
    expected_often,
    met,
    met_often,
    rarefied,
)
from probes.function_tokens.graph import total_counts
from tests.function_tokens.planted import N_FEATURES, block_pairs, draw_events


@pytest.mark.parametrize(("active", "drawn", "positions"), [(2, 3, 7), (1, 1, 5), (4, 4, 7), (0, 3, 6), (3, 0, 6)])
def test_probability_of_meeting_equals_enumeration(active, drawn, positions):
    draws = list(combinations(range(positions), drawn))
    hit = sum(any(position < active for position in draw) for draw in draws)
    assert met(active, drawn, positions) == pytest.approx(hit / len(draws), abs=1e-12)


def test_met_for_certain_when_fewer_positions_are_left_than_drawn():
    assert met(5, 6, 10) == 1.0
    assert met(5, 5, 10) == pytest.approx(1 - 1 / 252)  # one way of 252 to draw only the others


def test_expected_features_is_the_mean_over_shuffles():
    generator = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [5, 20, 75])
    active = generator.random((100, 30)) < generator.uniform(0.01, 0.2, 30)
    degrees = []
    for _ in range(4000):
        shuffled = generator.permutation(labels)
        degrees.append([active[shuffled == token].any(axis=0).sum() for token in range(3)])
    mean, spread = expected_features(active.sum(axis=0), [5, 20, 75], 100)
    standard_error = np.std(degrees, axis=0) / np.sqrt(len(degrees))
    assert (np.abs(np.mean(degrees, axis=0) - mean) < 4 * standard_error + 1e-9).all()
    assert np.std(degrees, axis=0) == pytest.approx(spread, rel=0.1)


def test_rarefied_degree_is_the_mean_over_draws_of_occurrences():
    active = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], dtype=bool)  # [feature, occurrence]
    counts = active.sum(axis=1)
    by_hand = np.mean([active[:, list(draw)].any(axis=1).sum() for draw in combinations(range(6), 2)])
    assert rarefied(counts, [0, 0, 0], [6], 2)[0] == pytest.approx(by_hand)
    assert np.isnan(rarefied(counts, [0, 0, 0], [6], 7)[0])


def test_without_dependence_degrees_are_at_chance_and_rarefied_degrees_flat():
    generator = np.random.default_rng(5)
    tokens = np.repeat(np.arange(12), [1200, 600, 400, 300, 240, 200, 170, 150, 133, 120, 109, 100])
    tokens = generator.permutation(tokens)
    chance = np.tile(generator.uniform(0.001, 0.05, N_FEATURES), (12, 1))
    pairs = block_pairs(tokens, draw_events(tokens, chance, 1), np.arange(len(tokens)) // 1000)
    table = degree_table(total_counts(pairs, N_FEATURES))
    assert (table["excess_z"].abs() < 4).all()
    assert table["excess_z"].abs().mean() < 1.3
    flat = table["rarefied_20"] / table["null_rarefied_20"]
    assert flat.between(0.75, 1.25).all()
    assert table["null_rarefied_20"].nunique() == 1


def test_planted_dependence_is_found_on_the_right_side():
    generator = np.random.default_rng(6)
    tokens = generator.permutation(np.repeat([0, 1, 2, 3], [400, 400, 400, 400]))
    probabilities = np.full((4, N_FEATURES), 0.02)
    probabilities[0] = 0.0
    probabilities[0, :3] = 0.9  # a narrow token
    probabilities[1] = 0.08  # a broad one
    counted = total_counts(
        block_pairs(tokens, draw_events(tokens, probabilities, 2), np.zeros_like(tokens)), N_FEATURES
    )
    table = degree_table(counted).set_index("token_id")
    assert table.at[0, "degree"] == 3
    assert table.at[0, "excess_z"] < -10
    assert table.at[1, "rarefied_20"] > table.at[1, "null_rarefied_20"] * 1.2
    shares = counted.graph.matrix.toarray() / 400
    assert shares == pytest.approx(probabilities, abs=0.08)  # four standard errors of 400 draws at .9 are .06
    assert table.at[0, "rarefied_20"] == pytest.approx(3, abs=1e-6)
    assert (
        table.at[1, "accumulation_exponent"] < table.at[2, "accumulation_exponent"]
    )  # it has reached nearly all there is


@pytest.mark.parametrize("least", [1, 2, 3])
@pytest.mark.parametrize(("active", "drawn", "positions"), [(2, 3, 7), (4, 4, 7), (0, 3, 6), (3, 2, 6), (5, 6, 8)])
def test_probability_of_meeting_often_equals_enumeration(active, drawn, positions, least):
    draws = list(combinations(range(positions), drawn))
    hit = sum(sum(position < active for position in draw) >= least for draw in draws)
    assert met_often(active, drawn, positions, least) == pytest.approx(hit / len(draws), abs=1e-12)


def test_edges_of_several_occurrences_have_the_null_of_shuffles():
    generator = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [60, 40, 1900])
    active = generator.random((2000, 40)) < generator.uniform(0.005, 0.06, 40)
    found = np.zeros((1500, 2))
    for draw in range(1500):
        shuffled = generator.permutation(labels)
        often = [active[shuffled == token].sum(axis=0) >= 2 for token in (0, 1)]
        found[draw] = often[0].sum(), (often[0] | often[1]).sum()
    expected = expected_often(active.sum(axis=0), [60, 40], 2000, 2)
    assert found.mean(axis=0) == pytest.approx(expected, rel=0.02)


def test_classes_collect_features_as_fast_as_planted():
    generator = np.random.default_rng(9)
    tokens = generator.permutation(np.repeat([0, 1, 2, 3], [500, 500, 500, 500]))
    probabilities = np.full((4, N_FEATURES), 0.01)
    probabilities[0, 32:] = probabilities[1, 32:] = 0.0
    pairs = block_pairs(tokens, draw_events(tokens, probabilities, 3), np.arange(2000) // 250)
    table = accumulate(pairs, N_FEATURES, {"half": np.array([0, 1]), "whole": np.array([2, 3])}, draws=200)
    table = table.set_index(["token_set", "drawn"])
    for name, n in (("half", 32), ("whole", 64)):
        for m in (1, 10, 100):
            row = table.loc[(name, m)]
            expected = n * (1 - 0.99**m)
            assert row["ci_low"] - 1 < expected < row["ci_high"] + 1
            assert row["features"] == pytest.approx(expected, rel=0.15)
    assert table.loc[("half", 1000), "features"] <= 32
    assert table["set_tokens"].eq(2).all()


def test_a_class_that_is_one_token_has_its_rarefied_degree():
    generator = np.random.default_rng(10)
    tokens = generator.integers(0, 3, 900)
    events = draw_events(tokens, generator.uniform(0, 0.1, (3, N_FEATURES)), 4)
    pairs = block_pairs(tokens, events, np.arange(900) // 300)
    table = accumulate(pairs, N_FEATURES, {"one": np.array([1])}).set_index("drawn")
    degrees = degree_table(total_counts(pairs, N_FEATURES)).set_index("token_id")
    for m in (20, 100):
        assert table.at[m, "features"] == pytest.approx(degrees.at[1, f"rarefied_{m}"])
