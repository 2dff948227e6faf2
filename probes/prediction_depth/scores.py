"""Settle depths, the area under a curve within groups, a cross-validated linear readout, matched differences. No model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

Numbers = Float[np.ndarray, " row"]
FOLDS = 5
RIDGE = 1.0
"""Ridge of the readout, as a share of the mean squared length of its standardised inputs."""


def settle_depths(tops: Int[np.ndarray, "depth token"]) -> Int[np.ndarray, " token"]:
    """Returns the least depth from which on the most likely token is that of the last depth."""
    same = tops == tops[-1]
    return len(tops) - np.logical_and.accumulate(same[::-1], axis=0).sum(axis=0)


def auroc_draws(
    scores: Numbers, right: Bool[np.ndarray, " row"], groups: Sequence[object], weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, " draw"]:
    """Returns P(a right one scores above a wrong one of the same group), ties half, in every draw of rows; NaN without such pairs."""
    above, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for group in dict.fromkeys(groups):
        own = np.array([one == group for one in groups])
        yes, no = own & right, own & ~right
        wins = (scores[yes][:, None] > scores[no]) + 0.5 * (scores[yes][:, None] == scores[no])
        above += ((weights[:, yes] @ wins) * weights[:, no]).sum(axis=1)
        pairs += weights[:, yes].sum(axis=1) * weights[:, no].sum(axis=1)
    return np.divide(above, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def accuracy_draws(
    scores: Numbers, right: Bool[np.ndarray, " row"], coverage: float, weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, " draw"]:
    """Returns the share of right answers among the `coverage` of the questions that score highest; ties in the order of the rows."""
    order = np.argsort(-scores, kind="stable")
    drawn = weights[:, order]
    wanted = coverage * drawn.sum(axis=1, keepdims=True)
    taken = np.clip(wanted - (drawn.cumsum(axis=1) - drawn), 0, drawn)
    return (taken * right[order]).sum(axis=1) / wanted[:, 0]


def shuffled_within(right: Bool[np.ndarray, " row"], groups: Sequence[str], seed: int) -> Bool[np.ndarray, " row"]:
    """Returns labels shuffled within each group, so that each keeps its share; the same in every process."""
    shuffled, generator = right.copy(), np.random.default_rng([seed, 1])
    for group in dict.fromkeys(groups):  # a set has another order in every process
        own = np.array([one == group for one in groups])
        shuffled[own] = generator.permutation(right[own])
    return shuffled


def readout_scores(
    states: Float[np.ndarray, "depth row residual"], right: Bool[np.ndarray, " row"], groups: Sequence[str], seed: int
) -> tuple[Float[np.ndarray, "depth row"], Numbers, Int[np.ndarray, " row"]]:
    """Returns out-of-fold scores of a ridge readout at every depth; those at the depth that the other folds alone chose; and that depth.

    The depth is chosen by the area under the curve within groups of scores that leave one row out. NaN where a fold's training rows are
    all right or all wrong.
    """
    n = len(right)
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    by_depth, chosen = np.full((len(states), n), np.nan), np.full(n, np.nan)
    depth_of = np.zeros(n, dtype=int)
    for held in range(FOLDS):
        train, test = fold != held, fold == held
        if not test.any() or right[train].all() or not right[train].any():
            continue
        quality = np.full(len(states), -np.inf)
        for depth, state in enumerate(states):
            left_out, by_depth[depth, test] = _ridge(state[train], right[train], state[test])
            own = [group for group, used in zip(groups, train, strict=True) if used]
            value = auroc_draws(left_out, right[train], own, np.ones((1, len(left_out))))[0]
            quality[depth] = -np.inf if np.isnan(value) else value
        best = int(np.argmax(quality))
        chosen[test], depth_of[test] = by_depth[best, test], best
    return by_depth, chosen, depth_of


def _ridge(
    train: Float[np.ndarray, "row residual"], right: Bool[np.ndarray, " row"], test: Float[np.ndarray, "other residual"]
) -> tuple[Numbers, Float[np.ndarray, " other"]]:
    """Scores of the training rows with each left out, and of the test rows."""
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    x, new = (train - mean) / spread, (test - mean) / spread
    gram = x @ x.T
    target = right - right.mean()
    inverse = np.linalg.inv(gram + RIDGE * gram.trace() / len(gram) * np.eye(len(gram)))
    weights = inverse @ target
    return target - weights / np.diag(inverse), new @ x.T @ weights


def matched_difference(
    values: Numbers,
    first: Bool[np.ndarray, " row"],
    bins: Int[np.ndarray, " row"],
    weights: Float[np.ndarray, "draw row"],
) -> Float[np.ndarray, " draw"]:
    """Returns the mean of `first` rows less that of the others within each bin, weighted by n·m / (n + m); NaN without a bin of both."""
    total, weight = np.zeros(len(weights)), np.zeros(len(weights))
    for number in np.unique(bins):
        own = bins == number
        a, b = weights * (own & first), weights * (own & ~first)
        n, m = a.sum(axis=1), b.sum(axis=1)
        both = (n > 0) & (m > 0)
        n_safe, m_safe = np.where(both, n, 1), np.where(both, m, 1)
        share = np.where(both, n_safe * m_safe / (n_safe + m_safe), 0)
        total += share * (a @ values / n_safe - b @ values / m_safe)
        weight += share
    return np.divide(total, weight, out=np.full(len(weights), np.nan), where=weight > 0)


def slope(x: pd.Series, y: pd.Series, weights: Float[np.ndarray, "draw row"]) -> Float[np.ndarray, " draw"]:
    """Returns the least-squares slope of y on x in every draw of rows."""
    a, b = x.to_numpy(dtype=float), y.to_numpy(dtype=float)
    total = weights.sum(axis=1)
    mean_a, mean_b = weights @ a / total, weights @ b / total
    return (weights @ (a * b) / total - mean_a * mean_b) / (weights @ (a * a) / total - mean_a**2)
