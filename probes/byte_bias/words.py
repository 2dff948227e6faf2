"""Words of prose by the number of their pieces: what a word costs a token model, and how often it would be written.

A word is what stands between blanks and punctuation, letters alone with their marks; a token begins it, and the next one ends it. How
often it is written elsewhere comes from the texts that are not read.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import regex
import torch

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.word_tokens import Vocabulary, boundary_log_probability, token_log_probabilities
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles, read_folder
from probes.byte_bias.settings import Settings

AT_ONCE = 4
"""Texts read at one time."""
_LETTERS = r"(?:\p{L}\p{M}*)+"
_WORD = regex.compile(rf"(?<=\s){_LETTERS}(?=[\s.,;:!?\p{{Sentence_Terminal}}،؛、])")
LETTERS = regex.compile(_LETTERS)
"""Letters that stand together, with their marks, whatever is beside them."""


@dataclass(frozen=True)
class Passage:
    """The beginning of a text as tokens, and its words with their tokens [first, last)."""

    text_id: int
    ids: tuple[int, ...]
    words: tuple[tuple[str, int, int], ...]


def read_texts(settings: Settings, n_texts: int) -> tuple[Sequence[str], list[int]]:
    """Returns the texts of prose and the places of those that are read, in a random order that the seed decides.

    Raises ArgumentError for a folder that does not hold as many texts, and one more to count words in.
    """
    texts = read_folder(settings.corpus) if settings.corpus else news_articles()
    if len(texts) <= n_texts:
        raise ArgumentError(
            f"{settings.corpus} holds {len(texts)} texts: give --articles and --concept-articles less than that, so that words can be "
            "counted in the others."
        )
    order = np.random.default_rng(settings.seed).permutation(len(texts))
    return texts, order[:n_texts].tolist()


def passages(model: LanguageModel, texts: Sequence[str], chosen: Sequence[int], n_tokens: int) -> Iterator[Passage]:
    """Yields the first tokens of each chosen text with the words in them; a word that shares a token with what is beside it is left out."""
    tokenizer: Any = model.tokenizer
    for place in chosen:
        text = texts[place][: 16 * n_tokens]
        piece = encode_piece(tokenizer, text, first=True)
        starts, ends = ([offset[side] for offset in piece.offsets] for side in (0, 1))
        words = []
        for match in _WORD.finditer(text, 0, max(ends[:n_tokens], default=0)):
            first, last = bisect_left(starts, match.start() - 1), bisect_left(starts, match.end())  # with its blank
            apart = (first == 0 or ends[first - 1] < match.start()) and first < last and ends[last - 1] == match.end()
            if apart and last < min(n_tokens, len(piece.ids)):
                words.append((match[0], first, last))
        yield Passage(place, tuple(piece.ids[:n_tokens]), tuple(words))


def counts_elsewhere(texts: Sequence[str], chosen: Sequence[int]) -> Counter[str]:
    """Returns how often each word stands in the texts that are not read."""
    read = set(chosen)
    return Counter(word for place, text in enumerate(texts) if place not in read for word in _WORD.findall(text))


@torch.inference_mode()
def measure_words(model: LanguageModel, settings: Settings) -> pd.DataFrame:
    """Returns the table `words`: a row for each word of each passage, with its surprisal and whether it is the likeliest to be written."""
    texts, chosen = read_texts(settings, settings.articles)
    counts = counts_elsewhere(texts, chosen)
    per_million = 1e6 / max(1, counts.total())
    vocabulary = Vocabulary.of(model, "")
    begin = list(beginning(model.tokenizer, "always"))
    found = []
    everything = [one for one in passages(model, texts, chosen, settings.passage_tokens) if one.words]
    for start in range(0, len(everything), AT_ONCE):
        batch = everything[start : start + AT_ONCE]
        ids = [[*begin, *one.ids] for one in batch]
        rows = model.rows(len(batch), max(map(len, ids)))
        logits = model.extend(rows, ids, logits="all")
        log_p = torch.log_softmax(
            logits[:, len(begin) - 1 :].float(), dim=-1
        )  # column i predicts token i of the passage
        taken = token_log_probabilities(log_p, [one.ids for one in batch])
        ends = boundary_log_probability(log_p, vocabulary.boundary).double().cpu()
        likeliest = log_p.argmax(dim=-1).cpu()
        for row, one in enumerate(batch):
            for place, (word, first, last) in enumerate(one.words):
                if not vocabulary.boundary[[one.ids[first], one.ids[last]]].all():
                    continue  # a blank that is spelled by bytes: where such a word begins or ends cannot be told
                pieces = torch.tensor(one.ids[first:last])
                found.append(
                    {
                        "text_id": one.text_id, "word_index": place, "word": word, "n_pieces": last - first,
                        "is_capitalised": word[0].isupper(), "count_elsewhere": counts[word],
                        "per_million": counts[word] * per_million,
                        "surprisal_nats": float(ends[row, first] - taken[row, first:last].sum() - ends[row, last]),
                        "is_likeliest": bool((likeliest[row, first:last] == pieces).all()),
                    }
                )  # fmt: skip
    if not any(row["n_pieces"] > 1 for row in found):
        raise ArgumentError(
            "No word of the prose has two pieces and spaces around it: give another --corpus, or --articles 0 to leave words out."
        )
    return pd.DataFrame(found)
