"""Words between blanks as tokens, and whether a token shows where each of them ends."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from interp.errors import ArgumentError
from interp.models.language.word_tokens import Vocabulary
from interp.models.tokens.encoding import encode_piece, unread
from interp.words import is_unspaced
from probes.surprisal.settings import Text

_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class SpacedWord:
    """A word of a text as tokens."""

    word: str
    ids: tuple[int, ...]
    follows: bool
    """Whether a word that is still to be ended stands before it: not before a text's first word, nor behind one that has closed."""
    closes: bool
    """Whether no token that begins with a blank shows its end: its last one holds the blank behind it too, as ":\\n" may, or
    that blank is spelled by bytes, as a no-break space may be."""


def encode_words(tokenizer: Any, text: Text) -> tuple[SpacedWord, ...]:
    """Returns the words of a text as tokens; a token belongs to the word it begins in. Behind a prefix the text begins with a space.

    Raises ArgumentError for a script without spaces, and for a word that the tokenizer cannot spell or joins with the next one.
    """
    if unspaced := next((sign for sign in text.text if is_unspaced(sign)), None):
        raise ArgumentError(
            f"Text {text.id} is written without spaces between words ({unspaced}): put spaces between them, or take its tokens with "
            "model.surprisal."
        )
    written = f" {text.text}" if text.prefix else text.text
    piece = encode_piece(tokenizer, written, first=not text.prefix)
    words = []
    for match in _WORD.finditer(written):
        own = [index for index, (start, _) in enumerate(piece.offsets) if match.start() <= start < match.end()]
        word = match[0].strip()
        if unread(tokenizer, piece, written, *match.span()):
            raise ArgumentError(f"The tokenizer cannot spell {word!r} of text {text.id}: leave it out.")
        end = piece.offsets[own[-1]][1] if own else 0
        if not own or written[match.end() : end].strip():
            raise ArgumentError(
                f"The tokenizer joins {word!r} of text {text.id} with the word beside it: leave it out."
            )
        follows = bool(words or text.prefix)
        words.append(SpacedWord(word, tuple(piece.ids[index] for index in own), follows, end > match.end()))
    return tuple(words)


def closed(words: Sequence[SpacedWord], vocabulary: Vocabulary) -> tuple[SpacedWord, ...]:
    """Returns a text's words, closed before those that no blank begins: else their end would be counted, and taken off by none.

    Nor does a word follow one that has closed, be there more blanks (of an indented line): nothing is left to divide by.
    """
    closing = [word.closes or not bool(vocabulary.boundary[after.ids[0]]) for word, after in pairwise(words)] + [
        word.closes for word in words[-1:]
    ]
    behind = [False, *closing[:-1]]
    return tuple(
        replace(word, closes=closes, follows=word.follows and not closed)
        for word, closes, closed in zip(words, closing, behind, strict=True)
    )
