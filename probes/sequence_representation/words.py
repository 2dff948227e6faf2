"""Which states hold a sentence's bag of words: ridge regression from pooled states to the words, sentence by sentence held out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import regex

from interp.errors import ArgumentError
from interp.stimuli.prose import news_articles
from interp.stimuli.sentences import sentences
from probes.sequence_representation.readers import Read, Reader, States, pooled, some_layers
from probes.sequence_representation.scores import ndcg, ridge

FOLDS = 4
FEWEST = 3
"""A word counts if so many sentences hold it."""
MOST_WORDS = 400
SHORTEST, LONGEST = 8, 24
"""Words of a sentence."""
LAYERS = 7
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}'’]*")


def words_in(text: str) -> list[str]:
    """Returns a text's words without regard to case, in order."""
    return [word.casefold() for word in _WORD.findall(text)]


def prose_sentences(n: int) -> list[str]:
    """Returns one sentence of each of the first n articles that have a fitting one.

    Raises ArgumentError when there are not as many.
    """
    found: list[str] = []
    for article in news_articles():
        fitting = (
            one for one in sentences(article)[1:] if SHORTEST <= len(one.split()) <= LONGEST and one[0].isalpha()
        )
        if (sentence := next(fitting, None)) is not None and sentence not in found:
            found.append(sentence)
        if len(found) == n:
            return found
    raise ArgumentError(f"There are only {len(found)} fitting news sentences: give a smaller --prose-sentences.")


def decode_words(reader: Reader, n_sentences: int, seed: int) -> pd.DataFrame:
    """Returns the table `words`: for each layer, pool, half and sentence how well its words are ranked by a held-out regression.

    Raises ArgumentError for too few sentences.
    """
    texts = prose_sentences(n_sentences)
    holds = {half: held(texts, half) for half in ("all", "first", "second")}
    if holds["all"].shape[1] < 10:
        raise ArgumentError("--prose-sentences is too small for any word to occur three times: give 80 or more, or 0.")
    rows = [reader.encode(text) for text in texts]
    layers = some_layers(reader.n_layers, LAYERS)

    def pool(states: States, row: Read) -> np.ndarray:
        own = states[layers][:, list(row.own)]
        return np.stack([states[layers][:, 0], states[layers][:, -1], own.mean(axis=1), own.max(axis=1)])

    found = pooled(reader, rows, pool)  # [text, pool, layer, residual]
    pools = {name: found[:, place] for place, name in enumerate(("first", "last", "mean", "max"))}
    pools |= {f"{one} + mean": np.concatenate([pools[one], pools["mean"]], axis=-1) for one in ("first", "last")}
    order = np.random.default_rng([seed, 17]).permutation(len(texts))
    fold = np.empty(len(texts), dtype=int)
    fold[order] = np.arange(len(texts)) % FOLDS
    tables = []
    for name, states in pools.items():
        for place, layer in enumerate(layers):
            x = states[:, place].astype(np.float64)
            for half, y in holds.items() if name in ("last", "mean") else [("all", holds["all"])]:
                decoded = ndcg(held_out(x, y, fold), y)
                shuffled = ndcg(held_out(x[order], y, fold), y) if name == "mean" and half == "all" else np.nan
                tables.append(
                    pd.DataFrame(
                        {
                            "reader": reader.name, "layer": layer, "n_layers": reader.n_layers, "pool": name, "half": half,
                            "sentence_id": range(len(texts)), "ndcg": decoded,
                            "ndcg_frequency": ndcg(frequencies(y, fold), y), "ndcg_shuffled": shuffled,
                        }
                    ).dropna(subset=["ndcg"])
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def held(texts: Sequence[str], half: str) -> np.ndarray:
    """Returns which of the counted words each text, or its first or second half of words, holds: [text, word] of 0 and 1."""
    words = [words_in(text) for text in texts]
    n_texts = Counter(word for row in words for word in dict.fromkeys(row))  # ties are cut in the order of the texts
    # In the order of the alphabet: in that of frequency, ties would tell what the held-out sentences hold.
    counted = sorted(word for word, n in n_texts.most_common(MOST_WORDS) if n >= FEWEST)
    place = {word: number for number, word in enumerate(counted)}
    found = np.zeros((len(texts), len(counted)))
    for number, row in enumerate(words):
        middle = len(row) // 2
        part = {"all": row, "first": row[:middle], "second": row[middle:]}[half]
        found[number, [place[word] for word in part if word in place]] = 1
    return found


def held_out(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Returns what regressions on the other folds predict for each text."""
    found = np.empty_like(y)
    for number in range(FOLDS):
        test = fold == number
        found[test] = ridge(x[~test], y[~test], x[test])
    return found


def frequencies(y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Returns how often each word occurs in the other folds: what is known of a text without looking at it."""
    return np.stack([y[fold != number].mean(axis=0) for number in fold])
