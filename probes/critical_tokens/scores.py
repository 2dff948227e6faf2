"""Scores of tokens, exactly: a trajectory as a spine that rollouts branch off, pass@k, and how well a cheap score ranks tokens.

Write V_n for the chance of a right answer after the first n tokens of a trajectory and p_n for the policy's probability of its
token n. A rollout from the first n tokens either writes token n too (chance p_n) and then is a rollout from the first
n + 1 tokens, or branches off. So draw r from n is built from a coin: it follows the spine to the first m >= n whose coin
(m, r) falls on "branch", and from there it is the branch (m, r), the same for every n it is reached from. Draws of one n are
independent and exactly distributed; draws of different n share branches, and only branches cost tokens: a share of 1 − p.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Nd
from scipy.stats import rankdata

from interp.statistics import Estimate, bootstrap_interval, bounded, cluster_weights


def branch_points(follows: Bool[Nd, "token draw"]) -> Int[Nd, "kept draw"]:
    """Returns where draw r from the first n tokens leaves the spine: the first m >= n that it does not follow.

    The number of tokens where it follows to the end. One row more than there are tokens: n = 0, …, n_tokens.
    """
    n_tokens, n_draws = follows.shape
    own = np.where(follows, n_tokens, np.arange(n_tokens)[:, None])
    whole = np.concatenate([own, np.full((1, n_draws), n_tokens)])
    return np.minimum.accumulate(whole[::-1], axis=0)[::-1]


def branches_needed(points: Int[Nd, "kept draw"], kept: Iterable[int]) -> list[tuple[int, int]]:
    """Returns the branches (token, draw) that the draws from these numbers of kept tokens run into, in order, each once."""
    n_tokens = len(points) - 1
    found = {(int(point), draw) for n in kept for draw, point in enumerate(points[n]) if point < n_tokens}
    return sorted(found)


def largest_change(p: Float[Nd, " token"], first: int, last: int) -> float:
    """Returns the most by which V can differ between `first` and `last` kept tokens: 1 − ∏ p over the tokens between.

    V_first = ∏p · V_last + (1 − ∏p) · (value when the text leaves the spine), and both values lie in [0, 1].
    """
    return float(1 - np.prod(p[first:last]))


def certified(p: Float[Nd, " token"], effect: float) -> Bool[Nd, " token"]:
    """Returns which tokens cannot change V by `effect` or more: |V_{n+1} − V_n| = (1 − p_n) |V_without − V_{n+1}| <= 1 − p_n."""
    return np.asarray(1 - p < effect)


def drop(p: Float[Nd, " token"], without: Float[Nd, " token"], after: Float[Nd, " token"]) -> Float[Nd, " token"]:
    """Returns V_n − V_{n+1} from the values with the token forbidden and with it kept: (1 − p) (without − after)."""
    return (1 - p) * (without - after)


def values(p: Float[Nd, " token"], without: Float[Nd, " token"], last: float) -> Float[Nd, " kept"]:
    """Returns V_0, …, V_n_tokens from every token's value with it forbidden: V_n = p_n V_{n+1} + (1 − p_n) without_n."""
    found = np.empty(len(p) + 1)
    found[-1] = last
    for n in range(len(p) - 1, -1, -1):
        found[n] = p[n] * found[n + 1] + (1 - p[n]) * without[n]
    return found


# ---------------------------------------------------------------------- chains of known value


@dataclass(frozen=True)
class Chain:
    """A spine of tokens with the policy's probability of each, and the chance of a right answer after leaving it there."""

    p: Float[Nd, " token"]
    without: Float[Nd, " token"]
    right: bool
    """Whether the spine itself ends in a right answer."""

    @property
    def values(self) -> Float[Nd, " kept"]:
        """V after each number of kept tokens, exactly."""
        return values(self.p, self.without, float(self.right))

    @property
    def drops(self) -> Float[Nd, " token"]:
        """V before a token less V after it, exactly."""
        return -np.diff(self.values)

    def coins(self, n_draws: int, generator: np.random.Generator) -> Bool[Nd, "token draw"]:
        """Returns for each draw whether it would follow the spine at each token."""
        return generator.random((len(self.p), n_draws)) < self.p[:, None]

    def branches(self, n_draws: int, generator: np.random.Generator) -> Int[Nd, "token draw"]:
        """Returns the outcomes of branches, 1 for right."""
        return (generator.random((len(self.p), n_draws)) < self.without[:, None]).astype(int)


def flat_chain(p: Float[Nd, " token"], value: float) -> Chain:
    """Returns a chain on which no token changes anything but the last, which writes the answer and is certain by then.

    Every V before the last token is `value`: the last token of the spine is right with p = value.
    """
    last = np.append(p[:-1], value)
    return Chain(last, np.append(np.full(len(p) - 1, value), 0.0), True)


