"""Degree fits: a planted power law is not rejected, a planted lognormal is; profiles by hand."""

import numpy as np
import pytest

from probes.function_tokens.degrees import fit_degrees
from probes.function_tokens.graph import profile_table, total_counts
from tests.function_tokens.planted import N_FEATURES, block_pairs


def test_a_power_law_is_recovered_and_not_rejected():
    generator = np.random.default_rng(0)
    degrees = np.round(50 * (1 - generator.random(4000)) ** (-1 / 1.5))  # exponent 2.5
    fit = fit_degrees(degrees).set_index("alternative")
    assert fit["exponent"].iloc[0] == pytest.approx(2.5, abs=0.15)
    assert fit.at["lognormal", "p"] > 0.05
    assert fit.at["exponential", "likelihood_ratio"] > 3


def test_a_lognormal_beats_the_power_law():
    degrees = np.round(np.exp(np.random.default_rng(1).normal(5, 0.8, 4000)))
    fit = fit_degrees(degrees).set_index("alternative")
    assert fit.at["lognormal", "likelihood_ratio"] < 0
    assert fit.at["lognormal", "p"] < 0.05


@pytest.mark.parametrize("degrees", [np.arange(1, 40), np.full(100, 7), np.zeros(100)])
def test_too_few_or_equal_degrees_are_not_fitted(degrees):
    assert not len(fit_degrees(degrees))


def test_profiles_by_hand():
    tokens = np.array([1] * 18 + [2] * 2 + [3] * 20)
    position = np.concatenate([np.arange(20), np.arange(0, 40, 2)])
    feature = np.array([5] * 20 + [6] * 20)  # 5 at every 1 and 2; 6 at half of all positions
    counted = total_counts(block_pairs(tokens, (position, feature), np.zeros(40, dtype=int)), N_FEATURES)
    table = profile_table(counted, np.array([1])).set_index("feature_id")
    assert table.index.tolist() == [5, 6]
    assert table["density"].tolist() == [0.5, 0.5]
    assert table.at[5, "token_entropy_nats"] == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))
    assert table.at[6, "effective_tokens"] == pytest.approx(
        np.exp(-0.45 * np.log(0.45) - 0.05 * np.log(0.05) - 0.5 * np.log(0.5))
    )
    assert table["top_token_id"].tolist() == [1, 3]
    assert table["function_share"].tolist() == pytest.approx([0.9, 0.45])
    assert table["single_token"].tolist() == [True, False]
    assert table["dense"].all()
