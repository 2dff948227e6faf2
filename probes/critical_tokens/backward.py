"""The paper's critical token by a backward scan: from the end, where rollouts are short, to the last position that is alive.

Lin et al. 2024, section 2: the first token after which 0 of n rollouts are right, with less than 5% right after every later
one. That is the first zero behind the last position with 5% or more, so nothing before that position need be sampled, and a
position is known to be alive as soon as 5% of its n draws are right. With all n draws made the rule gives the same token.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray as Nd
from scipy.stats import beta

from interp.sequential import beta_binomial_bounds

ALIVE = 0.05
BLOCK = 8
Draw = Callable[[int, slice], Bool[Nd, " draw"]]
"""Whether each of these draws from that many kept tokens came out right; makes them if need be."""


class Scan(NamedTuple):
    """What a backward scan found. Numbers of kept tokens: token number k is the (k + 1)-th kept."""

    critical: int | None
    """Index of the critical token, None where the rule finds none."""
    set_first: int
    set_last: int
    """Indices between which the token lies behind which V stays below 5%, with the confidence asked."""
    right: dict[int, tuple[int, int]]
    """By kept tokens: right draws and draws made."""


def needed_right(n_rollouts: int) -> int:
    """Returns how many right draws of n make a position alive: the smallest number that is 5% or more."""
    return int(np.ceil(ALIVE * n_rollouts - 1e-9))


def critical_by_rule(right: Sequence[int], n_rollouts: int) -> int | None:
    """Returns the paper's critical token from the right draws (of n) after every token; None where there is none."""
    counts = np.asarray(right)
    alive = np.flatnonzero(counts >= needed_right(n_rollouts))
    first = int(alive[-1]) + 1 if len(alive) else 0
    zeros = np.flatnonzero(counts[first:] == 0)
    return first + int(zeros[0]) if len(zeros) else None


def backward_scan(n_tokens: int, n_rollouts: int, draw: Draw, *, alpha: float = 0.05) -> Scan:
    """Returns the critical token of a wrong trajectory and a confidence set of positions around it.

    Upper end: positions are tested from the end on, each at level alpha, until "V >= 5%" can no longer be rejected: in
    that fixed order the chance of any false rejection is alpha. Lower end: behind the crossing, back to the first position
    whose confidence sequence lies above 5%, the j-th one tried at level alpha / (j (j + 1)).
    """
    needed = needed_right(n_rollouts)
    made: dict[int, tuple[int, int]] = {n_tokens: (0, n_rollouts)}  # the trajectory itself is wrong
    kept = n_tokens - 1
    while kept >= 1:
        made[kept] = _draw_until(draw, kept, n_rollouts, lambda right, _: right >= needed)
        if made[kept][0] >= needed:
            break
        kept -= 1
    zeros = [k for k in range(kept + 1, n_tokens + 1) if made[k][0] == 0]
    dead = n_tokens
    while dead - 1 > kept and _upper_bound(*made[dead - 1], alpha) < ALIVE:
        dead -= 1
    proven = _last_proven_alive(made, kept, n_rollouts, draw, alpha)
    return Scan(min(zeros) - 1 if zeros else None, proven, dead - 1, made)


def _last_proven_alive(made: dict[int, tuple[int, int]], kept: int, n_rollouts: int, draw: Draw, alpha: float) -> int:
    """Goes on backwards until a position is alive for certain enough; returns its kept tokens (0 where none is)."""
    for tried, place in enumerate(range(kept, 0, -1), start=1):
        level = alpha / (tried * (tried + 1))
        made[place] = _draw_until(
            draw, place, n_rollouts, lambda right, n, level=level: beta_binomial_bounds(right, n, 2 * level).low > ALIVE
        )
        if beta_binomial_bounds(*made[place], 2 * level).low > ALIVE:
            return place
    return 0


def _draw_until(draw: Draw, kept: int, n_rollouts: int, enough: Callable[[int, int], object]) -> tuple[int, int]:
    outcomes: list[bool] = []
    while len(outcomes) < n_rollouts:
        outcomes += draw(kept, slice(len(outcomes), min(n_rollouts, len(outcomes) + BLOCK))).tolist()
        if enough(sum(outcomes), len(outcomes)):
            break
    return sum(outcomes), len(outcomes)


def _upper_bound(right: int, n: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided upper bound."""
    return 1.0 if right == n else float(beta.ppf(1 - alpha, right + 1, n - right))


def counts_after_tokens(outcomes: Bool[Nd, "kept draw"]) -> Int[Nd, " token"]:
    """Returns the right draws after every token, from outcomes by kept tokens."""
    return outcomes[1:].sum(axis=1)
