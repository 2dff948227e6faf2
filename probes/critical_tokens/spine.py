"""A trajectory as a spine that rollouts branch off: exact arithmetic that knows neither model nor task.

Write V_n for the chance of a right answer after the first n tokens of a trajectory and p_n for the policy's probability of its
token n. A rollout from the first n tokens either writes token n too (chance p_n) and then is a rollout from the first
n + 1 tokens, or branches off. So draw r from n is built from a coin: it follows the spine to the first m >= n whose coin
(m, r) falls on "branch", and from there it is the branch (m, r), the same for every n it is reached from. Draws of one n are
independent and exactly distributed; draws of different n share branches, and only branches cost tokens: a share of 1 − p.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Nd


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
