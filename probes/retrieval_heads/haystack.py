"""Haystacks: long runs of prose as tokens, with the places between sentences where a needle may go."""

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.models.encoding import encode_piece

# A sentence ends at . ! or ? with its closing quotes, unless the word before is an abbreviation or an initial.
_SENTENCE_END = re.compile(r"(\S+[.!?][\"'”’)]*)\s+(?=[\"'“‘(]?(\w))")
_NO_END = re.compile(
    r"^\W*(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Lt|Col|Sgt|Capt|Rev|St|Jr|Sr|No|vs|Inc|Corp|Co|Ltd|Jan|Feb|Mar|Apr|Jun|Jul|"
    r"Aug|Sep|Sept|Oct|Nov|Dec|[A-Za-z]{1,2}(?:\.[A-Za-z])+|[DR]-\w+)\.$"
)
_CHARACTERS_PER_TOKEN = 8
"""More than any tokenizer averages on prose, so that the first try has tokens enough."""


@dataclass(frozen=True)
class Haystack:
    """Tokens of prose; `boundaries` are the token indices at which a sentence begins (0 is one)."""

    ids: tuple[int, ...]
    boundaries: tuple[int, ...]

    def boundary_before(self, index: int) -> int:
        """Returns the last sentence beginning at or before a token index: the reference walks back to a full stop too."""
        return self.boundaries[bisect_right(self.boundaries, index) - 1]


def sentence_starts(text: str) -> list[int]:
    """Returns the character positions at which sentences begin, the first included."""
    ends = [
        match
        for match in _SENTENCE_END.finditer(text)
        if not match[2].islower() and not _NO_END.match(match[1].rstrip("\"'”’)"))
    ]
    return [0, *(match.end() for match in ends)]


def build_haystack(
    tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...], n_tokens: int, *, seed: int, key: str
) -> Haystack:
    """Returns at least n_tokens tokens of the texts, put in an order drawn from (seed, key).

    Raises ArgumentError when the texts together are shorter than that.
    """
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    order = np.random.default_rng(list(digest)).permutation(len(texts))
    wanted, text, piece = n_tokens * _CHARACTERS_PER_TOKEN, "", encode_piece(tokenizer, "")
    for place, index in enumerate(order, start=1):
        # Every sentence begins with one space, the first too, so that a needle fits before any of them.
        text += "".join(f" {word}" for word in texts[index].split())
        if len(text) >= wanted or place == len(order):
            piece = encode_piece(tokenizer, text)
            if len(piece.ids) >= n_tokens:
                break
            wanted = 2 * len(text)
    if len(piece.ids) < n_tokens:
        raise ArgumentError(
            f"The haystack holds {len(piece.ids)} tokens and {n_tokens} are needed: add text to it or lower --context-tokens."
        )
    return Haystack(tuple(piece.ids), tuple(_token_boundaries(piece.offsets, sentence_starts(text))))


def _token_boundaries(offsets: list[tuple[int, int]], starts: list[int]) -> list[int]:
    """The tokens that begin a sentence: the one that covers its first character, unless it begins in the sentence before."""
    boundaries, token = [0], 0
    for start in starts[1:]:
        # A token of the space alone belongs to the sentence that it precedes.
        while token < len(offsets) and offsets[token][0] < start - 1 and offsets[token][1] <= start:
            token += 1
        if token < len(offsets) and offsets[token][0] >= start - 1 and token > boundaries[-1]:
            boundaries.append(token)
    return boundaries
