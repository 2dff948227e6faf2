"""Synthetic chains whose values are known by dynamic programming: the ground truth for coverage, false discoveries and power."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Nd

from probes.critical_tokens.spine import values


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
