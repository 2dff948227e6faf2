"""Confidence sequences, bets and false-discovery control: hand values, and what they promise under optional stopping."""

import numpy as np
import pytest
from scipy.special import beta as beta_function

from interp.sequential import (
    beta_binomial_bounds,
    betting_bounds,
    log_betting_e_values,
    pairs_needed,
)
from interp.statistics import e_benjamini_hochberg


def test_bounds_are_where_the_likelihood_ratio_reaches_its_limit() -> None:
    low, high = beta_binomial_bounds(3, 10, 0.1)
    for q in (float(low), float(high)):
        assert beta_function(4, 8) / (q**3 * (1 - q) ** 7) == pytest.approx(10, rel=1e-6)
    assert low < 0.3 < high


def test_bounds_by_hand_for_unanimous_draws() -> None:
    """Without a success: 1 / (n + 1) / (1 − q)^n = 1 / alpha."""
    low, high = beta_binomial_bounds([0, 20, 0], [20, 20, 0], 0.05)
    expected = 1 - (0.05 / 21) ** (1 / 20)
    np.testing.assert_allclose(high, [expected, 1, 1], atol=1e-9)
    np.testing.assert_allclose(low, [0, 1 - expected, 0], atol=1e-9)


@pytest.mark.parametrize("wrong", [(3, 2, 0.05), (-1, 2, 0.05), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_are_refused(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="0 <= successes"):
        beta_binomial_bounds(*wrong)


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.5])
def test_bounds_hold_at_every_look_at_once(chance: float) -> None:
    """Stopping at the worst moment of 300 looks misses in at most 5%; a fixed-sample interval misses far more often."""
    generator = np.random.default_rng(1)
    draws = generator.random((600, 300)) < chance
    n = np.arange(1, 301)
    low, high = beta_binomial_bounds(draws.cumsum(axis=1), n, 0.05)
    assert ((low > chance) | (high < chance)).any(axis=1).mean() <= 0.05
    share = draws.cumsum(axis=1) / n
    naive = 1.96 * np.sqrt(np.maximum(share * (1 - share), 1e-9) / n)
    assert (np.abs(share - chance) > naive)[:, 20:].any(axis=1).mean() > 0.2


def test_a_bet_by_hand() -> None:
    """One pair of difference 1 against a mean of 0: the mean over stakes λ in (0, 1) of 1 + λ is 1.5."""
    assert np.exp(log_betting_e_values([1], 0.0))[0] == pytest.approx(1.5)
    assert np.exp(log_betting_e_values([-1], 0.0))[0] == pytest.approx(0.5)
    assert np.exp(log_betting_e_values([1, 1], 0.0))[1] == pytest.approx(np.mean((1 + (np.arange(40) + 0.5) / 40) ** 2))
    assert len(log_betting_e_values([], 0.2)) == 0


@pytest.mark.parametrize("null", [0.0, 0.2, -0.3])
def test_bets_rarely_win_where_there_is_nothing_to_win(null: float) -> None:
    generator = np.random.default_rng(2)
    wins = 0
    for _ in range(500):
        d = (generator.random(200) < 0.5 + null / 2).astype(int) - (generator.random(200) < 0.5 - null / 2)
        wins += log_betting_e_values(d, null).max() >= np.log(1 / 0.05)
    assert wins / 500 <= 0.05


def test_betting_bounds_are_where_the_evidence_reaches_its_limit() -> None:
    d = [1, 1, 0, 1, -1, 1, 1, 0, 1, 1]
    low, high = betting_bounds(d, 0.1)
    assert log_betting_e_values(d, low)[-1] == pytest.approx(np.log(20), abs=1e-6)
    assert log_betting_e_values([-one for one in d], -high)[-1] == pytest.approx(np.log(20), abs=1e-6)
    assert low < 0.6 < high
    assert betting_bounds([], 0.1) == (-1, 1)
    assert betting_bounds([0], 1e-9)[1] == pytest.approx(1, abs=1e-6)  # one pair rules nothing out


def test_evidence_falls_as_the_mean_that_is_tested_grows() -> None:
    generator = np.random.default_rng(4)
    d = generator.integers(-1, 2, 60)
    evidence = [log_betting_e_values(d, mean)[-1] for mean in np.linspace(-0.99, 0.99, 50)]
    assert (np.diff(evidence) < 0).all()


@pytest.mark.parametrize("chances", [(0.9, 0.3), (0.5, 0.5), (1.0, 0.98)])
def test_betting_bounds_hold_at_every_look_at_once(chances: tuple[float, float]) -> None:
    generator = np.random.default_rng(5)
    missed = 0
    for _ in range(40):
        d = (generator.random(64) < chances[0]).astype(int) - (generator.random(64) < chances[1])
        looks = [betting_bounds(d[:n], 0.05) for n in (8, 24, 64)]
        missed += any(not low <= chances[0] - chances[1] <= high for low, high in looks)
    assert missed / 40 <= 0.05


def test_differences_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="differences"):
        log_betting_e_values([2], 0.0)
    with pytest.raises(ValueError, match="differences"):
        log_betting_e_values([1], 1.0)


def test_e_bh_by_hand() -> None:
    """Of four, at 0.1: the largest needs 40, two need 20 each, three 13.3, four 10."""
    rejected = e_benjamini_hochberg(np.log([25.0, 1.0, 21.0, 12.0]), 0.1)
    assert rejected.tolist() == [True, False, True, False]
    assert e_benjamini_hochberg(np.log([25.0, 1.0, 19.0, 12.0]), 0.1).tolist() == [False] * 4
    assert e_benjamini_hochberg(np.log([14.0, 14.0, 14.0, 1.0]), 0.1).tolist() == [True, True, True, False]
    assert e_benjamini_hochberg([], 0.1).tolist() == []


def test_pairs_needed_is_about_right() -> None:
    """Nine in ten against three in ten, at the spread of such pairs, is proven well before the forecast for the largest spread."""
    needed = pairs_needed(0.6, 0.2, 0.01)
    assert needed is not None
    generator = np.random.default_rng(3)
    d = (generator.random((200, needed)) < 0.9).astype(int) - (generator.random((200, needed)) < 0.3)
    assert np.mean([log_betting_e_values(row, 0.2)[-1] >= np.log(100) for row in d]) > 0.9
    assert pairs_needed(0.2, 0.2, 0.05) is None
