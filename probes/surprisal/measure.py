"""The surprisal of every word of some texts, one text per row of a batch; and `surprisal`, the same for a notebook.

A word is what stands between blanks, punctuation included; it ends where a token begins with a blank. What stands before a text
(the beginning of the sequence, a prefix) is read and not scored; where nothing does, the first word is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import nan
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix
from interp.models.language.word_surprisal import exact_probabilities
from interp.models.language.word_tokens import (
    EncodedWords,
    Vocabulary,
    boundary_log_probability,
    token_log_probabilities,
    word_surprisal,
)
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import one_spelling, sign_of_no_text
from probes.surprisal.settings import Mode, Settings, Text
from probes.surprisal.words import SpacedWord, closed, encode_words

LOGITS_AT_ONCE = 2**26
"""Vocabulary scores held at one time (256 MB in float32): longer texts are read in pieces."""
WAY_OUT = "Leave exact out of --modes."


@dataclass(frozen=True)
class _Reading:
    """A text as tokens: what is read first, and its words, the first of which is not scored where nothing stands before it."""

    text: Text
    lead: tuple[int, ...]
    unscored: tuple[SpacedWord, ...]
    scored: tuple[SpacedWord, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens that are scored."""
        return sum(len(word.ids) for word in self.scored)


def surprisal(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    prefix: str = "",
    modes: Sequence[Mode] = ("raw", "boundary"),
    bos: str = "auto",
) -> pd.DataFrame:
    """Returns the table `words` (see the experiment `surprisal`) for texts given as strings, numbered by their place.

    Accents are composed, line breaks are of one kind and byte-order marks are left out, as in files of texts.
    Raises ArgumentError for a text without words, and what the experiment raises.
    """
    if isinstance(texts, str):
        raise ArgumentError("surprisal takes several texts: give [text].")
    settings = Settings(modes=modes if isinstance(modes, str) else tuple(modes), bos=bos, prefix=prefix)  # type: ignore[arg-type]
    before = _one_spelling(prefix, "The prefix")
    given = [Text(str(number), _one_spelling(text, f"Text {number}"), before) for number, text in enumerate(texts)]
    for text in given:
        if not text.text:
            raise ArgumentError(f"Text {text.id} is empty: leave it out.")
    return measure_words(model, given, settings)


