"""Haystacks: long texts as tokens, with the positions where a needle may be inserted: between sentences, or as near as possible."""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.models.tokens.encoding import Piece, encode_piece
from interp.stimuli.sentences import grapheme_starts, sentence_starts, word_starts

LONGEST_SENTENCE_TOKENS = 160
"""A longer stretch without a boundary is no sentence: a needle is then put at the next finer kind of boundary."""
LARGEST_UNKNOWN_SHARE = 0.1
"""A haystack of which more tokens than this stand for letters that the tokenizer does not know is refused."""
_WORD = re.compile(r"\S{1,200}")
_CHARACTERS_PER_TOKEN = 8
"""More than any tokenizer averages on prose, so that the first try has tokens enough."""


@dataclass(frozen=True)
class Haystack:
    """Tokens of text; `boundaries` are the token indices at which a sentence begins (0 is one).

    `finer` are other boundaries, from the coarsest on: lines, words, characters. `split` are the token indices that lie
    inside a character. `filler` is a token of blank space.
    """

    ids: tuple[int, ...]
    boundaries: tuple[int, ...]
    finer: tuple[tuple[int, ...], ...] = ()
    split: frozenset[int] = frozenset()
    filler: int | None = None

    def boundary_before(self, index: int) -> int:
        """Returns the last boundary at or before a token index: the reference walks back to a full stop too.

        It is where a sentence begins; in a stretch without sentences where a line, a word or a character does.
        """
        before = 0
        for boundaries in (self.boundaries, *self.finer):
            place = bisect_right(boundaries, index)
            before = boundaries[place - 1]
            if place < len(boundaries):
                if boundaries[place] - before <= LONGEST_SENTENCE_TOKENS:
                    break
            elif len(self.ids) - before <= LONGEST_SENTENCE_TOKENS // 2:  # who knows where it would end
                break
        return before

    def first(self, n_tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the first tokens, whole characters only, and the blank space that makes them as many as asked."""
        end = n_tokens
        while end in self.split and self.filler is not None:
            end -= 1
        return self.ids[:end], (self.filler,) * (n_tokens - end) if self.filler is not None else ()


def build_haystack(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], n_tokens: int, *, seed: int, key: str
) -> Haystack:
    """Returns at least n_tokens tokens of the texts, put in an order drawn from (seed, key); no more text is read than that.

    Raises ArgumentError when the texts together are shorter than that, or when the tokenizer cannot spell them.
    """
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    order = np.random.default_rng(list(digest)).permutation(len(texts))
    words = _words(texts[int(index)] for index in order)
    text, lines, wanted = "", [0], n_tokens * _CHARACTERS_PER_TOKEN
    while True:
        text, ended = _grown(text, lines, words, wanted)
        piece = encode_piece(tokenizer, text)
        if len(piece.ids) >= n_tokens:
            break
        if ended:
            raise ArgumentError(
                f"The haystack holds {len(piece.ids)} tokens and {n_tokens} are needed: add text to it or lower --context-tokens."
            )
        wanted = 2 * len(text)
    _check_spelling(tokenizer, piece.ids)
    return _with_boundaries(tokenizer, text, piece, lines)


def _words(texts: Iterable[str]) -> Iterator[tuple[str, bool, bool]]:
    """The words of texts, each with whether a blank stands before it, and a line break; long ones come in parts."""
    for text in texts:
        end = 0
        for match in _WORD.finditer(text):
            blank = text[end : match.start()]
            yield match[0], bool(blank) or end == 0, "\n" in blank or end == 0
            end = match.end()


def _grown(text: str, lines: list[int], words: Iterator[tuple[str, bool, bool]], wanted: int) -> tuple[str, bool]:
    """The text with more words, up to the wanted number of characters, and whether there are no more; notes where lines begin.

    Every sentence begins with one space, the first too, so that a needle fits before any of them.
    """
    parts, length = [text], len(text)
    for word, spaced, new_line in words:
        parts.append(f" {word}" if spaced else word)
        if new_line and length:
            lines.append(length + 1)
        length += len(parts[-1])
        if length >= wanted:
            return "".join(parts), False
    return "".join(parts), True


def _check_spelling(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> None:
    unknown = ids.count(tokenizer.unk_token_id) / max(1, len(ids))
    if unknown > LARGEST_UNKNOWN_SHARE:
        raise ArgumentError(
            f"{unknown:.0%} of the haystack's tokens are letters that this model's tokenizer does not know: use a text, or a model, "
            "of another script."
        )


def _with_boundaries(tokenizer: PreTrainedTokenizerBase, text: str, piece: Piece, lines: list[int]) -> Haystack:
    """The tokens with their boundaries; finer ones only where coarser ones are too far apart."""
    tokens = _WholeCharacters(text, piece.offsets)
    sentences, *finer = [tokens.beginning(sentence_starts(text))]
    for starts in (lambda: lines, lambda: word_starts(text), lambda: grapheme_starts(text)):
        if _are_near(finer[-1] if finer else sentences, len(piece.ids)):
            break
        finer.append(tokens.beginning(starts()))
    blanks = (encode_piece(tokenizer, blank).ids for blank in ("\n", " ", ","))
    filler = next((ids[0] for ids in blanks if len(ids) == 1), None)
    return Haystack(tuple(piece.ids), sentences, tuple(finer), tokens.split, filler)


def _are_near(boundaries: Sequence[int], n_tokens: int) -> bool:
    gaps = [second - first for first, second in pairwise(boundaries)]
    return max([*gaps, 2 * (n_tokens - boundaries[-1])]) <= LONGEST_SENTENCE_TOKENS


class _WholeCharacters:
    """Tokens of a text, and which of them begin inside a character that tokens before have begun."""

    def __init__(self, text: str, offsets: Sequence[tuple[int, int]]) -> None:
        self.text = text
        self.starts = [start for start, _ in offsets]
        covered = accumulate((end for _, end in offsets), max, initial=0)
        self.split = frozenset(
            index for index, (start, end) in enumerate(zip(self.starts, covered, strict=False)) if start < end
        )

    def beginning(self, places: Sequence[int]) -> tuple[int, ...]:
        """Returns the tokens that begin at each place in the text, those left out that begin before it."""
        tokens = [0]
        for place in places[1:]:
            # A token of the space alone belongs to the sentence that it precedes.
            first = place - 1 if self.text[place - 1].isspace() else place
            token = bisect_left(self.starts, first)
            if tokens[-1] < token < len(self.starts) and token not in self.split:
                tokens.append(token)
        return tuple(tokens)
