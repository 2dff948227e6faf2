"""Ways to go on from a prompt that ends anywhere, as distributions over the next byte. Mathematics alone, without a model."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from interp.models.bytes.canonical import State
from interp.models.bytes.covers import Expected, log_probabilities

FLOOR = 1e-12
"""The least probability that a way is taken to give a byte."""


def healed(
    expected: Mapping[State, Expected], prompt: State, n_bytes: int, heal_tokens: int
) -> Float[np.ndarray, " outcome"]:
    """Returns P of the next byte when the prompt's last `heal_tokens` tokens are chosen again so that they spell the same bytes.

    0 is the naive way: whatever token follows the prompt's own. The model's own probabilities count, also of tokens that the tokenizer
    would never write there: that is what token healing does.
    """
    log_p, total = log_probabilities(expected, raw=True), np.zeros(257)
    for state in _states(expected, prompt, heal_tokens):
        masses = expected[state].raw_masses
        if (depth := n_bytes - expected[state].at) < len(masses):
            total += np.exp(log_p[state] - log_p[prompt]) * masses[depth]
    return total / total.sum()


def missed_share(expected: Mapping[State, Expected], prompt: State, n_bytes: int, heal_tokens: int) -> float:
    """Returns the share of the prompt's exact probability whose covers a way does not look at."""
    log_p = log_probabilities(expected, raw=False)
    mass = {
        state: float(np.exp(log_p[state] - log_p[prompt]) * one.masses[n_bytes - one.at].sum())
        for state, one in expected.items()
        if 0 <= n_bytes - one.at < len(one.masses)
    }
    seen = sum(mass.get(state, 0.0) for state in _states(expected, prompt, heal_tokens))
    return max(0.0, 1 - seen / sum(mass.values()))


def _states(expected: Mapping[State, Expected], prompt: State, heal_tokens: int) -> Sequence[State]:
    """The prompt's tokens, and those without the last 1, 2, … as far as they were read."""
    found = [prompt[: len(prompt) - off] for off in range(min(heal_tokens, len(prompt)) + 1)]
    return [state for state in found if state in expected]


def divergence_nats(exact: Float[np.ndarray, " outcome"], way: Float[np.ndarray, " outcome"]) -> float:
    """Returns KL(exact ‖ way) in nats, with the way's probabilities floored."""
    some = exact > 0
    nats = float((exact[some] * (np.log(exact[some]) - np.log(np.maximum(way[some], FLOOR)))).sum())
    return max(0.0, nats)  # rounding may leave −1e-13
