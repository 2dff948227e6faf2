"""Which token sequences a tokenizer would write: the valid ones, that a model of its tokens was trained on.

A sequence is valid if it is the beginning of the tokens of some text. What a text's last token is depends on what follows it: a
word piece may grow, and pre-tokenizers look ahead behind white space. So a sequence is tried with a few texts behind it.
"""

import re
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from interp.errors import UserError
from interp.models.language.word_tokens import token_bytes

PROBES = ("", "a", " ", "\n", " a", "1", ".")
"""What may follow: the kinds of character that pre-tokenizers tell apart, and nothing."""
COMPLETIONS = 8
"""Characters that are tried for one of which only the first bytes are there."""
_CUT = re.compile(rb"(?<=[A-Za-z])(?= [A-Za-z])")
"""Where a text may be cut without a change to the tokens behind: before a blank between two words."""
_WITHIN = re.compile(rb"[^\s] [^\s]")
_NEAR = 8
"""Bytes that are kept before the place that is looked at."""

_SPACES = [space.encode() for space in "\x85\xa0\u1680\u2000\u2028\u202f\u205f\u3000"]
"""White space of several bytes, which pre-tokenizers treat otherwise than letters."""

State = tuple[int, ...]


class Canonical:
    """The valid token sequences of one tokenizer, in bytes."""

    _known: ClassVar["weakref.WeakKeyDictionary[Any, Canonical]"] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, tokenizer: Any) -> "Canonical":
        """Returns the sequences of a tokenizer, indexed once for as long as it has the tokens that it has.

        Raises what `Canonical(tokenizer)` raises.
        """
        known = cls._known.get(tokenizer)
        if known is None or len(known.parts) != len(tokenizer):
            known = cls._known[tokenizer] = cls(tokenizer)
        return known

    def __init__(self, tokenizer: Any) -> None:
        """Indexes the vocabulary by bytes. Raises UserError where tokens are not bytes one after the other."""
        self.parts = token_bytes(tokenizer)
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()
        if any(token.single_word and not token.special for token in tokenizer.added_tokens_decoder.values()):
            raise UserError(
                "This tokenizer has added tokens that are written as whole words alone, so what is valid depends on all that follows: name "
                "another model."
            )
        self.specials = {id for id, part in enumerate(self.parts) if part is None}
        known = [(part, id) for id, part in enumerate(self.parts) if part]
        known.sort()
        self.spelled: list[bytes] = [part for part, _ in known]
        """The tokens' bytes in order; `order` are their ids."""
        self.order: Int[np.ndarray, " spelled"] = np.array([id for _, id in known])
        self.longest = max(map(len, self.spelled))
        self.lead = self._written_before()
        self._words_apart = not any(_WITHIN.search(part) for part in self.spelled)
        """Whether a blank before a word always begins a token, as all pre-tokenizers but those of superwords have it."""
        if any(len(self._ids([self.lead + bytes([byte])])[0] or ()) == 0 for byte in range(0x21, 0x7F)):
            raise UserError("This tokenizer's vocabulary does not spell every byte: name a byte-level model.")

    def _written_before(self) -> bytes:
        """The blank that SentencePiece writes before a text, as bytes: it belongs to the first token."""
        ids = self._backend.encode("a", add_special_tokens=False).ids
        written = b"".join(self.parts[id] or b"" for id in ids)
        if written in (b"a", b" a"):
            return written[:-1]
        raise UserError("This tokenizer rewrites texts, so their bytes have no probability: name another model.")

    # ------------------------------------------------------------------ tokens of bytes

    def encode(self, text: bytes) -> State:
        """Returns the tokens of a text of whole characters, the blank before it included.

        Raises UserError for bytes that are no text, and for a text that the tokenizer rewrites.
        """
        found = self._ids([text])[0]
        if found is None:
            raise UserError("Bytes that are not valid UTF-8 have no tokens: give whole characters.")
        if b"".join(self.parts[id] or b"" for id in found) != text:
            raise UserError("The tokenizer normalises this text (accents or white space): give its normalised form.")
        return found

    def _ids(self, texts: Sequence[bytes]) -> list[State | None]:
        """The tokens of texts that begin with what is written before every text; None for what is no text."""
        decoded = [_text(text[len(self.lead) :]) if text.startswith(self.lead) else None for text in texts]
        good = [text for text in decoded if text is not None]
        encoded = iter(self._backend.encode_batch(good, add_special_tokens=False))
        return [None if text is None else tuple(next(encoded).ids) for text in decoded]

    # ------------------------------------------------------------------ valid sequences

    def states(self, text: bytes, at: int, known: bytes = b"") -> set[State]:
        """Returns the valid sequences that spell exactly text[:at], as far as the probes and the `known` text behind it show them."""
        if at == 0:
            return {()}
        found: set[State] = set()
        for ids in self._ids([text[:at] + end for end in self._endings(text[:at], known)]):
            if ids is not None and (kept := self._up_to(ids, text[:at])) is not None:
                found.add(kept)
        return found

    def check(self, text: bytes) -> None:
        """Raises UserError for a text that is no UTF-8 up to its last character, or that the tokenizer rewrites."""
        whole = text[: len(text) - len(_unfinished(text))]
        if whole != self.lead:
            self.encode(whole)

    def _up_to(self, ids: State, text: bytes) -> State | None:
        """The first tokens that spell a text exactly, None if none do."""
        length = 0
        for count, id in enumerate(ids):
            if length == len(text):
                return ids[:count]
            length += len(self.parts[id] or b"")
        return ids if length == len(text) else None

    def _endings(self, text: bytes, known: bytes = b"") -> list[bytes]:
        """What may follow a text: the probes, and the known text; behind part of a character what completes it."""
        part = _unfinished(text)
        if not part:
            return [probe.encode() for probe in PROBES] + ([known] if known else [])
        return list(dict.fromkeys([*([known] if known else []), *_completions(part)]))

    def valid(self, state: State, text: bytes, tokens: Iterable[int], known: bytes = b"") -> Bool[np.ndarray, " token"]:
        """Returns for each token whether the state, which spells `text`, followed by it is valid."""
        wanted = list(tokens)
        near, tail = self._tail(state, text)
        found = np.zeros(len(wanted), dtype=bool)
        todo: dict[int, bytes] = {}
        apart = self._words_apart and near[-1:].isascii() and not near[-1:].isspace() and near != b""
        for place, id in enumerate(wanted):
            part = self.parts[id] or b""
            if apart and part[:1] == b" " and part[1:].isalpha():
                found[place] = self._alone[id]
            elif part:
                todo[place] = near + part
        plain = {place: whole for place, whole in todo.items() if not _unfinished(whole)}
        for place, ids in zip(plain, self._ids(list(plain.values())), strict=True):
            found[place] = ids == (*tail, wanted[place])
        rest = [
            (place, whole + end)
            for place, whole in todo.items()
            if not found[place] and (place not in plain or whole[-1:].isspace())
            for end in self._endings(whole, known[len(whole) - len(near) :])[0 if place not in plain else 1 :]
        ]
        for (place, _), ids in zip(rest, self._ids([whole for _, whole in rest]), strict=True):
            found[place] |= ids is not None and ids[: len(tail) + 1] == (*tail, wanted[place])
        return found

    def _tail(self, state: State, text: bytes) -> tuple[bytes, State]:
        """The end of a text from a place where it may be cut, and the tokens of that end."""
        cuts = [place.start() for place in _CUT.finditer(text)] if self._words_apart else []
        cut = next((place for place in reversed(cuts) if place <= len(text) - _NEAR), 0)
        length = 0
        for count, id in enumerate(state):
            if length == cut:
                end = text[cut:]
                return (end, state[count:]) if not self.lead or end.startswith(self.lead) else (text, state)
            length += len(self.parts[id] or b"")
        return text, state

    @cached_property
    def _alone(self) -> Bool[np.ndarray, " token"]:
        """For every token that is a word behind a blank: whether the tokenizer writes that word as this token."""
        words = [id for id, part in enumerate(self.parts) if part and part[:1] == b" " and part[1:].isalpha()]
        found = np.zeros(len(self.parts), dtype=bool)
        before = self.encode(self.lead + b"a")
        for id, ids in zip(words, self._ids([self.lead + b"a" + (self.parts[id] or b"") for id in words]), strict=True):
            found[id] = ids == (*before, id)
        return found

    # ------------------------------------------------------------------ tokens by their bytes

    def beginning_with(self, text: bytes) -> tuple[int, int]:
        """Returns the range in `order` of the tokens whose bytes begin with a text."""
        end = text.rstrip(b"\xff")
        last = len(self.spelled) if not end else bisect_left(self.spelled, end[:-1] + bytes([end[-1] + 1]))
        return bisect_left(self.spelled, text), last

    def spelling(self, text: bytes) -> tuple[int, int]:
        """Returns the range in `order` of the tokens whose bytes are exactly a text."""
        return bisect_left(self.spelled, text), bisect_right(self.spelled, text)

    @cached_property
    def place_of(self) -> dict[int, int]:
        """The place of every token in `order`."""
        return {int(id): place for place, id in enumerate(self.order)}

    @cached_property
    def matrix(self) -> Int[np.ndarray, "spelled byte"]:
        """Bytes of every token, in `order`; -1 behind its end."""
        table = np.full((len(self.spelled), self.longest + 1), -1, dtype=np.int16)
        for row, part in enumerate(self.spelled):
            table[row, : len(part)] = np.frombuffer(part, dtype=np.uint8)
        return table


def _text(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def is_text(text: bytes) -> bool:
    """Returns whether bytes are UTF-8, whole characters throughout."""
    return _text(text) is not None


def _unfinished(text: bytes) -> bytes:
    """The first bytes of a character that a text ends in the middle of; b"" if it ends with a whole one, or with no character."""
    for length in range(1, 4):
        first = text[-length : len(text) - length + 1]
        if first and first[0] >= 0xC0:
            needed = 2 if first[0] < 0xE0 else 3 if first[0] < 0xF0 else 4
            return text[-length:] if length < needed else b""
        if not first or first[0] < 0x80:
            return b""
    return b""


def _completions(part: bytes) -> list[bytes]:
    """The last bytes of characters that begin with some: as many as are tried, spread over all of them."""
    missing = (2 if part[0] < 0xE0 else 3 if part[0] < 0xF0 else 4) - len(part)
    total = 64**missing
    found = [space[len(part) :] for space in _SPACES if space.startswith(part) and len(space) > len(part)]
    for number in range(0, total, max(1, total // COMPLETIONS)):
        end = bytes(0x80 + (number >> 6 * place) % 64 for place in reversed(range(missing)))
        if _text(part + end) is not None:
            found.append(end)
    return found
