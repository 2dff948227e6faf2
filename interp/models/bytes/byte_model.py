"""The exact probability of bytes under a model of tokens (Phan et al. 2024, arXiv:2410.09303; Vieira et al. 2024, arXiv:2412.03719).

A text x of bytes has the probability of all texts that begin with it: the sum over its covers, the valid token sequences whose
last token covers its last byte,

    P(x) = Σ_s P(s) · Σ p'(t | s)      over states s that spell a beginning of x exactly, and tokens t that begin with the rest of it
    P(next byte b | x) = P(x b) / P(x)

The paper gives invalid sequences (which the tokenizer never writes) no probability; a trained model gives them a little. Here every
step is shared out anew over what is valid, p'(t | s) = p(t | s) / Σ over valid t and the end, so that the bytes and the end sum to one
and their product is the probability of the string. `invalid_share` is what was taken away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from interp.errors import ArgumentError
from interp.models.bytes.canonical import Canonical, State
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import BosPolicy, beginning

END = 256
"""The outcome that the text ends, behind the 256 bytes."""
ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class ByteReading:
    """What the model expects behind every place of a text, from byte `start` on."""

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
        """Returns ln P of the text from `start` on, in nats, given what stands before."""
        places = np.arange(len(self.text) - self.start)
        return float(self.log_p[places, list(self.text[self.start :])].sum())


@dataclass
class _Expected:
    """What is expected behind one state: ln p' of its continuations, by the bytes that they take."""

    at: int
    """Bytes that the state spells."""
    masses: list[Float[np.ndarray, " outcome"]] = field(default_factory=list)
    """For the text up to at, at + 1, …: p' of the tokens that begin with the bytes in between, by their next byte; then the end."""
    log_children: dict[int, float] = field(default_factory=dict)
    """ln p' of the tokens that lead to other states."""
    invalid_share: float = 0.0


