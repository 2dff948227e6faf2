"""The exact probability of bytes under a model of tokens (Phan et al. 2024, arXiv:2410.09303; Vieira et al. 2024, arXiv:2412.03719).

A text x of bytes has the probability of all texts that begin with it: the sum over its covers, the valid token sequences whose
last token covers its last byte,

    P(x) = Σ_s P(s) · Σ p'(t | s)      over states s that spell a beginning of x exactly, and tokens t that begin with the rest of it
    P(next byte b | x) = P(x b) / P(x)

The paper gives invalid sequences (which the tokenizer never writes) no probability; a trained model gives them a little. Here every
step is shared out anew over what is valid, p'(t | s) = p(t | s) / Σ over valid t and the end, so that the bytes and the end sum to one
and their product is the probability of the string. `invalid_share` is what was taken away.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.errors import ArgumentError
from interp.models.bytes.canonical import Canonical, State, is_text
from interp.models.bytes.covers import END, ByteReading, Expected, combine
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import BosPolicy, beginning

ROWS_AT_ONCE = 32


class ByteModel:
    """Reads a token-level model as a byte-level model.

        bytes_of = ByteModel(model)
        bytes_of.next_byte("The capital of Fra")          # ln P of 256 bytes and the end
        bytes_of.log_prob("Paris is")                      # nats
        bytes_of.sample("def ", 40)

    `tolerance` is the largest share of a step's probability whose tokens are not tested for validity; tokens that match the given text
    are always tested. `bos` says what a text begins with, as everywhere; without a token before it the first one has no probability.
    """

    def __init__(self, model: LanguageModel, *, bos: BosPolicy = "always", tolerance: float = 1e-3) -> None:
        """Reads the vocabulary.

        Raises UserError for a tokenizer whose tokens do not spell bytes, ArgumentError for one without a token that begins texts.
        """
        self.model, self.tolerance = model, tolerance
        self.canonical = Canonical.of(model.tokenizer)
        self._begin = beginning(model.tokenizer, bos)
        if not self._begin:
            raise ArgumentError("Nothing stands before the first byte, so it has no probability: use bos='always'.")
        self.n_passes = 0
        """Distinct token sequences that were read so far."""

    # ------------------------------------------------------------------ what users ask

    def next_byte(self, prefix: str | bytes) -> Float[np.ndarray, " outcome"]:
        """Returns ln P of each of the 256 bytes and of the end of the text (index 256) after a prefix."""
        text = _as_bytes(prefix)
        return self.read(text, start=len(text)).log_p[0]

    def log_prob(self, text: str | bytes, *, given: str | bytes = b"") -> float:
        """Returns ln P(text | given) in nats: the probability that a text beginning with `given` continues with `text`."""
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
        """Returns next-byte distributions after text[:start] and every longer prefix, with one forward pass per distinct state.

        Raises UserError for a text that is no UTF-8 before its last character, or that the tokenizer rewrites.
        """
        return combine(text, start, len(self.canonical.lead), self.expectations(text, start=start))

    def expectations(self, text: bytes, *, start: int = 0) -> dict[State, Expected]:
        """Returns next-token distributions after every state from which a cover of text[:start], or of a longer prefix, continues.

        Raises what `read` raises.
        """
        lead = self.canonical.lead
        whole, first = lead + text, start + len(lead)
        self.canonical.check(whole)
        return self._expect(whole, self._states(whole, first))

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

    def _expect(self, whole: bytes, states: dict[State, int]) -> dict[State, Expected]:
        """Next-token distributions after every state."""
        self.n_passes += len(states)
        return {state: self._expected(row, whole, state, states) for state, row in self.logits_behind(states)}

    @torch.inference_mode()
    def logits_behind(self, states: Collection[State]) -> Iterator[tuple[State, Float[torch.Tensor, " vocabulary"]]]:
        """Yields next-token logits after every state. The longest chain of states is read in one pass, the others branch off it."""
        spine = max(states, key=lambda state: (len(state), state))
        rows = self.model.rows(1, len(self._begin) + len(spine) + self.canonical.longest)
        logits = self.model.extend(rows, [[*self._begin, *spine]], logits="all")[0]
        own = [state for length in range(len(spine) + 1) if (state := spine[:length]) in states]
        for state in own:
            yield state, logits[len(self._begin) - 1 + len(state)]
        others = sorted((state for state in states if state not in set(own)), key=len)
        for begin in range(0, len(others), ROWS_AT_ONCE):
            batch = others[begin : begin + ROWS_AT_ONCE]
            shared = [_common(state, spine) for state in batch]
            branch = rows.select([0] * len(batch))
            branch.crop([len(self._begin) + count for count in shared])
            scores = self.model.extend(branch, [state[count:] for state, count in zip(batch, shared, strict=True)])
            yield from zip(batch, scores[:, -1], strict=True)

    def _expected(self, logits: torch.Tensor, whole: bytes, state: State, states: dict[State, int]) -> Expected:
        canonical, at = self.canonical, states[state]
        p = torch.softmax(logits.double().cpu(), dim=-1).numpy()
        ends = float(sum(p[id] for id in canonical.specials if id < len(p)))
        raw = np.where(canonical.order < len(p), p[np.minimum(canonical.order, len(p) - 1)], 0.0)
        valid = np.where(self._valid(raw, whole, state, at), raw, 0.0)
        total = float(valid.sum()) + ends
        result = Expected(at, invalid_share=max(0.0, 1 - total))
        for depth in range(min(len(whole) - at, canonical.longest) + 1):
            low, high = canonical.beginning_with(whole[at : at + depth])
            if low >= high:
                break
            following = canonical.matrix[low:high, depth]
            ending = (
                ends if depth == (0 if state else len(canonical.lead)) else 0.0
            )  # before the empty text is no blank
            result.masses.append(_by_next_byte(following, valid[low:high] / total, ending / total))
            result.raw_masses.append(_by_next_byte(following, raw[low:high], ending))
        for other in states:
            if len(other) == len(state) + 1 and other[:-1] == state:
                place = canonical.place_of[other[-1]]
                with np.errstate(divide="ignore"):
                    result.log_children[other[-1]] = (float(np.log(valid[place] / total)), float(np.log(raw[place])))
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
            low, high = canonical.spelling(
                whole[at : at + 1]
            )  # the byte itself, and its byte token where both are there
            checked[low:high] = True
        places = np.flatnonzero(checked)
        valid = np.ones(len(mine), dtype=bool)
        known = whole[at:]
        valid[places] = canonical.valid(state, whole[:at], canonical.order[places].tolist(), known)
        return valid


def _by_next_byte(
    following: Int[np.ndarray, " token"], p: Float[np.ndarray, " token"], ending: float
) -> Float[np.ndarray, " outcome"]:
    """The probability of tokens by the byte that follows in them (-1 for none), and of the end."""
    longer = following >= 0
    return np.append(np.bincount(following[longer], weights=p[longer], minlength=END), ending)


def _as_bytes(text: str | bytes) -> bytes:
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise ArgumentError(f"Character {error.start} of the text has no bytes in UTF-8: leave it out.") from error


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


class ByteEnsemble:
    """A mixture of byte models: P(b | x) = Σ weight · P_model(b | x). The weights do not depend on the text so far."""

    def __init__(self, models: Sequence[ByteModel], weights: Sequence[float] | None = None) -> None:
        """Takes models and weights, equal ones if not given. Raises ArgumentError for none, or for weights that are no shares."""
        self.models = tuple(models)
        chosen = np.full(len(self.models), 1 / max(1, len(self.models))) if weights is None else np.asarray(weights)
        if not self.models or len(chosen) != len(self.models) or (chosen < 0).any() or not np.isclose(chosen.sum(), 1):
            raise ArgumentError("An ensemble needs models, and as many weights, not negative, that sum to 1.")
        self.weights: Float[np.ndarray, " model"] = chosen

    def read(self, text: bytes, *, start: int = 0) -> Float[np.ndarray, "place outcome"]:
        """Returns ln P of the 256 bytes and the end after text[:start] and every longer prefix."""
        return self.mixed([model.read(text, start=start) for model in self.models])

    def mixed(self, readings: Sequence[ByteReading]) -> Float[np.ndarray, "place outcome"]:
        """Returns ln P of the mixture, from each model's distributions after the same text."""
        with np.errstate(divide="ignore"):
            parts = [reading.log_p + np.log(weight) for reading, weight in zip(readings, self.weights, strict=True)]
        return np.logaddexp.reduce(parts, axis=0)

    def next_byte(self, prefix: str | bytes) -> Float[np.ndarray, " outcome"]:
        """Returns ln P of each of the 256 bytes and of the end (index 256) after a prefix."""
        text = prefix.encode() if isinstance(prefix, str) else prefix
        return self.read(text, start=len(text))[0]

    def log_prob(self, text: str | bytes) -> float:
        """Returns ln P of a text in nats."""
        whole = text.encode() if isinstance(text, str) else text
        return float(self.read(whole)[np.arange(len(whole)), list(whole)].sum())


