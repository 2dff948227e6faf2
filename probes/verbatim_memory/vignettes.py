"""A trial as token ids: preface, first list, text between, second list, each encoded by itself.

Armeni et al. 2022 encode the parts separately too. Since no part's tokens depend on what follows, trials share what they
begin with, token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.models.encoding import Piece, covering, encode_piece


@dataclass(frozen=True)
class EncodedList:
    """A noun list as tokens; `spans` are each noun's tokens [first, last), its leading space included."""

    nouns: tuple[str, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, *, first: bool = False) -> tuple[int, ...]:
    """Returns the tokens of a part of a trial; all but the first begin with a space."""
    return tuple(encode_piece(tokenizer, text if first else " " + text).ids)


def encode_list(tokenizer: PreTrainedTokenizerBase, nouns: Sequence[str]) -> EncodedList:
    """Returns the tokens of " noun, noun, noun." with the span of each noun.

    Raises ArgumentError for a noun whose tokens also hold its neighbours' characters, or that the tokenizer cannot spell.
    """
    text = "".join(f" {noun}," for noun in nouns)[:-1] + "."
    piece = encode_piece(tokenizer, text)
    spans, start = [], 0
    for noun in nouns:
        spans.append(_span(piece, start, start + 1 + len(noun), noun))
        start += len(noun) + 2
    unknown = tokenizer.unk_token_id
    for noun, (first, last) in zip(nouns, spans, strict=True):
        if unknown is not None and unknown in piece.ids[first:last]:
            raise ArgumentError(f"The tokenizer cannot spell the noun {noun}: leave it out of the pool.")
    return EncodedList(tuple(nouns), tuple(piece.ids), tuple(spans))


def _span(piece: Piece, start: int, end: int, noun: str) -> tuple[int, int]:
    """The tokens that hold the characters [start, end), a space and a noun, and no others."""
    inside = [index for index, (a, b) in enumerate(piece.offsets) if a < end and b > start]
    if not inside or piece.offsets[inside[-1]][1] > end or piece.offsets[inside[0]][0] < start:
        raise ArgumentError(
            f"The tokenizer joins the noun {noun} with the comma beside it, so its surprisal cannot be told apart."
        )
    return inside[0], inside[-1] + 1


def last_words(tokenizer: PreTrainedTokenizerBase, text: str, n_words: int) -> list[tuple[str, tuple[int, int]]]:
    """Returns the last words of a part of a trial, each with its tokens [first, last) in `encode_text(text)`.

    A word goes on to the next space, punctuation included.
    """
    piece = encode_piece(tokenizer, " " + text)
    words, end = [], len(text) + 1
    for word in reversed(text.split()[-n_words:]):
        start = end - len(word) - 1
        words.append((word, covering(piece, start, end)))
        end = start
    return words[::-1]
