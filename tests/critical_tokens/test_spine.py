"""The arithmetic of a trajectory: shared draws by hand, the identity and the bound, and chains whose V is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.critical_tokens.audit import coverage, curve_outcomes, null_chain, random_chain, search
from probes.critical_tokens.definitions import Thresholds
from probes.critical_tokens.scores import (
    Chain,
    branch_points,
    branches_needed,
    certified,
    chain_with_drop,
    drop,
    flat_chain,
    largest_change,
    values,
)

FOLLOWS = np.array([[True, False, True], [False, True, True], [True, True, True]])
"""Three tokens, three draws."""


def test_draws_leave_the_spine_by_hand() -> None:
    assert branch_points(FOLLOWS).tolist() == [[1, 0, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]]


def test_branches_are_needed_once() -> None:
    points = branch_points(FOLLOWS)
    assert branches_needed(points, [0, 1, 2, 3]) == [(0, 1), (1, 0)]
    assert branches_needed(points, [1]) == [(1, 0)]
    assert branches_needed(points, [3]) == []


def test_values_by_hand() -> None:
    """V_2 = 0, V_1 = .5·0 + .5·1 = .5, V_0 = .8·.5 + .2·.25 = .45."""
    p, without = np.array([0.8, 0.5]), np.array([0.25, 1.0])
    np.testing.assert_allclose(values(p, without, 0.0), [0.45, 0.5, 0.0])
    np.testing.assert_allclose(drop(p, without, np.array([0.5, 0.0])), [-0.05, 0.5])


def test_certified_by_hand() -> None:
    assert certified(np.array([0.7, 0.79, 0.81]), 0.2).tolist() == [False, False, True]
    assert largest_change(np.array([0.5, 0.9, 0.8]), 1, 3) == pytest.approx(0.28)


shares = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=1, max_size=12)


@given(shares, st.floats(0, 1))
def test_the_bound_and_the_identity_hold_everywhere(tokens: list[tuple[float, float]], last: float) -> None:
    p, without = np.array(tokens).T
    value = values(p, without, last)
    assert (np.abs(np.diff(value)) <= 1 - p + 1e-12).all()
    np.testing.assert_allclose(value[:-1] - value[1:], drop(p, without, value[1:]), atol=1e-12)
    for first in range(len(value)):
        for later in range(first, len(value)):
            assert abs(value[later] - value[first]) <= largest_change(p, first, later) + 1e-12


def test_shared_draws_are_draws_of_every_position() -> None:
    """Over many spines of one draw each, every position's mean is its V, and the drops' mean its drop: nothing is biased."""
    generator = np.random.default_rng(0)
    chain = random_chain(generator, 12)
    outcomes = curve_outcomes(chain, 40_000, generator)
    np.testing.assert_allclose(outcomes.mean(axis=1), chain.values, atol=0.011)  # over four standard errors


def test_shared_draws_of_one_position_are_independent() -> None:
    """The variance of a count over draws is binomial."""
    generator = np.random.default_rng(1)
    chain = chain_with_drop(10, 4, 0.5, 0.3, 0.6)
    counts = np.array([curve_outcomes(chain, 20, generator)[2].sum() for _ in range(4000)])
    assert counts.var() == pytest.approx(20 * 0.6 * 0.4, rel=0.1)


def test_chains_are_what_they_say() -> None:
    chain = chain_with_drop(20, 8, 0.5, 0.3, 0.6)
    np.testing.assert_allclose(chain.drops[:-1], [0.3 if at == 8 else 0 for at in range(19)], atol=1e-12)
    np.testing.assert_allclose(flat_chain(np.full(6, 0.7), 0.4).values, [0.4] * 6 + [1])
    np.testing.assert_allclose(null_chain(5).values, [0.5] * 5 + [0])
    with pytest.raises(ValueError, match="cannot lower"):
        chain_with_drop(20, 8, 0.9, 0.3, 0.6)


@pytest.mark.parametrize("n_draws", [24, 64])
def test_intervals_cover(n_draws: int) -> None:
    assert 0.93 <= coverage(300, n_draws, 0.05, np.random.default_rng(2)) <= 0.97


def found(chain: Chain, n_chains: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [[one.evidence.token for one in search(chain, 24, 64, Thresholds(), generator)] for _ in range(n_chains)]


def test_nothing_is_found_where_nothing_is_critical() -> None:
    n_tokens = len(null_chain().p)
    wrong = [any(token < n_tokens - 1 for token in tokens) for tokens in found(null_chain(), 150, 3)]
    assert np.mean(wrong) <= 0.05


def test_drops_as_large_as_the_margin_are_not_discoveries() -> None:
    """The hardest null: a drop of exactly the margin. False ones stay at or under the nominal rate."""
    chain = chain_with_drop(20, 8, 0.5, 0.1, 0.6)
    assert np.mean([8 in tokens for tokens in found(chain, 200, 4)]) <= 0.05


def test_a_drop_of_three_tenths_is_found() -> None:
    assert np.mean([8 in tokens for tokens in found(chain_with_drop(20, 8, 0.5, 0.3, 0.6), 150, 5)]) >= 0.9
