"""What chance alone would give: expected distinct features of m occurrences, with labels shuffled or occurrences thinned.

All of it is one formula. Of N positions, draw m without replacement; a feature active at n of the N is met with probability
1 − C(N − n, m) / C(N, m).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]
Numbers = ArrayLike | float | int
PAIRS_AT_ONCE = 1 << 22


def met(active: Numbers, drawn: Numbers, positions: Numbers) -> Array:
    """Returns the probability that at least one of `drawn` positions is among the `active` ones (arguments broadcast)."""
    n, m, total = (np.asarray(value, dtype=float) for value in (active, drawn, positions))
    left = total - n - m
    with np.errstate(invalid="ignore"):
        log_missed = gammaln(total - n + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - m + 1)
    return np.where(left < 0, 1.0, -np.expm1(np.minimum(log_missed, 0.0)))


def expected_features(feature_counts: ArrayLike, drawn: ArrayLike, positions: float | int) -> tuple[Array, Array]:
    """Returns, per number of drawn positions, the expected number of distinct features and the standard deviation.

    `feature_counts` [feature]: positions at which each is active, of `positions`. This is the degree of a token with `drawn`
    occurrences when labels are shuffled, and of a set of tokens with as many in all. The expectation is exact. The standard
    deviation takes features to be independent; the simulated shuffle does not.
    """
    values, weights = np.unique(np.asarray(feature_counts), return_counts=True)
    sizes, index = np.unique(np.asarray(drawn), return_inverse=True)
    mean, variance = np.zeros(len(sizes)), np.zeros(len(sizes))
    step = max(1, PAIRS_AT_ONCE // max(1, len(values)))
    for first in range(0, len(sizes), step):
        chance = met(values[None], sizes[first : first + step, None], positions)
        mean[first : first + step] = chance @ weights
        variance[first : first + step] = (chance * (1 - chance)) @ weights
    return mean[index], np.sqrt(variance[index])


def met_often(active: Numbers, drawn: Numbers, positions: Numbers, least: int) -> Array:
    """Returns the probability that at least `least` of the drawn positions are among the active ones (arguments broadcast)."""
    n, m, total = (np.asarray(value, dtype=float) for value in (active, drawn, positions))
    fewer = np.zeros(np.broadcast(n, m, total).shape)
    for j in range(least):
        possible = (j <= n) & (j <= m) & (m - j <= total - n)
        log_p = _log_choose(n, j) + _log_choose(total - n, m - j) - _log_choose(total, m)
        fewer += np.where(possible, np.exp(np.minimum(log_p, 0.0)), 0.0)
    return np.asarray(np.clip(1 - fewer, 0.0, 1.0))


def _log_choose(n: Numbers, k: Numbers) -> Array:
    """The logarithm of n over k; what it says for impossible k is not used."""
    n, k = np.asarray(n, dtype=float), np.asarray(k, dtype=float)
    return np.asarray(gammaln(n + 1) - gammaln(np.maximum(k, 0) + 1) - gammaln(np.maximum(n - k, 0) + 1))


def expected_often(feature_counts: ArrayLike, occurrences: ArrayLike, positions: float | int, least: int) -> Array:
    """Returns, for the first 1, 2, … of some tokens, the expected number of features met `least` times by one of them.

    With labels shuffled over all positions; tokens are taken to be independent of each other, which they nearly are.
    """
    values, weights = np.unique(np.asarray(feature_counts), return_counts=True)
    never = np.ones(len(values))
    expected = []
    for drawn in np.asarray(occurrences):
        never = never * (1 - met_often(values, drawn, positions, least))
        expected.append(float((1 - never) @ weights))
    return np.array(expected)


def rarefied(pair_counts: ArrayLike, groups: ArrayLike, occurrences: ArrayLike, m: int) -> Array:
    """Returns per token the expected number of distinct features in m of its occurrences; NaN for tokens with fewer.

    d_m(t) = Σ_f [1 − C(n_t − c_tf, m) / C(n_t, m)], exact from counts alone. `pair_counts` [pair]: occurrences of a token at
    which a feature is active; `groups` [pair]: index of the pair's token; `occurrences` [token].
    """
    counts, token, n = np.asarray(pair_counts), np.asarray(groups), np.asarray(occurrences)
    enough = n[token] >= m
    counts, kept = counts[enough], token[enough]
    total = np.zeros(len(n))
    for first in range(0, len(counts), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        chance = met(counts[part], m, n[kept[part]])
        total += np.bincount(kept[part], weights=chance, minlength=len(n))
    return np.where(n >= m, total, np.nan)
