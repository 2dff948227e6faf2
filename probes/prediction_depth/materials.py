"""The texts that are read, how frequent each token is, and what kind of token is predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece, token_texts
from interp.stimuli.prose import news_articles, read_folder, read_text
from interp.stimuli.word_classes import FUNCTION_WORDS, token_classes
from interp.words import attaches, goes_on, is_letter
from probes.prediction_depth.settings import Settings

CLASSES = ("function", "content", "later part of a word", "digits", "delimiter")
COUNTED_TEXTS, COUNTED_CHARACTERS = 200, 3000
"""Texts that token frequencies are counted in, and characters of each."""
_CHARACTERS_PER_TOKEN = 12


@dataclass(frozen=True)
class Frequencies:
    """How often each token id occurs in other texts than those that are read."""

    counts: Float[np.ndarray, " vocabulary"]

    @property
    def log_p(self) -> Float[np.ndarray, " vocabulary"]:
        """Ln of each token's share, half an occurrence added to each."""
        return np.log((self.counts + 0.5) / (self.counts.sum() + 0.5 * len(self.counts)))

    @property
    def log10_per_million(self) -> Float[np.ndarray, " vocabulary"]:
        """log10 of occurrences in a million tokens."""
        return self.log_p / np.log(10) + 6

    def commonest(self, n: int) -> list[int]:
        """Returns the most frequent tokens, most frequent first."""
        return np.argsort(-self.counts, kind="stable")[:n].tolist()


def read_ids(settings: Settings, model: LanguageModel, number: int, n_tokens: int) -> list[int]:
    """Returns the first tokens of the number-th text that has so many.

    Raises ArgumentError when there are fewer such texts.
    """
    tokenizer: Any = model.tokenizer
    lead, found = beginning(tokenizer, settings.bos), 0
    for text in _texts(settings)[0]:
        ids = [*lead, *encode_piece(tokenizer, text[: _CHARACTERS_PER_TOKEN * n_tokens], first=True).ids][:n_tokens]
        found += len(ids) == n_tokens
        if found > number:
            return ids
    raise ArgumentError(
        f"{found} texts have {n_tokens} tokens and number {number + 1} is needed: lower --text-tokens, --prose-texts and "
        "--decode-texts, or add texts."
    )


def _texts(settings: Settings) -> tuple[Sequence[str], Sequence[str]]:
    """Texts to read, which no lens that ships was trained on, and texts to count tokens in."""
    if settings.texts is not None:
        texts = read_folder(settings.texts)
        return texts, texts
    return _dealt()


@lru_cache(maxsize=1)
def _dealt() -> tuple[list[str], list[str]]:
    from interp.models.dictionary.windows import deal_texts
    from interp.models.lens.training import HELD_OUT_SHARE, TRAINING_SHARE

    trained_on, _, left = deal_texts(news_articles(), (TRAINING_SHARE, HELD_OUT_SHARE))
    return left, trained_on


def frequencies(settings: Settings, model: LanguageModel) -> Frequencies:
    """Returns how often each token occurs in the texts that are counted in; counted once for each tokenizer."""
    head: Any = model.hf.get_output_embeddings()
    return _counted(settings, model.tokenizer, head.weight.shape[0])


@kept_while_unchanged(lambda settings, *_: (settings.texts,))
def _counted(settings: Settings, tokenizer: Any, n_tokens: int) -> Frequencies:
    counts = np.zeros(n_tokens)
    for text in _texts(settings)[1][:COUNTED_TEXTS]:
        np.add.at(counts, encode_piece(tokenizer, text[:COUNTED_CHARACTERS]).ids, 1)
    return Frequencies(counts)


def kinds_of(settings: Settings, tokenizer: Any, before: Sequence[int], predicted: Sequence[int]) -> list[str]:
    """Returns the class of each predicted token, which stands behind the token `before` it."""
    words = None if settings.function_words is None else _words(settings)
    texts, previous = token_texts(tokenizer, predicted), token_texts(tokenizer, before)
    return list(_classes(texts, previous, words))


def _classes(texts: Sequence[str], previous: Sequence[str], words: frozenset[str] | None) -> Iterator[str]:
    for text, before, kind in zip(texts, previous, token_classes(texts), strict=True):
        if goes_on(text) and before and (is_letter(before[-1]) or attaches(before[-1])):
            yield "later part of a word"
        elif kind in ("function", "content"):
            bare = text.strip().lower()
            yield "function" if bare in (FUNCTION_WORDS if words is None else words) else "content"
        else:
            yield kind


@kept_while_unchanged(lambda settings: (settings.function_words,))
def _words(settings: Settings) -> frozenset[str]:
    assert settings.function_words is not None
    words = frozenset(read_text(settings.function_words).lower().split())
    if not words:
        raise ArgumentError(f"{settings.function_words} holds no words: write them there, separated by blanks.")
    return words
