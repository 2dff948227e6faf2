"""Statistics by hand, by their defining equations, and by planted simulations whose truth is known."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interp.agreement import pearson, spearman, top_indices, top_overlap
from interp.statistics import (
    Estimate,
    bootstrap_means,
    bounded,
    cluster_sums,
    cluster_weights,
    mean_estimate,
    paired_difference,
    percentile_interval,
    resampled,
    share_difference,
    share_estimate,
    weighted_median,
    weighted_trimmed_mean,
    wilson_interval,
)

NAN = float("nan")
Z95 = 1.959964  # the 97.5th percentile of the normal distribution, from a printed table

# ---------------------------------------------------------------------- bootstrap


def test_cluster_sums_by_hand():
    sums, counts = cluster_sums([[1, 10], [2, 20], [3, 30], [4, 40]], ["b", "a", "b", "c"])
    assert sums.tolist() == [[2, 20], [4, 40], [4, 40]]
    assert counts.tolist() == [1, 2, 1]


def test_each_draw_takes_as_many_clusters_as_there_are_each_as_likely_as_the_others():
    weights = cluster_weights(4, 20_000, seed=1)
    assert weights.shape == (20_000, 4)
    assert (weights.sum(axis=1) == 4).all()
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.03)  # 4 draws of probability 1/4: mean 1, variance 3/4
    assert weights.var(axis=0) == pytest.approx(0.75, abs=0.03)
    assert (weights == 0).mean(axis=0) == pytest.approx((3 / 4) ** 4, abs=0.015)
    assert (cluster_weights(4, 50, seed=1) == weights[:50]).all()
    assert (cluster_weights(4, 50, seed=2) != weights[:50]).any()


def test_bootstrap_means_of_two_clusters_are_the_three_possible_ones():
    # One row of 0 and three rows of 1. Drawing (first, first), one of each, (second, second): 0/2, 3/4, 6/6.
    draws = bootstrap_means([0, 1, 1, 1], [7, 3, 3, 3], draws=20_000, seed=0)
    means, counts = np.unique(draws, return_counts=True)
    assert means.tolist() == [0.0, 0.75, 1.0]
    assert counts / 20_000 == pytest.approx(np.array([0.25, 0.5, 0.25]), abs=0.015)


def test_bootstrap_means_equal_the_plain_mean_over_the_drawn_rows():
    generator = np.random.default_rng(0)
    clusters = np.array(list("aabbbccccd"))
    values = generator.normal(size=(10, 2, 3))
    drawn = []
    for weights in cluster_weights(4, 30, seed=5):
        rows = [row for cluster, times in zip("abcd", weights, strict=True) for row in [cluster] * int(times)]
        drawn.append(np.concatenate([values[clusters == row] for row in rows]).mean(axis=0))
    np.testing.assert_allclose(bootstrap_means(values, clusters, draws=30, seed=5), drawn, atol=1e-12)


def test_a_percentile_interval_cuts_equal_tails_and_leaves_nan_draws_out():
    draws = np.array([*np.random.default_rng(0).permutation(101).astype(float), NAN])
    low, high = percentile_interval(np.stack([draws, 10 * draws], axis=1), confidence=0.9)
    assert low == pytest.approx([5, 50])
    assert high == pytest.approx([95, 950])
    assert percentile_interval(np.arange(201.0)) == pytest.approx((5, 195))


def test_the_clustered_interval_covers_the_truth_where_a_row_bootstrap_does_not():
    generator = np.random.default_rng(2024)
    n_clusters, n_rows, truth, trials = 20, 15, 3.0, 200
    clusters = np.repeat(np.arange(n_clusters), n_rows)
    hits = {"clusters": 0, "rows": 0}
    for trial in range(trials):
        shared = np.repeat(generator.normal(size=n_clusters), n_rows)
        values = truth + shared + 0.3 * generator.normal(size=len(clusters))
        for unit, labels in (("clusters", clusters), ("rows", np.arange(len(values)))):
            estimate = mean_estimate(values, labels, draws=400, seed=trial)
            hits[unit] += estimate.ci_low <= truth <= estimate.ci_high
    # A percentile interval of 20 clusters covers a little less than 95 %. Rows claim an error √(300/20) ≈ 3.7 times too
    # small: ±1.96 becomes ±0.53 standard errors, which covers about 40 %.
    assert 0.87 <= hits["clusters"] / trials <= 0.98
    assert hits["rows"] / trials <= 0.55


@pytest.mark.parametrize("n_clusters", [2, 3, 5, 8, 10, 16])
@pytest.mark.parametrize("kind", ["mean", "difference of shares", "median", "ratio"])
def test_however_few_clusters_there_are_a_true_null_is_rarely_ruled_out(n_clusters, kind):
    """Of what is true 95% intervals shall leave out about 5%. Percentiles of the draws leave out 50% with two clusters, 29% with three."""
    generator = np.random.default_rng([n_clusters, len(kind)])
    clusters, trials, ruled_out = np.arange(n_clusters), 400, 0
    for trial in range(trials):
        a, b = generator.normal(loc=3.0, size=(2, n_clusters))
        draws = {"draws": 400, "seed": trial}
        if kind == "mean":
            estimate, truth = mean_estimate(a, clusters, **draws), 3.0
        elif kind == "difference of shares":
            estimate, truth = share_difference(*generator.random((2, n_clusters)), clusters, **draws), 0.0
        elif kind == "median":
            estimate, truth = resampled(partial(weighted_median, a), clusters, **draws), 3.0
        else:
            estimate, truth = resampled(lambda w, a=a + 7, b=b + 7: (w @ a) / (w @ b), clusters, **draws), 1.0
        ruled_out += not estimate.ci_low <= truth <= estimate.ci_high
    assert ruled_out / trials <= 0.14  # ten clusters by percentiles: 0.10, and four standard errors of 0.015 below that


@pytest.mark.parametrize("n_clusters", [2, 3, 5, 9])
def test_the_interval_of_a_mean_over_few_clusters_is_students(n_clusters):
    values = np.random.default_rng(n_clusters).normal(size=n_clusters)
    estimate = mean_estimate(values, np.arange(n_clusters), draws=40_000)
    low, high = stats.t.interval(0.95, n_clusters - 1, loc=values.mean(), scale=stats.sem(values))
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_an_estimate_counts_clusters_and_weighs_rows_equally():
    estimate = mean_estimate([0, 1, 1, 1], ["x", "y", "y", "y"])
    assert (estimate.value, estimate.n) == (0.75, 2)
    assert mean_estimate([0, 1, 1, 1], ["x", "y", "y", "y"]) == estimate


# ---------------------------------------------------------------------- paired differences


def test_a_paired_difference_sees_through_what_the_pairs_share():
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(10), 4)
    base = 100 * generator.normal(size=10)[clusters]
    first, second = base + 1.0, base
    assert paired_difference(first, second, clusters) == pytest.approx((1, 1, 1, 10))
    alone = mean_estimate(first, clusters)
    assert alone.ci_high - alone.ci_low > 50  # what an unpaired comparison would have to work with


@pytest.mark.parametrize("difference", [-1.0, 0.0, 0.25, 1.0])
def test_a_difference_of_shares_that_is_the_same_everywhere_is_as_uncertain_as_wilson_says(difference):
    estimate = share_difference([max(difference, 0.0)] * 3, [max(-difference, 0.0)] * 3, [0, 1, 2])
    width = 3.841458820694124 / (3 + 3.841458820694124)  # z² / (n + z²): Wilson's upper end of none in three
    assert estimate.value == difference
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx(
        (max(difference - width, -1), min(difference + width, 1))
    )
    several, unbounded = (make([1.0, 0.0, 1.0], [0.0] * 3, [0, 1, 2]) for make in (share_difference, paired_difference))
    assert several == unbounded._replace(ci_low=max(-1.0, unbounded.ci_low), ci_high=min(1.0, unbounded.ci_high))


def test_a_paired_difference_turns_round_with_its_sides():
    generator = np.random.default_rng(4)
    first, second, clusters = generator.normal(size=30), generator.normal(size=30), np.arange(30) // 3
    there, back = paired_difference(first, second, clusters), paired_difference(second, first, clusters)
    assert there.value == pytest.approx(first.mean() - second.mean())
    assert (back.value, back.ci_low, back.ci_high) == pytest.approx((-there.value, -there.ci_high, -there.ci_low))
    assert there.ci_low < there.value < there.ci_high


# ---------------------------------------------------------------------- proportions


def test_a_share_of_none_or_all_is_not_certain_and_any_other_is_resampled():
    clusters = [0, 0, 1, 1, 2, 2, 3, 3]
    # z² / (n + z²) with z = 1.959964 and four clusters, not eight rows: 3.841459 / 7.841459
    assert share_estimate([0] * 8, clusters) == pytest.approx((0, 0, 0.489891, 4), abs=1e-6)
    assert share_estimate([1] * 8, clusters) == pytest.approx((1, 0.510109, 1, 4), abs=1e-6)
    mixed = [0, 1, 1, 1, 0, 0, 1, 0]
    whole = mean_estimate(mixed, clusters)
    assert share_estimate(mixed, clusters) == whole._replace(
        ci_low=max(0.0, whole.ci_low), ci_high=min(1.0, whole.ci_high)
    )
    assert np.isnan(share_estimate([1, 1], [0, 0]).ci_low)


def test_wilson_by_hand():
    # 8 of 10, z² = 3.841459: centre (0.8 + 0.192073) / 1.384146 = 0.716740, half 1.959964·√(0.016 + 0.009604) / 1.384146
    # = 0.226578. None of 10: the upper end is z² / (10 + z²).
    assert wilson_interval(8, 10) == pytest.approx((0.8, 0.490162, 0.943318, 10), abs=2e-6)
    assert wilson_interval(0, 10) == pytest.approx((0, 0, 3.841459 / 13.841459, 10), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((1, 10 / 13.841459, 1, 10), abs=1e-6)
    assert all(wilson_interval(0, n).ci_low == 0 and wilson_interval(n, n).ci_high == 1 for n in range(1, 200))
    assert wilson_interval(1, 2, confidence=0.5).ci_low == pytest.approx(0.5 - 0.215286, abs=1e-4)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_the_proportions_that_the_data_are_just_z_standard_errors_away_from(outcome):
    successes, trials = outcome
    estimate = wilson_interval(successes, trials)
    for end in (estimate.ci_low, estimate.ci_high):
        assert abs(estimate.value - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / trials), abs=1e-6)
    assert 0 <= estimate.ci_low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.ci_high <= 1


@pytest.mark.parametrize("share", [0.0, 1 / 6, 0.5, 1.0])
def test_what_lies_between_0_and_1_is_never_certain_because_clusters_agree(share):
    rounded = Estimate(share, share, share + 1e-16, 6)
    for agreed in (Estimate(share, share, share, 6), rounded):
        assert bounded(agreed) == pytest.approx(wilson_interval(round(6 * share), 6), abs=1e-9)
    between = bounded(Estimate(0.25, 0.25, 0.25, 6))
    assert between.ci_low > wilson_interval(1, 6).ci_low
    assert between.ci_high < wilson_interval(2, 6).ci_high
    for kept in (Estimate(1.0, 0.8, 1.0, 6), Estimate(0.5, 0.4, 0.6, 6), Estimate(1.5, 1.5, 1.5, 6)):
        assert bounded(kept) == kept
    assert math.isnan(bounded(Estimate(1.0, NAN, NAN, 1)).ci_low)


def test_few_clusters_are_cut_at_what_a_share_can_be_and_at_no_value_that_it_has():
    """A share that was lost is negative where something grew: its interval must not end at 0."""
    plain = share_estimate([0.1, 0.9, 0.2], [0, 1, 2])
    assert (plain.ci_low, plain.ci_high) == (0.0, 1.0)
    grown = share_estimate([-2.0, 0.9, 0.2, 0.3, 0.4], range(5))
    assert grown.ci_low < grown.value < 0
    assert (
        share_estimate(np.r_[-2.0, np.full(11, 0.5)], range(12)).ci_low
        < 0.1
        < share_estimate([0.5] * 12, range(12)).ci_low
    )
    shares = share_difference([0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0, 1, 2])
    assert (shares.ci_low, shares.ci_high) == (-1.0, 1.0)


def test_one_cluster_has_no_interval_whatever_is_drawn_from_it():
    low, high = percentile_interval(bootstrap_means([1.0, 2.0, 3.0], ["a"] * 3))
    assert np.isnan([low, high]).all()
    assert np.isnan(cluster_weights(1, 10, 0)).all()
    for estimate in (share_estimate([1, 1], ["a", "a"]), paired_difference([1, 2], [0, 0], ["a", "a"])):
        assert np.isnan(estimate[1:3]).all()
        assert estimate.n == 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_proportion_is_refused(successes, trials):
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials is not a proportion"):
        wilson_interval(successes, trials)


# ---------------------------------------------------------------------- agreement


def test_spearman_with_ties_by_hand():
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4; deviations from 2.5: -1.5, 0, 0, 1.5 and -1.5, 0.5, -0.5, 1.5.
    # Products 2.25 + 0 + 0 + 2.25 = 4.5; squares 4.5 and 5.
    assert spearman([1, 2, 2, 3], [10, 300, 20, 4000]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([1, 2, 3, 4], [-1, -8, -27, -64]) == pytest.approx(-1)


def test_rows_are_held_against_their_likes_one_by_one():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 4, size=(2, 30, 7)).astype(float)  # many ties
    first[3] = 2.0  # constant
    for statistic in (spearman, pearson, partial(top_overlap, k=3)):
        alone = [statistic(a, b) for a, b in zip(first, second, strict=True)]
        np.testing.assert_array_equal(statistic(first, second), alone)
        np.testing.assert_array_equal(statistic(first[0], second), [statistic(first[0], b) for b in second])
    assert np.isnan(spearman(first, second)).tolist() == [row == 3 or np.ptp(second[row]) == 0 for row in range(30)]
    assert (
        top_overlap([3.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 3.0], 2) == 0.5
    )  # 0 and 1 against 3 and 1: of ties the first


def test_pearson_by_hand():
    # Deviations -1, 0, 1 and -2, -1, 3: 5 / √(2 · 14).
    assert pearson([1, 2, 3], [0, 1, 5]) == pytest.approx(5 / math.sqrt(28))


@pytest.mark.parametrize("constant", [0.0, 2.0, 0.1, 1e5 + 0.1])
@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_a_constant_side_correlates_with_nothing(correlation, constant):
    varying = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
    assert math.isnan(correlation([constant] * 7, varying))
    assert math.isnan(correlation(varying, [constant] * 7))
    assert math.isnan(correlation([constant], [constant]))


def test_the_largest_come_first_and_ties_in_index_order():
    scores = [0.5, 0.9, 0.5, NAN, 0.9, -np.inf, 0.5]
    assert top_indices(scores, 4) == [1, 4, 0, 2]
    assert top_indices(scores, 10) == [1, 4, 0, 2, 6, 5, 3]  # what has no number comes last
    assert top_indices(np.zeros(1000), 3) == [0, 1, 2]
    assert top_indices(scores, 0) == []
    assert all(type(index) is int for index in top_indices(scores, 2))


def test_overlap_is_the_share_of_the_top_k_in_common():
    # Top 3 of the first: 1, 3, 0; of the second: 3, 2, 0.
    assert top_overlap([5, 9, 1, 8], [5, 1, 8, 9], 3) == pytest.approx(2 / 3)
    assert top_overlap([5, 9, 1, 8], [5, 1, 8, 9], 1) == 0
    assert top_overlap([4, 3, 1, 0], [4, 0, 3, 1], 1) == 1  # the largest, not the smallest


# ---------------------------------------------------------------------- nothing to go on


def test_one_cluster_gives_its_mean_without_an_interval_and_no_rows_give_nothing():
    assert mean_estimate([1, 2, 6], ["a", "a", "a"]) == pytest.approx((3, NAN, NAN, 1), nan_ok=True)
    assert mean_estimate([], []) == pytest.approx((NAN, NAN, NAN, 0), nan_ok=True)
    assert paired_difference([4], [1], ["a"]) == pytest.approx((3, NAN, NAN, 1), nan_ok=True)


def test_a_row_without_a_number_makes_the_estimate_nan_and_not_a_mean_of_the_others():
    assert mean_estimate([1, NAN, 3], [0, 1, 2]) == pytest.approx((NAN, NAN, NAN, 3), nan_ok=True)
    assert math.isnan(spearman([1, NAN, 3], [1, 2, 3]))


def test_weighted_order_statistics_are_those_of_the_repeated_values():
    generator = np.random.default_rng(3)
    values = generator.normal(size=9).round(1)  # with ties
    weights = generator.multinomial(12, np.full(9, 1 / 9), size=50).astype(float)
    for draw, counts in enumerate(weights):
        repeated = np.sort(np.repeat(values, counts.astype(int)))
        assert weighted_median(values, weights)[draw] == pytest.approx(np.median(repeated))
        cut = int(0.2 * len(repeated))
        kept = repeated[cut : len(repeated) - cut]
        assert weighted_trimmed_mean(values, weights, 0.2)[draw] == pytest.approx(kept.mean())
    assert weighted_trimmed_mean([1000.0, *[1.0] * 8, -1000.0], np.ones((1, 10)), 0.1)[0] == 1.0


def test_resampled_intervals_resample_clusters_not_rows():
    clusters = np.repeat(np.arange(8), 10)
    values = np.repeat(np.random.default_rng(0).normal(size=8), 10)  # rows of a cluster add nothing new
    mean = lambda weights: weights @ values / weights.sum(axis=1)  # noqa: E731
    found, naive = resampled(mean, clusters, seed=0), resampled(mean, np.arange(80), seed=0)
    assert found.value == pytest.approx(values.mean())
    assert found.ci_high - found.ci_low > 2 * (naive.ci_high - naive.ci_low)
    assert (found.n, naive.n) == (8, 80)
    assert np.isnan(resampled(mean, np.zeros(80), seed=0).ci_low)


def test_a_statistic_that_hinges_on_one_cluster_has_no_interval():
    """Names less free words, of four texts: where only one has a name, resampling the others says nothing of names."""
    is_name = np.array([True, False, False, False, False])
    values, texts = np.array([3.0, 1.0, 1.0, 1.0, 1.0]), np.array([0, 0, 1, 2, 3])

    def beyond(weights):
        n_names, n_others = weights[:, is_name].sum(axis=1), weights[:, ~is_name].sum(axis=1)
        with np.errstate(invalid="ignore"):
            return weights[:, is_name] @ values[is_name] / n_names - weights[:, ~is_name] @ values[~is_name] / n_others

    found = resampled(beyond, texts)
    assert found.value == 2.0
    assert np.isnan([found.ci_low, found.ci_high]).all()
    is_name[2] = True
    assert not np.isnan(resampled(beyond, texts).ci_low)
