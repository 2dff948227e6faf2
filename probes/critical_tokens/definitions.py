"""What makes a token critical, by three definitions: the paper's rule, cliffs and pivots. Pure functions of draws.

paper: Lin et al. 2024, section 2: the first token after which 0 of n rollouts are right, with less than 5% right after every
later one. That is the first zero behind the last position with 5% or more, so the scan goes backwards from the end, where
rollouts are short: nothing before the last position that is alive need be sampled, and a position is known to be alive as soon
as 5% of its n draws are right. With all n draws made the rule gives the same token.

cliff, pivot: a token that changes V, proven on fresh draws, with false discoveries controlled over the trajectory. The change
that token n makes is known up to two values: V_n − V_{n+1} = (1 − p_n) (V_without − V_after). Pairs of a rollout with the token
forbidden and one with it kept give differences in {−1, 0, 1}; a bet against "the drop is at most `margin`" is a bet against
"their mean is at most margin / (1 − p)". Bets may be stopped at any time, so easy tokens cost few pairs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Nd
from scipy.stats import beta

from interp.sequential import beta_binomial_bounds, betting_bounds, log_betting_e_values
from interp.statistics import e_benjamini_hochberg
from probes.critical_tokens.scores import certified
from probes.critical_tokens.settings import Settings

BLOCK = 8
"""Draws that are made at a time."""


# ---------------------------------------------------------------------- the paper's rule


ALIVE = 0.05
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


# ---------------------------------------------------------------------- cliffs and pivots


MOST_CANDIDATES = 4


class Thresholds(NamedTuple):
    """Thresholds for a cliff: the drop to look for, the drop of the null hypothesis, and the false discovery rate."""

    effect: float = 0.2
    margin: float = 0.1
    alpha: float = 0.05


def thresholds_of(settings: Settings) -> Thresholds:
    """Returns the thresholds in the settings."""
    return Thresholds(settings.effect, settings.margin, settings.alpha)


class Evidence(NamedTuple):
    """The evidence that the pairs give on one token."""

    token: int
    n_pairs: int
    without: float
    after: float
    drop: float
    drop_low: float
    drop_high: float
    log_e_drop: float
    log_e_rise: float


def screen(
    p: Float[Nd, " token"], value: Float[Nd, " kept"], thresholds: Thresholds, most: int = MOST_CANDIDATES
) -> list[int]:
    """Returns the tokens worth fresh draws: not certified, estimated change at least half the effect, the largest ones."""
    change = np.abs(np.diff(value))
    worth = ~certified(p, thresholds.effect) & (change >= thresholds.effect / 2)
    largest = [int(token) for token in np.argsort(-change, kind="stable") if worth[token]]
    return sorted(largest[:most])


def evidence(
    token: int, p: float, without: Bool[Nd, " pair"], after: Bool[Nd, " pair"], thresholds: Thresholds, n_tests: int
) -> Evidence:
    """Returns what pairs say about one token. Bounds on the drop hold for all n_tests tokens at once, whenever one stops."""
    d = without.astype(float) - after
    null = thresholds.margin / (1 - p)
    low, high = betting_bounds(d, thresholds.alpha / n_tests)
    return Evidence(
        token=token,
        n_pairs=len(d),
        without=float(without.mean()),
        after=float(after.mean()),
        drop=float((1 - p) * d.mean()),
        drop_low=(1 - p) * low,
        drop_high=(1 - p) * high,
        log_e_drop=_last(log_betting_e_values(d, null)) if null < 1 else 0.0,
        log_e_rise=_last(log_betting_e_values(-d, null)) if null < 1 else 0.0,
    )


def _last(values: Float[Nd, " pair"]) -> float:
    return float(values[-1]) if len(values) else 0.0


def settled(p: float, d: Int[Nd, " pair"], thresholds: Thresholds, n_tests: int) -> bool:
    """Whether more pairs of a token can be spared: its change is proven, or a change of the size sought is ruled out."""
    null, sought = thresholds.margin / (1 - p), thresholds.effect / (1 - p)
    proof = np.log(2 * n_tests / thresholds.alpha)
    if max(_last(log_betting_e_values(sign * d, null)) for sign in (1, -1)) >= proof:
        return True
    ruled_out = [_last(log_betting_e_values(-sign * d, -sought)) for sign in (1, -1)] if sought < 1 else [0.0]
    return bool(min(ruled_out) >= np.log(1 / thresholds.alpha))


Pairs = Callable[[Sequence[int], slice], dict[int, tuple[Bool[Nd, " pair"], Bool[Nd, " pair"]]]]
"""Makes these draws for these tokens; by token, whether the rollout without it and the one with it came out right."""


def confirm(
    p: Float[Nd, " token"], candidates: Sequence[int], pairs: Pairs, thresholds: Thresholds, most_pairs: int
) -> dict[int, tuple[Bool[Nd, " pair"], Bool[Nd, " pair"]]]:
    """Returns the outcomes of fresh pairs for every candidate, made in blocks until each is settled or has most_pairs."""
    found = {token: (np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)) for token in candidates}
    open_ = list(candidates)
    for first in range(0, most_pairs, BLOCK):
        block = pairs(open_, slice(first, min(first + BLOCK, most_pairs)))
        for token, new in block.items():
            found[token] = (np.append(found[token][0], new[0]), np.append(found[token][1], new[1]))
        open_ = [
            token
            for token in open_
            if not settled(p[token], found[token][0].astype(int) - found[token][1], thresholds, len(candidates))
        ]
        if not open_:
            break
    return found


class Discovery(NamedTuple):
    """A token whose change was proven; `sign` is 1 for a drop and −1 for a rise."""

    evidence: Evidence
    sign: int
    set_first: int
    set_last: int
    set_tokens: tuple[int, ...]
    """Tokens that may hold the trajectory's largest change of that sign."""


def discoveries(
    found: Sequence[Evidence], p: Float[Nd, " token"], thresholds: Thresholds, *, both_signs: bool
) -> list[Discovery]:
    """Returns the proven drops (cliffs), or drops and rises (pivots), by e-BH over all candidates of a trajectory.

    At most `alpha` of the tokens returned, in the mean, change V by `margin` or less: candidates were chosen on other draws.
    """
    signs = (1, -1) if both_signs else (1,)
    tests = [(one, sign) for sign in signs for one in found]
    log_e = [one.log_e_drop if sign == 1 else one.log_e_rise for one, sign in tests]
    rejected = e_benjamini_hochberg(log_e, thresholds.alpha)
    return [_discovery(one, sign, found, p) for (one, sign), yes in zip(tests, rejected, strict=True) if yes]


def _discovery(one: Evidence, sign: int, found: Sequence[Evidence], p: Float[Nd, " token"]) -> Discovery:
    """Tokens that were not tried count as far as the bound 1 − p lets them."""
    upper = 1 - p
    for other in found:
        upper[other.token] = min(upper[other.token], other.drop_high if sign == 1 else -other.drop_low)
    least = max(one.drop_low if sign == 1 else -one.drop_high, 0.0)
    inside = tuple(int(t) for t in np.flatnonzero(upper >= least)) if least > 0 else tuple(range(len(p)))
    inside = tuple(sorted({*inside, one.token}))
    return Discovery(one, sign, inside[0], inside[-1], inside)
