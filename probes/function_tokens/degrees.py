"""How many features tokens reach, and how many chance gives: degrees, distinct features of m occurrences, power-law fits.

All of chance is one formula. Of N positions, draw m without replacement; a feature active at n of the N is met with probability
1 − C(N − n, m) / C(N, m). It gives labels shuffled over positions, and occurrences thinned.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from interp.statistics import cluster_weights, standard_errors
from probes.function_tokens.graph import Counted, feature_counts_by_block

DEPTHS = (20, 100, 1000)
"""Numbers of occurrences at which degrees are rarefied."""
TOP_TOKENS = 30
"""Most frequent tokens that get intervals."""
DRAWN = tuple(int(m * 10**power) for power in range(6) for m in (1, 2, 5))
"""Numbers of occurrences (m) at which features are accumulated."""
ALTERNATIVES = ("lognormal", "truncated_power_law", "exponential")
FEWEST = 50
"""Degrees that a fit needs."""
PAIRS_AT_ONCE = 1 << 22
Array = NDArray[np.float64]
Numbers = ArrayLike | float | int


def degree_table(counted: Counted) -> pd.DataFrame:
    """Returns, per token, degrees raw, rarefied and in excess of the shuffle, without names and intervals."""
    graph = counted.graph
    degree = np.diff(graph.matrix.indptr)
    feature_counts = graph.feature_counts
    alive = feature_counts[feature_counts > 0]
    null, null_sd = expected_features(alive, counted.occurrences, counted.n_positions)
    reached_by = np.bincount(graph.matrix.indices, minlength=counted.n_features)
    rows = np.repeat(np.arange(len(degree)), degree)
    exclusive = np.bincount(rows[reached_by[graph.matrix.indices] == 1], minlength=len(degree))
    table = pd.DataFrame(
        {
            "token_id": counted.token_ids,
            "occurrences": counted.occurrences,
            "degree": degree,
            "exclusive": exclusive,
            "null_degree": null,
            "null_sd": null_sd,
            "excess": degree - null,
            "excess_z": np.divide(degree - null, null_sd, out=np.full(len(degree), np.nan), where=null_sd > 1e-9),
        }
    )
    for m in DEPTHS:
        table[f"rarefied_{m}"] = rarefied(graph.matrix.data, rows, counted.occurrences, m)
        depth = min(m, counted.n_positions)
        table[f"null_rarefied_{m}"] = expected_features(alive, [depth], counted.n_positions)[0][0]
    slopes = [
        np.log(table[f"rarefied_{deep}"] / table[f"rarefied_{shallow}"]) / np.log(deep / shallow)
        for shallow, deep in ((100, 1000), (20, 100))
    ]
    return table.assign(accumulation_exponent=slopes[0].fillna(slopes[1]))


def degree_intervals(
    pairs: pd.DataFrame, counted: Counted, token_ids: list[int], draws: int, seed: int
) -> pd.DataFrame:
    """Returns half widths of the 95% intervals of the excess and of the rarefied degree of some tokens, blocks of texts resampled.

    A draw leaves blocks out, so distinct features are fewer in it: its own null is subtracted from it, and the interval is the
    estimate ± the `standard_errors` of the draws.
    """
    blocks = np.sort(pairs["block"].unique())
    if len(blocks) < 2:  # nothing can be resampled
        return pd.DataFrame({"token_id": token_ids, "excess_half": np.nan, "rarefied_half": np.nan})
    weights = cluster_weights(len(blocks), draws, seed)
    active = feature_counts_by_block(pairs, counted.n_features)
    alive = active.sum(axis=0) > 0
    drawn_active = weights @ active[:, alive]
    positions = weights @ pairs.groupby("block")["occurrences"].sum().reindex(blocks).to_numpy()
    degrees, thinned, sizes = np.zeros((3, len(token_ids), draws))
    for row, token_id in enumerate(token_ids):
        own = pairs[pairs["token_id"] == token_id]
        place = np.searchsorted(blocks, own["block"].to_numpy())
        occurrences = np.zeros(len(blocks))
        occurrences[place] = own["occurrences"]
        features = np.unique(np.concatenate(own["feature_ids"].to_list()))
        counts = np.zeros((len(blocks), len(features)))
        for block, ids, values in zip(place, own["feature_ids"], own["counts"], strict=True):
            counts[block, np.searchsorted(features, ids)] = values
        drawn, sizes[row] = weights @ counts, weights @ occurrences
        degrees[row] = (drawn > 0).sum(axis=1)
        thinned[row] = rarefied(drawn.ravel(), np.repeat(np.arange(draws), len(features)), sizes[row], DEPTHS[0])
    expected = [expected_features(drawn_active[draw], sizes[:, draw], positions[draw])[0] for draw in range(draws)]
    excess_sd = (degrees - np.transpose(expected)).std(axis=1)
    rarefied_sd = np.array([np.nanstd(one) if np.isfinite(one).sum() > 1 else np.nan for one in thinned])
    errors = standard_errors(len(blocks))
    return pd.DataFrame(
        {"token_id": token_ids, "excess_half": errors * excess_sd, "rarefied_half": errors * rarefied_sd}
    )


def accumulate(
    pairs: pd.DataFrame,
    n_features: int,
    token_sets: Mapping[str, NDArray[np.int64]],
    *,
    draws: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns the expected distinct features in m random occurrences of any token of each set, exact, with intervals over blocks.

    d_m(S) = Σ_f [1 − C(n_S − n_Sf, m) / C(n_S, m)], n_S occurrences of the set's tokens, n_Sf those at which f is active. The
    set of all tokens is the null: m random positions. It asks of a class what rarefied degrees ask of a token, and does not
    saturate with the corpus.
    """
    blocks = np.sort(pairs["block"].unique())
    rows = []
    for name, token_ids in token_sets.items():
        own = pairs[pairs["token_id"].isin(token_ids)]
        present = np.searchsorted(blocks, np.sort(own["block"].unique()))
        active, occurrences = np.zeros((len(blocks), n_features)), np.zeros(len(blocks))
        active[present] = feature_counts_by_block(own, n_features)
        occurrences[present] = own.groupby("block")["occurrences"].sum()
        ms = np.array([m for m in DRAWN if m <= occurrences.sum()])
        found = expected_features(active.sum(axis=0), ms, float(occurrences.sum()))[0]
        resampled = []
        for weight in cluster_weights(len(blocks), draws, seed) if len(blocks) > 1 else ():
            total = float(weight @ occurrences)
            drawn = expected_features(weight @ active, np.minimum(ms, total), total)[0] if total else np.zeros(len(ms))
            resampled.append(np.where(ms <= total, drawn, np.nan))
        half = (
            standard_errors(len(blocks)) * np.nanstd(resampled, axis=0) if len(blocks) > 1 else np.full(len(ms), np.nan)
        )
        frame = pd.DataFrame({"drawn": ms, "features": found, "ci_low": found - half, "ci_high": found + half})
        rows.append(frame.assign(token_set=name, set_tokens=own["token_id"].nunique()))
    return pd.concat(rows, ignore_index=True)