class ByteModel:
    """A model of tokens as a model of bytes.

        bytes_of = ByteModel(model)
        bytes_of.next_byte("The capital of Fra")          # ln P of 256 bytes and the end
        bytes_of.log_prob("Paris is")                      # nats
        bytes_of.sample("def ", 40)

    `tolerance` is the share of a step's probability whose tokens are not checked for being valid; tokens that go on with the text
    given are always checked. `bos` is as everywhere: what a text begins with; without one the first token would have no probability.
    """

    def __init__(self, model: LanguageModel, *, bos: BosPolicy = "always", tolerance: float = 1e-3) -> None:
        """Reads the vocabulary.

        Raises UserError for a tokenizer whose tokens do not spell bytes, ArgumentError for one without a token that begins texts.
        """
        self.model, self.tolerance = model, tolerance
        self.canonical = Canonical(model.tokenizer)
        self._begin = beginning(model.tokenizer, bos)
        if not self._begin:
            raise ArgumentError("Nothing stands before the first byte, so it has no probability: use bos='always'.")
        self.n_passes = 0
        """Distinct token sequences that were read so far."""

    # ------------------------------------------------------------------ what users ask

    def next_byte(self, prefix: str | bytes) -> Float[np.ndarray, " outcome"]:
        """Returns ln P of each of the 256 bytes and of the end (index 256) behind a prefix."""
        text = _as_bytes(prefix)
        return self.read(text, start=len(text)).log_p[0]

    def log_prob(self, text: str | bytes, *, given: str | bytes = b"") -> float:
        """Returns ln P in nats that a text which begins with `given` goes on with `text`."""
        before = _as_bytes(given)
        whole = before + _as_bytes(text)
        return self.read(whole, start=len(before)).log_prob() if len(whole) > len(before) else 0.0

    def sample(self, prompt: str | bytes, n_bytes: int, *, seed: int = 0) -> bytes:
        """Returns a continuation drawn byte by byte, at most `n_bytes` long: shorter where the text ends."""
        generator, written = np.random.default_rng(seed), _as_bytes(prompt)
        for _ in range(n_bytes):
            outcome = int(generator.choice(END + 1, p=np.exp(self.next_byte(written))))
            if outcome == END:
                break
            written += bytes([outcome])
        return written[len(_as_bytes(prompt)) :]

    # ------------------------------------------------------------------ reading

    def read(self, text: bytes, *, start: int = 0) -> ByteReading:
        """Returns what is expected behind text[:start] and every longer beginning: one forward for each distinct state.

        Raises UserError for a text that is no UTF-8 before its last character, or that the tokenizer rewrites.
        """
        lead = self.canonical.lead
        whole, first = lead + text, start + len(lead)
        self.canonical.check(whole)
        states = self._states(whole, first)
        expected = self._expect(whole, states, first)
        return self._combine(text, whole, start, first, expected)

    def _states(self, whole: bytes, first: int) -> dict[State, int]:
        """The states that covers of whole[:first] and longer begin with, with the bytes they spell, parents included."""
        found: dict[State, int] = {}
        for at in range(len(self.canonical.lead) and 0, len(whole) + 1):
            low, high = self.canonical.beginning_with(whole[at:first]) if at < first else (0, 1)
            if low < high and (at == 0 or at >= len(self.canonical.lead)):
                for state in self.canonical.states(whole, at, whole[at : at + 8]):
                    found[state] = at
        common = min((len(state) for state in found), default=0)
        while common and len({state[:common] for state in found}) > 1:
            common -= 1
        for state, spelled in list(found.items()):
            at = spelled
            for length in range(len(state) - 1, common - 1, -1):
                at -= len(self.canonical.parts[state[length]] or b"")
                found.setdefault(state[:length], at)
        return found

    @torch.inference_mode()
    def _expect(self, whole: bytes, states: dict[State, int], first: int) -> dict[State, _Expected]:
        """What is expected behind every state. The longest chain of states is read in one pass, the others branch off it."""
        spine = max(states, key=lambda state: (len(state), state))
        own = [spine[:length] for length in range(len(spine) + 1)]
        rows = self.model.rows(1, len(self._begin) + len(spine) + self.canonical.longest)
        ids = [*self._begin, *spine]
        logits = self.model.extend(rows, [ids], logits="all")[0]
        found = {}
        for length, state in enumerate(own):
            if state in states:
                found[state] = self._expected(logits[len(self._begin) - 1 + length], whole, state, states, first)
        others = sorted((state for state in states if state not in found), key=len)
        self.n_passes += len(states)
        for begin in range(0, len(others), ROWS_AT_ONCE):
            batch = others[begin : begin + ROWS_AT_ONCE]
            shared = [_common(state, spine) for state in batch]
            branch = rows.select([0] * len(batch))
            branch.crop([len(self._begin) + count for count in shared])
            scores = self.model.extend(branch, [state[count:] for state, count in zip(batch, shared, strict=True)])
            for state, row in zip(batch, scores[:, -1], strict=True):
                found[state] = self._expected(row, whole, state, states, first)
        return found

    def _expected(
        self, logits: torch.Tensor, whole: bytes, state: State, states: dict[State, int], first: int
    ) -> _Expected:
        canonical, at = self.canonical, states[state]
        p = torch.softmax(logits.double().cpu(), dim=-1).numpy()
        ends = float(sum(p[id] for id in canonical.specials if id < len(p)))
        mine = np.where(canonical.order < len(p), p[np.minimum(canonical.order, len(p) - 1)], 0.0)
        mine = np.where(self._valid(mine, whole, state, at), mine, 0.0)
        total = float(mine.sum()) + ends
        mine, result = mine / total, _Expected(at, invalid_share=max(0.0, 1 - total))
        for depth in range(len(whole) - at + 1):
            low, high = canonical.beginning_with(whole[at : at + depth])
            if low >= high:
                break
            following = canonical.matrix[low:high, depth] if depth < canonical.longest + 1 else None
            masses = np.zeros(END + 1)
            if following is not None:
                longer = following >= 0
                masses[:END] = np.bincount(following[longer], weights=mine[low:high][longer], minlength=END)
            if depth == (0 if state else len(canonical.lead)):  # the empty text has no blank before it
                masses[END] = ends / total
            result.masses.append(masses)
        children = {other[len(state)] for other in states if len(other) == len(state) + 1 and other[:-1] == state}
        place = {int(id): index for index, id in enumerate(canonical.order)} if children else {}
        for id in children:
            with np.errstate(divide="ignore"):
                result.log_children[id] = float(np.log(mine[place[id]]))
        return result

    def _valid(self, mine: np.ndarray, whole: bytes, state: State, at: int) -> np.ndarray:
        """Which tokens, in the order of their bytes, may follow a state: the likely ones and those that go on with the text are checked."""
        canonical = self.canonical
        chosen = np.argsort(-mine, kind="stable")
        n_likely = int(np.searchsorted(np.cumsum(mine[chosen]), mine.sum() - self.tolerance)) + 1
        checked = np.zeros(len(mine), dtype=bool)
        checked[chosen[:n_likely]] = True
        if at < len(whole):
            low, high = canonical.beginning_with(whole[at : at + 2])
            checked[low:high] = True
        places = np.flatnonzero(checked)
        valid = np.ones(len(mine), dtype=bool)
        known = whole[at:]
        valid[places] = canonical.valid(state, whole[:at], canonical.order[places].tolist(), known)
        return valid

    def _combine(
        self, text: bytes, whole: bytes, start: int, first: int, expected: dict[State, _Expected]
    ) -> ByteReading:
        log_p_of: dict[State, float] = {}
        shortest = min(map(len, expected))
        for state in sorted(expected, key=len):
            parent = expected.get(state[:-1]) if len(state) > shortest else None
            log_p_of[state] = 0.0 if parent is None else log_p_of[state[:-1]] + parent.log_children[state[-1]]
        n_places = len(text) - start + 1
        rows, covers = np.full((n_places, END + 1), -np.inf), [0] * n_places
        invalid = np.zeros(n_places)
        for state, one in expected.items():
            for depth, masses in enumerate(one.masses):
                place = one.at + depth - first
                if place >= 0 and masses.any() and log_p_of[state] > -np.inf:
                    with np.errstate(divide="ignore"):
                        rows[place] = np.logaddexp(rows[place], log_p_of[state] + np.log(masses))
                    covers[place] += 1
        own = sorted((one.at, one.invalid_share) for one in expected.values())
        for place in range(n_places):
            invalid[place] = next((share for at, share in reversed(own) if at <= first + place), 0.0)
        total = np.logaddexp.reduce(rows, axis=1)
        if not np.isfinite(total).all():
            raise ArgumentError("No token sequence of this tokenizer spells the text: give whole characters.")
        return ByteReading(text, start, rows - total[:, None], invalid, covers)


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
