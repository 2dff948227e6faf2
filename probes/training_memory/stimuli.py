"""What is studied and what it is told from: news sentences, the same scrambled, words at random, and their foils."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from interp.errors import ArgumentError
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles, read_text
from interp.stimuli.sentences import sentences
from probes.training_memory.settings import FOILS, Condition, Foil, Settings

FEWEST_WORDS, MOST_WORDS = 9, 18
ARTICLES = 600
"""News articles whose sentences are studied; other text comes from the later ones."""
FEWEST_TOKENS = 6
"""Of a sentence, so that both halves have some."""
TRIES = 50
"""Draws of another word, until one is among the tokens that are kept."""


@dataclass(frozen=True)
class Item:
    """A studied sentence and its foils, as tokens without the beginning of a sequence."""

    id: str
    text: str
    ids: tuple[int, ...]
    foils: dict[Foil, tuple[int, ...]]

    @property
    def half(self) -> int:
        """Tokens of its first half."""
        return len(self.ids) // 2


@lru_cache(maxsize=1)
def _news() -> tuple[str, ...]:
    """One sentence of each of the first articles, of a moderate length."""
    found = []
    for article in news_articles()[:ARTICLES]:
        fitting = (one for one in sentences(article)[2:] if FEWEST_WORDS <= len(one.split()) <= MOST_WORDS)
        if (sentence := next(fitting, None)) is not None:
            found.append(sentence)
    return tuple(dict.fromkeys(found))


def own_sentences(settings: Settings) -> Sequence[str]:
    """Returns all sentences to take from: a user's, or those of the news.

    Raises ArgumentError for a file that is not there or too short.
    """
    if settings.texts is None:
        return _news()
    if not settings.texts.is_file():
        raise ArgumentError(
            f"There is no file {settings.texts}: name a .txt file with one sentence per line with --texts."
        )
    lines = list(dict.fromkeys(line.strip() for line in read_text(settings.texts).split("\n") if line.strip()))
    if len(lines) < 2 * settings.sentences:
        raise ArgumentError(
            f"{settings.texts} has {len(lines)} different sentences, and --sentences {settings.sentences} needs twice as many, half "
            "of them foils."
        )
    return lines


def items_of(tokenizer: Any, settings: Settings, condition: Condition, seed: int) -> list[Item]:
    """Returns the items of a condition: equal seeds give equal sentences, whatever the condition.

    Raises ArgumentError for a sentence of too few tokens.
    """
    generator = np.random.default_rng([settings.seed, seed])
    pool = own_sentences(settings)
    chosen = [pool[int(place)] for place in generator.permutation(len(pool))[: 2 * settings.sentences]]
    if len(chosen) < 2 * settings.sentences:
        raise ArgumentError(f"There are {len(pool)} sentences: --sentences must be at most {len(pool) // 2}.")
    studied, others = chosen[: settings.sentences], chosen[settings.sentences :]
    vocabulary = sorted({word for sentence in chosen for word in sentence.split()})

    def made(sentence: str) -> str:
        words = sentence.split()
        if condition == "scrambled":
            return " ".join(generator.permutation(words))
        return sentence if condition == "natural" else " ".join(generator.choice(vocabulary, len(words)))

    items = []
    for number, (sentence, other) in enumerate(zip(studied, others, strict=True)):
        text = made(sentence)
        natural = sentence if condition == "scrambled" else other
        ids = _encoded(tokenizer, text, settings)
        foils = {"other": made(other), "natural": natural, "changed": text}
        if "changed" in FOILS[condition]:
            tried = (changed(text, vocabulary, generator) for _ in range(TRIES))
            different = (foil for foil in tried if _encoded(tokenizer, foil, settings) != ids)
            foils["changed"] = next(different, text)  # a word behind the cut would make no difference
        encoded: dict[Foil, tuple[int, ...]] = {
            foil: _encoded(tokenizer, foils[foil], settings) for foil in FOILS[condition]
        }
        items.append(Item(f"{seed}-{number:03d}", text, ids, encoded))
    return items


def changed(text: str, vocabulary: Sequence[str], generator: np.random.Generator) -> str:
    """Returns a text with one word of its second half replaced by another one."""
    words = text.split()
    place = int(generator.integers(len(words) // 2, len(words)))
    words[place] = next(word for word in generator.permutation(vocabulary) if word != words[place])
    return " ".join(words)


def _encoded(tokenizer: Any, text: str, settings: Settings) -> tuple[int, ...]:
    ids = tuple(encode_piece(tokenizer, text, first=True).ids[: settings.most_tokens])
    if len(ids) < FEWEST_TOKENS:
        raise ArgumentError(f"{text[:40]!r} has {len(ids)} tokens: sentences need {FEWEST_TOKENS} or more.")
    return ids


def begun(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Returns ids behind what the tokenizer writes before a text."""
    return [*beginning(tokenizer, "auto"), *ids]


def later_text(tokenizer: Any, n_updates: int, batch: int, tokens: int, seed: int) -> list[list[list[int]]]:
    """Returns batches of the beginnings of other news articles, none of which is studied: [update, row, token]."""
    articles = news_articles()[ARTICLES:]
    order = np.random.default_rng([seed, 99]).permutation(len(articles))
    rows = []
    for place in order:
        ids = encode_piece(tokenizer, sentences(articles[place])[0], first=True).ids[:tokens]
        if len(ids) >= FEWEST_TOKENS:
            rows.append(begun(tokenizer, ids))
        if len(rows) == n_updates * batch:
            break
    return [rows[first : first + batch] for first in range(0, len(rows), batch)]