@dataclass(frozen=True)
class Filled:
    """A middle, and ln P(middle, end | beginning) in nats."""

    middle: bytes
    log_prob: float


def fill(of_bytes: ByteModel, before: str | bytes, after: str | bytes, n_bytes: int, *, width: int = 4) -> list[Filled]:
    """Returns middles of up to `n_bytes` bytes for which `before + middle + after` is likely, the most likely first.

    A left-to-right model says nothing of the middle alone, so the middle with the greatest P(middle, after | before) is wanted (of
    P(middle | before, after) it is the same one). Middles are grown byte by byte, the `width` likeliest of each length are kept, and
    each is held against the end. Where a cut falls inside a token, what is typed is no obstacle (Phan et al. 2024, section 4, fill in
    the middle with models that were trained for it; here any causal model does).
    Raises ArgumentError for a middle of no bytes, UserError for a text that the tokenizer rewrites.
    """
    if n_bytes < 1 or width < 1:
        raise ArgumentError("n_bytes and width must be 1 or more.")
    begin, end = (text.encode() if isinstance(text, str) else text for text in (before, after))
    grown, found = [(b"", 0.0)], []
    for length in range(n_bytes + 1):
        for middle, log_p in grown:
            if is_text(begin + middle):
                found.append(Filled(middle, log_p + of_bytes.log_prob(end, given=begin + middle)))
        if length == n_bytes:
            break
        longer = []
        for middle, log_p in grown:
            nexts = of_bytes.next_byte(begin + middle)[:END]
            longer += [(middle + bytes([byte]), log_p + float(nexts[byte])) for byte in nexts.argsort()[-width:]]
        grown = sorted(longer, key=lambda one: -one[1])[:width]
    return sorted(found, key=lambda one: -one.log_prob)