def chain_with_drop(n_tokens: int, at: int, p: float, drop: float, before: float, sure: float = 0.95) -> Chain:
    """Returns a chain whose token `at`, of probability p, lowers V from `before` by `drop`; the other tokens change nothing.

    The last token writes the answer: wrong, so V is 0 there.
    Raises ValueError when no chance of success with the token forbidden gives that drop.
    """
    after = before - drop
    forbidden = after + drop / (1 - p)
    if not 0 <= forbidden <= 1 or not 0 <= after <= 1:
        raise ValueError(f"a token of probability {p} cannot lower {before} by {drop}")
    probability = np.full(n_tokens, sure)
    probability[at], probability[-1] = p, 1 - after
    without = np.where(np.arange(n_tokens) < at, before, after)
    without[at], without[-1] = forbidden, 1.0
    return Chain(probability, without, False)


DRAWS = 500


def pass_at_k(right: int, n: int, k: int) -> float:
    """Returns the chance that at least one of k rollouts is right, without bias from n: 1 − C(n − right, k) / C(n, k).

    Chen et al. 2021, Evaluating Large Language Models Trained on Code, equation 1.
    Raises ValueError unless 0 <= right <= n and 1 <= k <= n.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} cannot be told from {right} right of {n} rollouts")
    return 1 - comb(n - right, k) / comb(n, k)


class Quality(NamedTuple):
    """Quality of a score's ranking: NaN without positive or without negative tokens."""

    auroc: float
    average_precision: float
    top1_hit: float


def auroc(score: Float[Nd, " token"], positive: Bool[Nd, " token"]) -> float:
    """Returns the probability that a positive token scores above a negative one, ties counted half; NaN without both kinds."""
    n, others = int(positive.sum()), int((~positive).sum())
    if not n or not others:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * others))


def average_precision(score: Float[Nd, " token"], positive: Bool[Nd, " token"]) -> float:
    """Returns the mean precision at every positive token, best score first; tied tokens share one threshold."""
    if not positive.any():
        return float("nan")
    thresholds = np.unique(score)[::-1]
    taken = score[None] >= thresholds[:, None]
    hits = (taken & positive).sum(axis=1)
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / taken.sum(axis=1)).sum() / positive.sum())


def top1_hits(score: Float[Nd, " token"], positive: Bool[Nd, " token"], trajectory: Nd) -> Mapping[str, float]:
    """Returns for each trajectory with a positive token the share of its best-scored tokens (ties) that are positive."""
    found = {}
    for name in dict.fromkeys(trajectory):
        own = trajectory == name
        if positive[own].any():
            best = score[own] == score[own].max()
            found[str(name)] = float(positive[own][best].mean())
    return found


def agreement_row(
    name: str, score: Float[Nd, " token"], positive: Bool[Nd, " token"], trajectory: Nd, seed: int
) -> dict[str, object]:
    """Returns a row of `agreement`: a score against the confirmed tokens; bootstrap intervals resample trajectories.

    Where a single trajectory has confirmed tokens all three hinge on it: resampling the others says nothing of it, and there are none.
    """
    hits = top1_hits(score, positive, trajectory)
    ids = list(dict.fromkeys(trajectory))
    places = [np.flatnonzero(trajectory == id) for id in ids]
    drawn = []
    for weights in cluster_weights(len(ids), DRAWS, seed) if len(ids) > 1 else ():
        rows = np.concatenate([np.repeat(place, int(times)) for place, times in zip(places, weights, strict=True)])
        top = [(hits[id], times) for id, times in zip(ids, weights, strict=True) if id in hits and times]
        drawn.append(
            Quality(
                auroc(score[rows], positive[rows]),
                average_precision(score[rows], positive[rows]),
                float(np.average([h for h, _ in top], weights=[w for _, w in top])) if top else float("nan"),
            )
        )
    found = Quality(auroc(score, positive), average_precision(score, positive), float(np.mean(list(hits.values()))))
    n = len(hits)
    low, high = (
        bootstrap_interval(np.array(found), np.array(drawn), n, (0.0, 1.0)) if n > 1 else np.full((2, 3), np.nan)
    )
    area, precision, top1 = (
        bounded(Estimate(float(value), float(low[index]), float(high[index]), n)) for index, value in enumerate(found)
    )
    return {
        "score": name,
        **area.columns("auroc"),
        **precision.columns("average_precision"),
        "top1_hit": top1.value,
        "top1_ci_low": top1.ci_low,
        "top1_ci_high": top1.ci_high,
        "n_trajectories": n,
        "n_positive": int(positive.sum()),
        "n_tokens": len(score),
    }
