"""The surprisal of every word of some texts, one text per row of a batch; and `surprisal`, the same for a notebook.

A word is what stands between blanks, punctuation included; it ends where a token begins with a blank. What stands before a text
(the beginning of the sequence, a prefix) is read and not scored; where nothing does, the first word is.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.encoding import beginning, encode_piece, unread
from interp.models.history import History
from interp.models.language import LanguageModel
from interp.models.prefix import Prefix
from interp.models.spellings import Vocabulary, exact_probabilities
from interp.models.word_probability import (
    EncodedWords,
    boundary_log_probability,
    token_log_probabilities,
    word_surprisal,
)
from interp.words import is_unspaced
from probes.surprisal.settings import Mode, Settings, Text

LOGITS_AT_ONCE = 2**26
"""Vocabulary scores held at one time (256 MB in float32)."""
WAY_OUT = "Leave exact out of --modes."

_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class _Reading:
    """A text as tokens: what is read first, and the words that are scored after it."""

    text: Text
    lead: tuple[int, ...]
    unscored: EncodedWords
    """The first word, where nothing stands before it."""
    scored: EncodedWords


def surprisal(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    prefix: str = "",
    modes: Sequence[Mode] = ("raw", "boundary"),
    bos: str = "auto",
) -> pd.DataFrame:
    """Returns the table `words` (see the experiment `surprisal`) for texts given as strings, numbered by their place.

    Raises ArgumentError for a text without words, and what the experiment raises.
    """
    settings = Settings(modes=tuple(modes), bos=bos, prefix=prefix)  # type: ignore[arg-type]
    given = [Text(str(number), text.strip(), prefix.strip()) for number, text in enumerate(texts)]
    for text in given:
        if not text.text:
            raise ArgumentError(f"Text {text.id} is empty: leave it out.")
    return measure_words(model, given, settings)


def measure_words(model: LanguageModel, texts: Sequence[Text], settings: Settings) -> pd.DataFrame:
    """Returns one row per text, word and mode, in the order of the texts.

    Raises ArgumentError for a text in a script without spaces, and for a word that the tokenizer cannot spell or joins with
    another one.
    """
    vocabulary = Vocabulary.of(model, WAY_OUT, lambda token: not token[:1].isspace())
    readings = [_encode(model, text, settings) for text in texts]
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in _batches(model, readings):
        for reading, rows in zip(batch, _read(model, batch, vocabulary, settings), strict=True):
            found[reading.text.id] = rows
    return pd.DataFrame([{"model": model.identity.name, **row} for text in texts for row in found[text.id]])


def _encode(model: LanguageModel, text: Text, settings: Settings) -> _Reading:
    tokenizer: Any = model.tokenizer
    before = beginning(tokenizer, settings.bos)
    prefix = encode_piece(tokenizer, text.prefix, first=True).ids if text.prefix else []
    words = encode_words(tokenizer, text, behind=bool(text.prefix))
    lead = (*before, *prefix)
    n_unscored = 0 if lead else words.spans[0][1]
    return _Reading(
        text,
        lead or words.ids[:n_unscored],
        EncodedWords(words.words[:1], words.ids[:n_unscored], words.spans[:1])
        if n_unscored
        else EncodedWords((), (), ()),
        EncodedWords(
            words.words[bool(n_unscored) :],
            words.ids[n_unscored:],
            tuple((a - n_unscored, b - n_unscored) for a, b in words.spans[bool(n_unscored) :]),
        ),
    )


def encode_words(tokenizer: Any, text: Text, *, behind: bool) -> EncodedWords:
    """Returns a text as tokens with the span of each word; `behind` a prefix the text begins with a space."""
    if unspaced := next((sign for sign in text.text if is_unspaced(sign)), None):
        raise ArgumentError(
            f"Text {text.id} is written without spaces between words ({unspaced}): put spaces between them, or take its tokens with "
            "model.surprisal."
        )
    written = f" {text.text}" if behind else text.text
    piece = encode_piece(tokenizer, written, first=not behind)
    words, spans = [], []
    for match in _WORD.finditer(written):
        own = [index for index, (start, _) in enumerate(piece.offsets) if match.start() <= start < match.end()]
        word = match[0].strip()
        if unread(tokenizer, piece, written, *match.span()):
            raise ArgumentError(f"The tokenizer cannot spell {word!r} of text {text.id}: leave it out.")
        if not own or piece.offsets[own[-1]][1] > match.end():
            raise ArgumentError(
                f"The tokenizer joins {word!r} of text {text.id} with the word beside it: leave it out."
            )
        words.append(word)
        spans.append((own[0], own[-1] + 1))
    return EncodedWords(tuple(words), tuple(piece.ids), tuple(spans))


def _batches(model: LanguageModel, readings: Sequence[_Reading]) -> Iterator[list[_Reading]]:
    """Readings of similar length together, as many as their vocabulary scores fit into memory."""
    at_once = max(1, LOGITS_AT_ONCE // model.hf.config.get_text_config(decoder=True).vocab_size)
    waiting: list[_Reading] = []
    for reading in sorted(readings, key=lambda one: len(one.scored.ids)):
        if waiting and (len(waiting) + 1) * max(1, len(reading.scored.ids)) > at_once:
            yield waiting
            waiting = []
        waiting.append(reading)
    if waiting:
        yield waiting


@torch.inference_mode()
def _read(
    model: LanguageModel, batch: Sequence[_Reading], vocabulary: Vocabulary, settings: Settings
) -> list[list[dict[str, Any]]]:
    """The rows of each text of a batch. Words that nothing is scored of are read with what stands before."""
    rows = model.rows(len(batch), max(len(one.lead) + len(one.scored.ids) for one in batch))
    before = model.extend(rows, [list(one.lead) for one in batch])
    scored = [index for index, one in enumerate(batch) if one.scored.words]
    found = [_unscored_rows(one, settings) for one in batch]
    if not scored:
        return found
    if len(scored) < len(batch):
        rows, before = rows.select(scored), before[scored]
    texts = [batch[index].scored for index in scored]
    starts = list(rows.lengths)
    logits = model.extend(rows, [list(one.ids) for one in texts], logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)  # column i predicts token i of the text
    exact = _exact(model, rows, starts, texts, log_p, vocabulary, settings)
    taken = token_log_probabilities(log_p, [one.ids for one in texts])
    ends = boundary_log_probability(log_p, vocabulary.boundary).double().cpu()
    for row, (index, words) in enumerate(zip(scored, texts, strict=True)):
        whole = not batch[index].unscored.words and not batch[index].text.prefix
        for place, (first, last) in enumerate(words.spans):
            begins = 0.0 if whole and place == 0 else float(ends[row, first])  # a text's first word follows no word
            one = word_surprisal(float(taken[row, first:last].sum()), begins, float(ends[row, last]))
            nats = dict(one.surprisal_nats)
            if (row, place) in exact:
                nats["exact"] = begins - exact[row, place][0]
            at = log_p[row, first]
            named = {
                **_named(batch[index], words, place),
                "entropy_nats": float(torch.special.entr(at.double().exp()).sum()),
                "rank": int((at > at[words.ids[first]]).sum()) + 1,
            }
            for mode in settings.modes:
                left_out = exact[row, place][1] if mode == "exact" else nan
                found[index].append({**named, "mode": mode, "surprisal_nats": nats[mode], "left_out_share": left_out})
    return found


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
        {**_named(reading, reading.unscored, 0), **without, "mode": mode}
        for _ in reading.unscored.words
        for mode in settings.modes
    ]


def _named(reading: _Reading, words: EncodedWords, place: int) -> dict[str, Any]:
    first, last = words.spans[place]
    return {
        "text_id": reading.text.id,
        "word_index": place + (len(reading.unscored.words) if words is reading.scored else 0),
        "word": words.words[place],
        "token_ids": list(words.ids[first:last]),
    }
