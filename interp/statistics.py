"""Intervals and comparisons: clustered bootstrap, paired differences, Wilson intervals, false discoveries. Knows no model."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
FEW = 10
"""Clusters below which percentiles of bootstrap draws are no interval: of five they hold the truth in 83% of cases, of two in 50%."""


class Estimate(NamedTuple):
    """A number with its interval; `n` counts what was resampled (clusters), or the trials of a proportion."""

    value: float
    ci_low: float
    ci_high: float
    n: int

    def columns(self, name: str) -> dict[str, float]:
        """Returns the number and its interval as the columns name, name_ci_low and name_ci_high."""
        return {name: self.value, f"{name}_ci_low": self.ci_low, f"{name}_ci_high": self.ci_high}


def cluster_weights(n_clusters: int, draws: int, seed: int) -> Array:
    """Returns how often each cluster occurs in each bootstrap draw: [draw, cluster], rows sum to n_clusters.

    One cluster carries no information about the spread between clusters: its draws are NaN, and so is every interval of them.
    """
    if n_clusters < 2:
        return np.full((draws, n_clusters), np.nan)
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws).astype(float)


def cluster_sums(values: ArrayLike, clusters: ArrayLike) -> tuple[Array, Array]:
    """Returns per cluster the sum of its rows ([cluster, …]) and their number ([cluster]), clusters in sorted order."""
    values = np.asarray(values, dtype=float)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.bincount(index).astype(float)
    sums = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums, counts


def bootstrap_means(values: ArrayLike, clusters: ArrayLike, *, draws: int = 2000, seed: int = 0) -> Array:
    """Returns bootstrap draws of the mean over rows when whole clusters are resampled: [draw, …].

    `values` is [row, …] and `clusters` [row]; the mean of a draw is the sum over its clusters' rows divided by their
    number, so large clusters weigh more, as they do in the plain mean.
    """
    sums, counts = cluster_sums(values, clusters)
    weights = cluster_weights(len(counts), draws, seed)
    totals = np.tensordot(weights, sums, axes=1)
    return totals / (weights @ counts).reshape(-1, *[1] * (totals.ndim - 1))


def percentile_interval(draws: ArrayLike, confidence: float = 0.95) -> tuple[Array, Array]:
    """Returns the lower and upper percentile of bootstrap draws along their first axis (NaN draws are left out)."""
    tail = 100 * (1 - confidence) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # such a column has no interval: NaN
        low, high = np.nanpercentile(np.asarray(draws, dtype=float), [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def standard_errors(n_clusters: int) -> float:
    """Returns how many standard deviations of bootstrap draws over so many clusters lie between an estimate and either end of its 95%
    interval: 1.96, and below `FEW` clusters Student's t, with the factor by which the draws vary too little; NaN for one.
    """
    from scipy.stats import norm, t

    if n_clusters < 2:
        return float("nan")
    if n_clusters >= FEW:
        return float(norm.ppf(0.975))
    return float(t.ppf(0.975, n_clusters - 1) * np.sqrt(n_clusters / (n_clusters - 1)))


def bootstrap_interval(
    value: float | ArrayLike, draws: ArrayLike, n_clusters: int, limits: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[Array, Array]:
    """Returns the 95% interval of numbers [...] from their bootstrap draws over whole clusters, [draw, ...].

    From `FEW` clusters on it is that of `percentile_interval`; of fewer the estimate ± `standard_errors` of the draws, no further than
    the limits of what the number can be. NaN where there is no estimate, and of one cluster.
    """
    value = np.asarray(value, dtype=float)
    if n_clusters >= FEW:
        low, high = percentile_interval(draws)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Degrees of freedom", RuntimeWarning)  # all draws NaN: so is the interval
            half = standard_errors(n_clusters) * np.nanstd(np.asarray(draws, dtype=float), axis=0)
        low, high = np.maximum(value - half, limits[0]), np.minimum(value + half, limits[1])
    return np.where(np.isnan(value), np.nan, low), np.where(np.isnan(value), np.nan, high)


def mean_estimate(values: ArrayLike, clusters: ArrayLike, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Returns the mean of one number per row with its clustered bootstrap interval.

    One cluster carries no information about the spread between clusters: its interval is NaN.
    """
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    n_clusters = len(np.unique(clusters))
    if n_clusters < 2:
        return Estimate(float(values.mean()) if len(values) else np.nan, np.nan, np.nan, n_clusters)
    value, drawn = values.mean(), bootstrap_means(values, clusters, draws=draws, seed=seed)
    low, high = bootstrap_interval(value, drawn, n_clusters)
    return Estimate(float(value), float(low), float(high), n_clusters)


