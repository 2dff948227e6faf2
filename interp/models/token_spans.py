"""Which tokens spell which words: from a phrase of a text, over character offsets, to positions of an encoder's block."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp.errors import ArgumentError

Role = Literal["bos", "text", "eos", "pad"]


@dataclass(frozen=True)
class Token:
    """One position of a conditioning: `position` counts on its sequence axis, the characters are those of the text as given.

    A token that stands for no characters (beginning, end, padding) has `char_start == char_end`.
    """

    encoder: str
    position: int
    token_id: int
    token: str
    role: Role
    char_start: int
    char_end: int


def read_tokens(text: str, tokenizer: Any, encoder: str, start: int, n_positions: int) -> list[Token]:
    """Returns what stands at each of an encoder's positions, which begin at `start`, when it reads the text.

    Offsets are into the text as given, also where the tokenizer lower-cases, composes characters or drops spaces.
    Raises ArgumentError when the text is longer than the encoder takes.
    """
    read = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids, offsets = read["input_ids"], read["offset_mapping"]
    if len(ids) > n_positions:
        raise ArgumentError(
            f"The text is {len(ids)} tokens long for the encoder {encoder}, which takes {n_positions}: shorten it (nothing is "
            f"cut). It begins {text[:40]!r}."
        )
    n_before = len(tokenizer("")["input_ids"]) - 1  # an end, and before it a beginning in CLIP but not in T5
    padding = [tokenizer.pad_token_id] * (n_positions - len(ids))
    tokens = []
    for place, id in enumerate([*ids, *padding]):
        role = _role(place, len(ids), n_before)
        begin, end = offsets[place] if role == "text" else (0, 0)
        tokens.append(Token(encoder, start + place, id, tokenizer.convert_ids_to_tokens(id), role, begin, end))
    return tokens


def _role(place: int, n_ids: int, n_before: int) -> Role:
    if place >= n_ids:
        return "pad"
    return "eos" if place == n_ids - 1 else "bos" if place < n_before else "text"


def spelling(tokens: Sequence[Token], start: int, end: int) -> tuple[int, ...]:
    """Returns the positions of the text tokens that hold any of the characters start … end - 1."""
    inside = [t for t in tokens if t.role == "text" and t.char_start < end and t.char_end > start]
    return tuple(token.position for token in inside)


def find_phrase(text: str, phrase: str, occurrence: int | None = None) -> tuple[int, int]:
    """Returns the characters [start, end) at which the phrase stands in the text, as whole words, in any case and spacing.

    `occurrence` counts from 0. Raises ArgumentError when the phrase is not there (with the nearest words that are), when it
    is there several times and none was chosen, or fewer times than that.
    """
    words = phrase.split()
    if not words:
        raise ArgumentError("The phrase to look for is empty: name a word of the text.")
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)"
    found = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
    if not found:
        raise ArgumentError(f"{phrase!r} is not in {text!r}.{_nearest(text, words)}")
    if occurrence is None and len(found) > 1:
        raise ArgumentError(
            f"{phrase!r} is {len(found)} times in {text!r}: say which with occurrence, from 0 to {len(found) - 1}."
        )
    if occurrence is not None and not 0 <= occurrence < len(found):
        raise ArgumentError(
            f"{phrase!r} is in {text!r} {len(found)} times, so there is no occurrence {occurrence}: count from 0."
        )
    return found[occurrence or 0]


def _nearest(text: str, words: Sequence[str]) -> str:
    """' Did you mean X?' for the run of as many words of the text that looks most like the phrase, or nothing."""
    import difflib

    known = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    runs = [" ".join(known[first : first + len(words)]) for first in range(len(known) - len(words) + 1)]
    wanted = " ".join(words).lower()
    near = difflib.get_close_matches(wanted, runs, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