def fit_degrees(degrees: ArrayLike) -> pd.DataFrame:
    """Returns a power law against each alternative in the tail above the best xmin (Clauset, Shalizi, Newman 2009).

    Degrees are taken as continuous: their discrete likelihoods need minutes of arithmetic at high precision, and differ where
    xmin is a handful only.
    Columns: alternative, xmin, exponent, n_tail, likelihood_ratio (normalised), p. Empty below 50 degrees or when all are equal.
    """
    import powerlaw

    values = np.asarray(degrees)
    values = values[values > 0]
    columns = ["alternative", "xmin", "exponent", "n_tail", "likelihood_ratio", "p"]
    if len(values) < FEWEST or values.min() == values.max():
        return pd.DataFrame(columns=columns)
    rows = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # powerlaw tries out xmin values for which its own integrals overflow
        fit: Any = powerlaw.Fit(values, discrete=False, verbose=False)
        n_tail = int((values >= fit.xmin).sum())
        for alternative in ALTERNATIVES:
            nested = alternative == "truncated_power_law"
            ratio, p = fit.distribution_compare("power_law", alternative, nested=nested, normalized_ratio=True)
            rows.append((alternative, float(fit.xmin), float(fit.power_law.alpha), n_tail, float(ratio), float(p)))
    return pd.DataFrame(rows, columns=columns)


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


def met(active: Numbers, drawn: Numbers, positions: Numbers) -> Array:
    """Returns the probability that at least one of `drawn` positions is among the `active` ones (arguments broadcast)."""
    n, m, total = (np.asarray(value, dtype=float) for value in (active, drawn, positions))
    left = total - n - m
    with np.errstate(invalid="ignore"):
        log_missed = gammaln(total - n + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - m + 1)
    return np.where(left < 0, 1.0, -np.expm1(np.minimum(log_missed, 0.0)))


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