def share_estimate(values: ArrayLike, clusters: ArrayLike, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Returns the mean of shares, one number from 0 to 1 per row (0 or 1 for a yes/no outcome), with its clustered bootstrap interval.

    Its interval where all clusters agree: see `bounded`.
    """
    return bounded(_within(mean_estimate(values, clusters, draws=draws, seed=seed), values, 0.0, 1.0))


def bounded(estimate: Estimate) -> Estimate:
    """Returns the estimate of a quantity between 0 and 1, with an interval even if all clusters agree: none, all, or half in each.

    Where they agree resampling has no spread and would look like certainty: the interval is Wilson's for as many trials as there are
    clusters, the widest that quantities of that mean call for.
    """
    if estimate.n < 2 or not _agree(estimate) or not 0 <= estimate.value <= 1:
        return estimate
    if estimate.value in (0.0, 1.0):
        return wilson_interval(int(estimate.value) * estimate.n, estimate.n)
    return _wilson_between(estimate.value, estimate.n)


def _within(estimate: Estimate, values: ArrayLike, lowest: float, highest: float) -> Estimate:
    """The estimate, its interval cut at what the quantity can be, or at the furthest of the values that it is the mean of: a share that
    was lost may be negative.
    """
    values = np.asarray(values, dtype=float)
    limits = min(lowest, values.min(initial=lowest)), max(highest, values.max(initial=highest))
    low, high = (float(np.clip(end, *limits)) for end in (estimate.ci_low, estimate.ci_high))
    return estimate._replace(ci_low=low, ci_high=high)


def _agree(estimate: Estimate) -> bool:
    """Whether resampling has no spread, but for rounding; False where there is no interval."""
    return bool(estimate.ci_high - estimate.ci_low <= 1e-12)


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """Returns mean(first − second) over paired rows, with its clustered bootstrap interval.

    Raises ValueError when there are not as many of one as of the other.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} rows cannot be paired with {len(b)}")
    return mean_estimate(a - b, clusters, draws=draws, seed=seed)


def share_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """Returns the paired difference of shares, from −1 to 1, with an interval even if it is the same in all rows.

    Where resampling has no spread it would look like certainty: the interval is as wide as Wilson's for as many trials as there are
    clusters.
    """
    estimate = paired_difference(first, second, clusters, draws=draws, seed=seed)
    if estimate.n < 2 or not _agree(estimate):
        return _within(estimate, np.asarray(first, dtype=float) - np.asarray(second, dtype=float), -1.0, 1.0)
    width = wilson_interval(0, estimate.n).ci_high
    low, high = max(estimate.value - width, -1.0), min(estimate.value + width, 1.0)
    return Estimate(estimate.value, low, high, estimate.n)


def resampled(
    statistic: Callable[[Array], Array],
    clusters: ArrayLike,
    *,
    draws: int = 1000,
    seed: int = 0,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Returns a statistic of rows with its bootstrap interval when whole clusters are resampled.

    `statistic` takes how often each row counts, [draw, row], and returns one number per draw, such as `weighted_median`; `limits` are
    what it can be at least and at most.
    One cluster carries no information about the spread between clusters: its interval is NaN. So is that of a statistic that hinges
    on one cluster: without it, it is not defined.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(index.max()) + 1
    whole = float(statistic(np.ones((1, len(index))))[0])
    if n_clusters < 2 or np.isnan(statistic((1 - np.eye(n_clusters))[:, index])).any():
        return Estimate(whole, np.nan, np.nan, n_clusters)
    drawn = statistic(cluster_weights(n_clusters, draws, seed)[:, index])
    low, high = bootstrap_interval(whole, drawn, n_clusters, limits)
    return Estimate(whole, float(low), float(high), n_clusters)


def weighted_median(values: ArrayLike, weights: Array) -> Array:
    """Returns the median of values [row] of which each counts as often as its weight says, whole numbers [draw, row]."""
    order = np.argsort(np.asarray(values), kind="stable")
    ordered = np.asarray(values, dtype=float)[order]
    reached = weights[:, order].cumsum(axis=1)
    total = reached[:, -1:]
    lower, upper = ((reached > middle).argmax(axis=1) for middle in ((total - 1) // 2, total // 2))
    return (ordered[lower] + ordered[upper]) / 2


def weighted_trimmed_mean(values: ArrayLike, weights: Array, share: float) -> Array:
    """Returns the mean of values [row] counted as often as weights [draw, row] say, without that share at each end.

    As many are left out as the share of the whole number of values comes to, rounded down.
    """
    order = np.argsort(np.asarray(values), kind="stable")
    reached = weights[:, order].cumsum(axis=1)
    total = reached[:, -1:]
    cut = np.floor(share * total)
    kept = np.diff(reached.clip(cut, total - cut), axis=1, prepend=cut)
    return kept @ np.asarray(values, dtype=float)[order] / kept.sum(axis=1)


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Returns a proportion with Wilson's score interval (Wilson 1927); for independent trials only.

    Raises ValueError unless 0 <= successes <= trials and trials > 0.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials is not a proportion")
    low, high = binomtest(successes, trials).proportion_ci(confidence, "wilson")
    # At none and at all the ends are exactly 0 and 1; the difference of two roundings is not.
    low = 0.0 if successes == 0 else float(low)
    high = 1.0 if successes == trials else float(high)
    return Estimate(successes / trials, low, high, trials)


def _wilson_between(share: float, trials: int) -> Estimate:
    """Wilson's score interval at 95% of a share that is no whole number of trials."""
    from scipy.stats import norm

    z = float(norm.ppf(0.975))
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return Estimate(share, float(centre - half), float(centre + half), trials)


def e_benjamini_hochberg(log_e_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Returns which hypotheses are rejected at a false-discovery rate of alpha, however the e-values depend on each other.

    The k largest, for the largest k whose k-th e-value is at least n / (alpha k) (Wang and Ramdas 2022). Takes ln of e-values.
    """
    log_e = np.asarray(log_e_values, dtype=float)
    order = np.argsort(-log_e, kind="stable")
    needed = np.log(len(log_e) / (alpha * np.arange(1, len(log_e) + 1)))
    passing = np.flatnonzero(log_e[order] >= needed)
    rejected = np.zeros(len(log_e), dtype=bool)
    rejected[order[: passing.max(initial=-1) + 1]] = True
    return rejected
