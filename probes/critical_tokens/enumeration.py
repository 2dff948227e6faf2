"""V without sampling error: the tree of continuations, likeliest first, until what is left cannot matter."""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-6
"""Continuations less likely than this are not followed; their mass stays between the bounds."""
_AT_ONCE = 8

Step = Callable[[Sequence[tuple[int, ...]]], Float[Tensor, "text vocabulary"]]
"""The policy's next-token probabilities after each continuation."""


class Bracket(NamedTuple):
    """Bounds that hold V for certain, and how many continuations were read."""

    low: float
    high: float
    n_nodes: int


def enumerate_value(
    step: Step,
    ended: Callable[[tuple[int, ...]], bool],
    right: Callable[[tuple[int, ...]], bool],
    *,
    room: int,
    gap: float = 0.01,
    most_nodes: int = 1000,
) -> Bracket:
    """Returns bounds on the chance that a continuation is right: low is the mass of finished right ones, 1 − high of wrong ones.

    Reads the likeliest unfinished continuations first and stops when the bounds are within `gap`, or after most_nodes.
    A continuation of `room` tokens has ended.
    """
    low, wrong, n_nodes = 0.0, 0.0, 0
    heap: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
    while heap and n_nodes < most_nodes and 1 - wrong - low > gap:
        taken = [heapq.heappop(heap) for _ in range(min(_AT_ONCE, len(heap), most_nodes - n_nodes))]
        probability = step([text for _, text in taken])
        n_nodes += len(taken)
        for (negative, text), row in zip(taken, probability, strict=True):
            mass = -negative * row
            for token in (mass >= FLOOR).nonzero().flatten().tolist():
                longer, share = (*text, token), float(mass[token])
                if not (ended(longer) or len(longer) == room):
                    heapq.heappush(heap, (-share, longer))
                elif right(longer):
                    low += share
                else:
                    wrong += share
    return Bracket(min(1.0, low), max(0.0, 1 - wrong), n_nodes)