def _one_spelling(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise ArgumentError(f"{name} is {type(text).__name__}, not a text: give a str.")
    if sign := sign_of_no_text(text):
        raise ArgumentError(f"{name} holds U+{ord(sign):04X}, which is no character of a text: leave it out.")
    return one_spelling(text).strip()


def measure_words(model: LanguageModel, texts: Sequence[Text], settings: Settings) -> pd.DataFrame:
    """Returns one row per text, word and mode, in the order of the texts.

    Raises ArgumentError for a text in a script without spaces, and for a word that the tokenizer cannot spell or joins with
    another one.
    """
    vocabulary = Vocabulary.of(model, WAY_OUT, lambda token: not token[:1].isspace())
    readings = [_closed(_encode(model, text, settings), vocabulary) for text in texts]
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in _batches(model, readings):
        for reading, rows in zip(batch, _read(model, batch, vocabulary, settings), strict=True):
            found[reading.text.id] = rows
    return pd.DataFrame([{"model": model.identity.name, **row} for text in texts for row in found[text.id]])


def tokens_to_read(model: LanguageModel, texts: Sequence[Text], settings: Settings) -> tuple[int, int]:
    """Returns how many tokens `measure_words` reads, padding included, and the most that it holds at one time."""
    sizes = []
    for batch in _batches(model, [_encode(model, text, settings) for text in texts]):
        lead, scored = max(len(one.lead) for one in batch), [one.n_tokens for one in batch if one.scored]
        sizes.append(len(batch) * lead + len(scored) * max(scored, default=0))
    return sum(sizes), max(sizes)


def _encode(model: LanguageModel, text: Text, settings: Settings) -> _Reading:
    tokenizer: Any = model.tokenizer
    prefix = encode_piece(tokenizer, text.prefix, first=True).ids if text.prefix else []
    words = encode_words(tokenizer, text)
    lead = (*beginning(tokenizer, settings.bos), *prefix)
    n_unscored = 0 if lead else 1
    return _Reading(text, lead or words[0].ids, words[:n_unscored], words[n_unscored:])


def _closed(reading: _Reading, vocabulary: Vocabulary) -> _Reading:
    words = closed((*reading.unscored, *reading.scored), vocabulary)
    n_unscored = len(reading.unscored)
    return replace(reading, unscored=words[:n_unscored], scored=words[n_unscored:])


def _at_once(model: LanguageModel) -> int:
    """Tokens whose vocabulary scores are held at one time."""
    return max(1, LOGITS_AT_ONCE // model.hf.config.get_text_config(decoder=True).vocab_size)


def _batches(model: LanguageModel, readings: Sequence[_Reading]) -> Iterator[list[_Reading]]:
    """Readings of similar length together, as many as their vocabulary scores fit into memory."""
    waiting: list[_Reading] = []
    for reading in sorted(readings, key=lambda one: one.n_tokens):
        if waiting and (len(waiting) + 1) * max(1, reading.n_tokens) > _at_once(model):
            yield waiting
            waiting = []
        waiting.append(reading)
    if waiting:
        yield waiting


def _pieces(words: Sequence[SpacedWord], n_tokens: int) -> Iterator[Sequence[SpacedWord]]:
    """Runs of words with at most so many tokens, or one word."""
    first = size = 0
    for place, word in enumerate(words):
        if size and size + len(word.ids) > n_tokens:
            yield words[first:place]
            first, size = place, 0
        size += len(word.ids)
    yield words[first:]


@torch.inference_mode()
def _read(
    model: LanguageModel, batch: Sequence[_Reading], vocabulary: Vocabulary, settings: Settings
) -> list[list[dict[str, Any]]]:
    """The rows of each text of a batch. A text that is longer than a batch may be is alone in its own and read in pieces."""
    rows = model.rows(len(batch), max(len(one.lead) + one.n_tokens for one in batch))
    before = model.extend(rows, [list(one.lead) for one in batch])
    found = [_unscored_rows(one, settings) for one in batch]
    scored = [index for index, one in enumerate(batch) if one.scored]
    if not scored:
        return found
    if len(scored) < len(batch):
        rows, before = rows.select(scored), before[scored]
    pieces: list[list[Sequence[SpacedWord]]] = [[batch[index].scored for index in scored]]
    if len(scored) == 1:
        pieces = [[piece] for piece in _pieces(batch[scored[0]].scored, _at_once(model))]
    for piece in pieces:
        scores, before = _score(model, rows, before, piece, vocabulary, settings)
        for index, words, of_words in zip(scored, piece, scores, strict=True):
            first = len(found[index]) // len(settings.modes)
            found[index] += [
                {**_named(batch[index], first + place, word), **row}
                for place, (word, modes) in enumerate(zip(words, of_words, strict=True))
                for row in modes
            ]
    return found


def _score(
    model: LanguageModel,
    rows: Prefix | History,
    before: Float[Tensor, "row one vocabulary"],
    texts: Sequence[Sequence[SpacedWord]],
    vocabulary: Vocabulary,
    settings: Settings,
) -> tuple[list[list[list[dict[str, Any]]]], Float[Tensor, "row one vocabulary"]]:
    """Reads words on, in place; returns by text, word and mode what is said of them, and the logits after the longest text."""
    encoded = [_encoded(words) for words in texts]
    starts = list(rows.lengths)
    logits = model.extend(rows, [list(one.ids) for one in encoded], logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)  # column i predicts token i of the words
    exact = _exact(model, rows, starts, encoded, log_p, vocabulary, settings)
    taken = token_log_probabilities(log_p, [one.ids for one in encoded])
    ends = boundary_log_probability(log_p, vocabulary.boundary).double().cpu()
    found: list[list[list[dict[str, Any]]]] = []
    for row, words in enumerate(texts):
        found.append([])
        for place, (word, (first, last)) in enumerate(zip(words, encoded[row].spans, strict=True)):
            # Where the word before took the blank, nothing is left to divide by.
            opens = word.follows and bool(vocabulary.boundary[word.ids[0]])
            begins = float(ends[row, first]) if opens else 0.0
            nats: dict[str, float] = dict(
                word_surprisal(
                    float(taken[row, first:last].sum()), begins, 0.0 if word.closes else float(ends[row, last])
                ).surprisal_nats
            )
            sum_of_spellings, left_out = exact.get((row, place), (nan, nan))
            nats["exact"] = nan if word.closes else begins - sum_of_spellings  # its blank would be spelled too
            at = log_p[row, first]
            expected = {
                "entropy_nats": float(torch.special.entr(at.double().exp()).sum()),
                "rank": int((at > at[word.ids[0]]).sum()) + 1,
            }
            found[-1].append(
                [
                    {
                        **expected,
                        "mode": mode,
                        "surprisal_nats": nats[mode],
                        "left_out_share": left_out if mode == "exact" else nan,
                    }
                    for mode in settings.modes
                ]
            )
    return found, logits[:, -1:]


def _encoded(words: Sequence[SpacedWord]) -> EncodedWords:
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word.ids)))
        start += len(word.ids)
    ids = tuple(chain.from_iterable(word.ids for word in words))
    return EncodedWords(tuple(word.word for word in words), ids, tuple(spans))


def _exact(
    model: LanguageModel,
    rows: Prefix | History,
    starts: Sequence[int],
    texts: Sequence[EncodedWords],
    log_p: Float[Tensor, "row column vocabulary"],
    vocabulary: Vocabulary,
    settings: Settings,
) -> dict[tuple[int, int], tuple[float, float]]:
    if "exact" not in settings.modes:
        return {}
    everyone = list(range(len(texts)))
    return exact_probabilities(model, rows, starts, texts, log_p, vocabulary, everyone, settings.exact_threshold)


def _unscored_rows(reading: _Reading, settings: Settings) -> list[dict[str, Any]]:
    without = {"entropy_nats": nan, "rank": -1, "surprisal_nats": nan, "left_out_share": nan}
    return [
        {**_named(reading, 0, word), **without, "mode": mode} for word in reading.unscored for mode in settings.modes
    ]


def _named(reading: _Reading, word_index: int, word: SpacedWord) -> dict[str, Any]:
    return {
        "text_id": reading.text.id,
        "word_index": word_index,
        "word": word.word,
        "token_ids": list(word.ids),
    }
