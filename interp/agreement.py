"""How far two scorings of the same things agree: correlations, and what their tops share. Knows no model."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.statistics import Array


def spearman(first: ArrayLike, second: ArrayLike) -> Array | np.float64:
    """Returns Spearman's rank correlation of corresponding rows, ties at their mean rank: [..., n] to [...].

    NaN where one side is constant.
    """
    from scipy.stats import rankdata

    return pearson(rankdata(np.asarray(first), axis=-1), rankdata(np.asarray(second), axis=-1))


def pearson(first: ArrayLike, second: ArrayLike) -> Array | np.float64:
    """Returns Pearson's correlation of corresponding rows: [..., n] to [...]; NaN if one side is constant."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    constant = (a == a[..., :1]).all(axis=-1) | (b == b[..., :1]).all(axis=-1)
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in (a, b))
    scale = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, np.clip((a * b).sum(axis=-1) / scale, -1.0, 1.0))[()]


def weighted_ranks(values: ArrayLike, weights: Array) -> Array:
    """Returns the ranks of values [row] of which each occurs as often as its weight says [draw, row], ties at their mean rank."""
    _, place = np.unique(np.asarray(values), return_inverse=True)
    order = np.argsort(place, kind="stable")
    counts = np.add.reduceat(weights[:, order], np.flatnonzero(np.diff(place[order], prepend=-1)), axis=1)
    return (counts.cumsum(axis=1) - (counts - 1) / 2)[:, place]


def weighted_spearman(first: ArrayLike, second: ArrayLike, weights: Array) -> Array:
    """Returns Spearman's correlation of rows that each count as often as their weight says: [draw, row] to [draw].

    NaN in draws where one side is constant.
    """
    a, b = weighted_ranks(first, weights), weighted_ranks(second, weights)
    n = weights.sum(axis=1, keepdims=True)
    a, b = (side - (weights * side).sum(axis=1, keepdims=True) / n for side in (a, b))
    variances = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variances > 1e-9, (weights * a * b).sum(axis=1) / np.sqrt(variances), np.nan)


def top_indices(scores: ArrayLike, k: int) -> list[int]:
    """Returns the indices of the k largest scores, largest first, equal scores in index order."""
    return [int(index) for index in np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:k]]


def top_overlap(first: ArrayLike, second: ArrayLike, k: int) -> Array | np.float64:
    """Returns the share of the k largest of each row that are among the k largest of the corresponding row: [..., n] to [...]."""
    return np.logical_and(_among_top(first, k), _among_top(second, k)).sum(axis=-1) / k


def _among_top(scores: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether each score is one of its row's k largest, of equal scores the first."""
    scores = np.asarray(scores, dtype=float)
    among = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(among, np.argsort(-scores, axis=-1, kind="stable")[..., :k], True, axis=-1)
    return among
