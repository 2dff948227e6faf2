"""What is expected behind states, put together to what is expected behind every byte. Mathematics alone, without a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from interp.errors import ArgumentError, UserError
from interp.models.bytes.canonical import State

END = 256
"""The outcome that the text ends, behind the 256 bytes."""

LEAK_NATS = 0.02
"""How far P(x b) may be from the sum over the states and covers that go on from x b: it is the same sum, if none is missing."""


@dataclass(frozen=True)
class ByteReading:
    """Next-byte distributions at every position of a text, from byte `start` on."""

    text: bytes
    start: int
    log_p: Float[np.ndarray, "place outcome"]
    """ln P of the 256 bytes and the end, behind text[:start], text[:start + 1], … and the whole text."""
    invalid_share: Float[np.ndarray, " place"]
    """Share of the model's probability that lay on sequences which the tokenizer never writes, behind the text's own tokens up to
    the last token border."""
    n_covers: list[int]
    """States that a cover of the text up to the place begins with."""

    def log_prob(self) -> float:
        """Returns ln P of the text from `start` on, in nats, given the text before it."""
        places = np.arange(len(self.text) - self.start)
        return float(self.log_p[places, list(self.text[self.start :])].sum())


@dataclass
class Expected:
    """What is expected behind one state: ln p' of its continuations, by the bytes that they take."""

    at: int
    """Bytes that the state spells."""
    masses: list[Float[np.ndarray, " outcome"]] = field(default_factory=list)
    """For the text up to at, at + 1, …: p' of the tokens that begin with the bytes in between, by their next byte; then the end."""
    raw_masses: list[Float[np.ndarray, " outcome"]] = field(default_factory=list)
    """The same of the model's own p, sequences that the tokenizer never writes included."""
    log_children: dict[int, tuple[float, float]] = field(default_factory=dict)
    """ln p' and ln p of the tokens that lead to other states."""
    invalid_share: float = 0.0


def combine(text: bytes, start: int, lead: int, expected: Mapping[State, Expected]) -> ByteReading:
    """Returns what is expected behind every place of a text from the expectations of its states; `lead` bytes stand before the text.

    Raises ArgumentError where no state leads to a place, UserError where states are missing, so that the sums do not agree.
    """
    first, n_places = start + lead, len(text) - start + 1
    log_p_of = log_probabilities(expected, raw=False)
    rows, covers = np.full((n_places, END + 1), -np.inf), [0] * n_places
    for state, one in expected.items():
        for depth, masses in enumerate(one.masses):
            place = one.at + depth - first
            if place >= 0 and masses.any() and log_p_of[state] > -np.inf:
                with np.errstate(divide="ignore"):
                    rows[place] = np.logaddexp(rows[place], log_p_of[state] + np.log(masses))
                covers[place] += 1
    own = sorted((one.at, one.invalid_share) for one in expected.values())
    invalid = [next((share for at, share in reversed(own) if at <= first + place), 0.0) for place in range(n_places)]
    total = np.logaddexp.reduce(rows, axis=1)
    if not np.isfinite(total).all():
        raise ArgumentError("No token sequence of this tokenizer spells the text: give whole characters.")
    leaks = np.abs(total[1:] - rows[np.arange(n_places - 1), list(text[start:])])
    if n_places > 1 and leaks.max() > LEAK_NATS:
        raise UserError(
            f"The token sequences that spell this text cannot all be followed (off by {leaks.max():.2g} nats at byte "
            f"{start + int(leaks.argmax()) + 1}): what this tokenizer writes at a text's beginning depends on what comes later, so name "
            "another model."
        )
    return ByteReading(text, start, rows - total[:, None], np.array(invalid), covers)


def log_probabilities(expected: Mapping[State, Expected], *, raw: bool) -> dict[State, float]:
    """Returns ln P of every state given the shortest, shared out over what is valid or, `raw`, as the model has it."""
    found: dict[State, float] = {}
    shortest = min(map(len, expected))
    for state in sorted(expected, key=len):
        parent = expected.get(state[:-1]) if len(state) > shortest else None
        found[state] = 0.0 if parent is None else found[state[:-1]] + parent.log_children[state[-1]][raw]
    return found
