"""The words of one tokenizer: those that are a single token, in halves of like frequency for keys and for values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.tokens.encoding import encode_piece, token_texts, unread
from interp.stimuli.prose import read_text
from interp.words import is_unspaced, is_word

OWN_WORDS = Path(__file__).with_name("words.txt")
SHORTEST = 3
"""Letters of the shortest word that is taken from a vocabulary of a script with spaces."""


@dataclass(frozen=True)
class Words:
    """Words as they stand in a text, with the space before them, each a single token; in the order of their token ids."""

    texts: tuple[str, ...]
    source: str
    """What they were taken from, as --words names it."""

    def halves(self, generator: np.random.Generator) -> tuple[list[str], list[str]]:
        """Returns keys and values in random order: of every two neighbours by token id, one is a key and one a value.

        In vocabularies ordered by merges or by likelihood the id is a rank of frequency, so both halves are alike in it.
        """
        n = len(self.texts) // 2
        pairs = generator.permuted(np.arange(2 * n).reshape(n, 2), axis=1)
        return tuple([self.texts[int(place)] for place in generator.permutation(pairs[:, side])] for side in (0, 1))  # type: ignore[return-value]


def words_of(tokenizer: Any, source: str) -> Words:
    """Returns the words of a source that are one token each: "english", "vocabulary", or a text file of words.

    "vocabulary" takes every token that is a word of small letters, or of a script without spaces.
    Raises ArgumentError for a file without words.
    """
    if source == "vocabulary":
        found = [(text, token) for token, text in enumerate(token_texts(tokenizer)) if _is_whole(text)]
    else:
        found = [one for word in _listed(source) if (one := _single(tokenizer, word)) is not None]
    by_id = sorted({token: text for text, token in reversed(found)}.items())
    return Words(tuple(text for _, text in by_id), source)


@kept_while_unchanged(lambda source: (Path(source),), maxsize=4)
def _listed(source: str) -> tuple[str, ...]:
    path = OWN_WORDS if source == "english" else Path(source)
    if not path.is_file():
        raise ArgumentError(f"There is no file {source}: give --words english, vocabulary, or a text file of words.")
    lines = [line for line in read_text(path).splitlines() if not line.startswith("#")]
    found = tuple(dict.fromkeys(word for line in lines for word in line.split()))
    if not found:
        raise ArgumentError(f"{source} holds no word: write words into it, with blanks between them.")
    return found


def _single(tokenizer: Any, word: str) -> tuple[str, int] | None:
    """The word as a text goes on with it and its token, if it is one token that spells it."""
    for text in (f" {word}", word) if is_unspaced(word[0]) else (f" {word}",):
        piece = encode_piece(tokenizer, text)
        if len(piece.ids) == 1 and not unread(tokenizer, piece, text, 0, len(text)):
            return text, piece.ids[0]
    return None


def _is_whole(text: str) -> bool:
    word = text.strip()
    if not word or not is_word(word) or word != word.lower():
        return False
    if is_unspaced(word[0]):
        return True
    return text == f" {word}" and len(word) >= SHORTEST
