"""Anytime-valid inference: confidence sequences and betting tests.

Results may be inspected after every draw, and sampling may stop for any reason that depends only on the past. Knows no model.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, xlog1py, xlogy

from interp.statistics import Array

Flags = NDArray[np.bool_]
_HALVINGS = 50
_BETS = 40


class Bounds(NamedTuple):
    """Lower and upper confidence bounds."""

    low: Array
    high: Array


def beta_binomial_bounds(successes: int | ArrayLike, trials: int | ArrayLike, alpha: float = 0.05) -> Bounds:
    """Returns a confidence sequence for a probability of success: the bounds hold at all trials simultaneously, with probability 1 − alpha.

    The chances q for which the likelihood ratio of a uniform mixture against q stays below 1 / alpha (Robbins 1970):
    B(s + 1, n − s + 1) / (q^s (1 − q)^(n−s)) < 1 / alpha. Without trials the bounds are 0 and 1.
    Raises ValueError unless 0 <= successes <= trials and 0 < alpha < 1.
    """
    s, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    shape, s, n = s.shape, s.ravel(), n.ravel()
    if not 0 < alpha < 1 or (s < 0).any() or (s > n).any():
        raise ValueError("a confidence sequence needs 0 <= successes <= trials and 0 < alpha < 1")
    mixture = betaln(s + 1, n - s + 1)
    share = np.divide(s, n, out=np.full(s.shape, 0.5), where=n > 0)

    def kept(q: Array) -> Flags:
        return mixture - xlogy(s, q) - xlog1py(n - s, -q) < -np.log(alpha)

    low = _border(kept, np.zeros(s.shape), share)
    high = _border(kept, np.ones(s.shape), share)
    low, high = np.where(s == 0, 0.0, low), np.where(s == n, 1.0, high)
    return Bounds(low.reshape(shape), high.reshape(shape))


def _border(kept: Callable[[Array], Flags], outside: Array, inside: Array) -> Array:
    """Bisects for where a condition begins to hold on the way from outside to inside."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        holds = kept(middle)
        inside, outside = np.where(holds, middle, inside), np.where(holds, outside, middle)
    return outside


def log_betting_e_values(differences: ArrayLike, null_mean: float) -> Array:
    """Returns ln of an e-process against "the mean difference is at most null_mean": one value after each difference.

    Differences lie in [−1, 1]. Wealth ∏ (1 + λ (d_i − m)) is averaged over a grid of stakes λ in (0, 1 / (1 + m)), so it never
    becomes negative and its mean is at most 1 under the hypothesis, at any stopping time (Waudby-Smith and Ramdas 2024).
    The chance that it ever reaches 1 / alpha is then at most alpha (Ville 1939).
    Raises ValueError for differences outside [−1, 1] or a null_mean outside (−1, 1).
    """
    d = np.asarray(differences, dtype=float)
    if not -1 < null_mean < 1 or (np.abs(d) > 1).any():
        raise ValueError("differences lie in [-1, 1] and the mean that is tested inside of it")
    stakes = (np.arange(_BETS) + 0.5) / _BETS / (1 + null_mean)
    wealth = np.cumsum(np.log1p(stakes[:, None] * (d - null_mean)), axis=1)
    return np.logaddexp.reduce(wealth, axis=0) - np.log(_BETS)


def betting_bounds(differences: ArrayLike, alpha: float) -> tuple[float, float]:
    """Returns a confidence sequence for a mean difference: the means that bets in either direction have not ruled out.

    Each side errs with chance alpha / 2 over all stopping times. The evidence against a mean falls as that mean grows, so
    the border is found by bisection. Without differences the bounds are −1 and 1.
    """
    d = np.asarray(differences, dtype=float)
    if not len(d):
        return -1.0, 1.0
    return _lower_bound(d, alpha / 2), -_lower_bound(-d, alpha / 2)


def _lower_bound(d: Array, alpha: float) -> float:
    ruled_out, kept = -1.0, float(d.mean())
    for _ in range(30):
        middle = (ruled_out + kept) / 2
        if -1 < middle < 1 and log_betting_e_values(d, middle)[-1] < -np.log(alpha):
            kept = middle
        else:
            ruled_out = middle
    return ruled_out


def pairs_needed(difference: float, null_mean: float, alpha: float, most: int = 100_000) -> int | None:
    """Returns how many pairs of right-or-wrong outcomes a bet needs, on average, to reach 1 / alpha when their mean difference
    is `difference`, at the largest spread such pairs can have; None where `most` are not enough.

    The growth rate of the best single stake, plus what averaging over stakes costs.
    """
    if difference <= null_mean:
        return None
    up, down = (1 + difference) / 2, (1 - difference) / 2
    stakes = (np.arange(_BETS) + 0.5) / _BETS / (1 + null_mean)
    growth = up * np.log1p(stakes * (1 - null_mean)) + down * np.log1p(stakes * (-1 - null_mean))
    best = float(growth.max())
    if best <= 0:
        return None
    needed = int(np.ceil((np.log(1 / alpha) + np.log(_BETS) / 2) / best))
    return needed if needed <= most else None
