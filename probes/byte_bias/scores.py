"""Ways to go on from a prompt that ends anywhere, as distributions over the next byte. Mathematics alone, without a model."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from interp.models.bytes.canonical import State
from interp.models.bytes.covers import Expected, log_probabilities

FLOOR = 1e-12
"""The least probability that a way is taken to give a byte."""
DEAD = (np.full(257, 1 / 257), -np.inf)
"""What a beam expects of which no cover goes on with the text: any outcome alike, with no mass."""


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
    mass = _log_masses(expected, n_bytes)
    seen = [mass[state] for state in _states(expected, prompt, heal_tokens) if state in mass]
    return (
        max(0.0, 1 - float(np.exp(np.logaddexp.reduce(seen) - np.logaddexp.reduce(list(mass.values())))))
        if seen
        else 1.0
    )


def total_log_mass(expected: Mapping[State, Expected], n_bytes: int, *, raw: bool = False) -> float:
    """Returns ln P of the first `n_bytes` bytes by all covers, given the shortest state.

    `raw`: by the model's own p, which also gives something to what the tokenizer never writes.
    """
    return float(np.logaddexp.reduce(list(_log_masses(expected, n_bytes, raw=raw).values())))


def _log_masses(expected: Mapping[State, Expected], n_bytes: int, *, raw: bool = False) -> dict[State, float]:
    """Logarithm of P of the covers that begin with each state."""
    log_p = log_probabilities(expected, raw=raw)
    masses = {
        state: float((one.raw_masses if raw else one.masses)[n_bytes - one.at].sum())
        for state, one in expected.items()
        if 0 <= n_bytes - one.at < len(one.masses)
    }
    return {state: log_p[state] + float(np.log(mass)) for state, mass in masses.items() if mass > 0}


def _states(expected: Mapping[State, Expected], prompt: State, heal_tokens: int) -> Sequence[State]:
    """The prompt's tokens, and those without the last 1, 2, … as far as they were read."""
    found = [prompt[: len(prompt) - off] for off in range(min(heal_tokens, len(prompt)) + 1)]
    return [state for state in found if state in expected]


def beam(
    expected: Mapping[State, Expected], text: bytes, n_items: int
) -> dict[int, tuple[Float[np.ndarray, " outcome"], float]]:
    """Returns, by the bytes before it, P of the next byte and ln of the mass of a search that keeps the `n_items` heaviest covers.

    A cover is a state and the bytes of a token begun behind it; at every byte the lighter ones are dropped for good, as beams over
    the trie of a vocabulary do (genlm-bytes, without its repairs). The mass is a lower bound on P(text), and counts from the shortest
    state on. Where no kept cover goes on with the text, the beam ends: later places are missing.
    """
    begin = min(expected, key=len)
    log_p, place = log_probabilities(expected, raw=False), expected[begin].at
    items, found = {(begin, 0)}, {}
    while items:
        nexts = np.sum([np.exp(log_p[state]) * expected[state].masses[depth] for state, depth in items], axis=0)
        found[place] = (nexts / nexts.sum(), float(np.log(nexts.sum())))
        place += 1
        grown = {
            (state, depth + 1): float(np.exp(log_p[state]) * expected[state].masses[depth + 1].sum())
            for state, depth in items
            if depth + 1 < len(expected[state].masses)
        }
        for state, _ in items:
            for token, (of_token, _) in expected[state].log_children.items():
                child = (*state, token)
                if expected[child].at == place and of_token > -np.inf:
                    grown[child, 0] = float(np.exp(log_p[child]))
        heaviest = sorted(grown, key=lambda item: -grown[item])[:n_items] if place <= len(text) else []
        items = {item for item in heaviest if grown[item] > 0}
    return found


def divergence_nats(exact: Float[np.ndarray, " outcome"], way: Float[np.ndarray, " outcome"]) -> float:
    """Returns KL(exact ‖ way) in nats, with the way's probabilities floored."""
    some = exact > 0
    nats = float((exact[some] * (np.log(exact[some]) - np.log(np.maximum(way[some], FLOOR)))).sum())
    return max(0.0, nats)  # rounding may leave −1e-13
