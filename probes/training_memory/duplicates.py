"""Texts whose number of duplicates in the training data is known: recognised and recalled by a checkpoint that is not trained here."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import encode_piece
from interp.stimuli.prose import news_articles
from interp.stimuli.table_files import read_rows
from probes.training_memory.scores import completions, exact, shared
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import FEWEST_TOKENS, begun


@dataclass(frozen=True)
class Known:
    """A text, how often it was in the training data, and a text to tell it from ("" for none)."""

    id: str
    text: str
    duplicates: int
    foil: str


@lru_cache(maxsize=2)
def read_known(path: Path, _stamp: int) -> tuple[Known, ...]:
    """Returns the texts of a file with the columns text, duplicates and optionally foil.

    Raises ArgumentError for a column that is not there, a count that is none, and an empty text.
    """
    found = []
    for number, row in enumerate(read_rows(path), start=1):
        if missing := [name for name in ("text", "duplicates") if name not in row]:
            raise ArgumentError(f"{path} has no column {missing[0]} in row {number}: it needs text and duplicates.")
        count, text = row["duplicates"].strip(), row["text"].strip()
        if not count.isdecimal() or not text:
            raise ArgumentError(f"{path}, row {number}, needs a text and a whole number of duplicates, 0 or more.")
        found.append(Known(f"{number:05d}", text, int(count), row.get("foil", "").strip()))
    if not found:
        raise ArgumentError(f"{path} holds no text.")
    return tuple(found)


def known_texts(settings: Settings) -> tuple[Known, ...]:
    """Returns the texts that the settings name.

    Raises ArgumentError for a file that is not there or does not fit.
    """
    path = settings.duplicates
    assert path is not None
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of texts and their counts with --duplicates.")
    return read_known(path, path.stat().st_mtime_ns)


def measure_duplicates(model: LanguageModel, revision: str | None, settings: Settings) -> pd.DataFrame:
    """Returns a row for each text and place: at the start of the window, and behind some news text.

    Raises ArgumentError for a text of too few tokens.
    """
    tokenizer: Any = model.tokenizer
    before = encode_piece(tokenizer, " ".join(news_articles()[:3]), first=True).ids[: settings.offset_tokens]
    rows = []
    for known in known_texts(settings):
        ids, foil = (encode_piece(tokenizer, text, first=True).ids for text in (known.text, known.foil or known.text))
        if len(ids) < FEWEST_TOKENS:
            raise ArgumentError(f"{known.text[:40]!r} has {len(ids)} tokens: texts need {FEWEST_TOKENS} or more.")
        half = len(ids) // 2
        for place, context in (("start", []), ("offset", before)):
            lead = begun(tokenizer, context)
            own, other = (_nats(model, lead, one) for one in (ids, foil))
            written = completions(model, [[*lead, *ids[:half]]], [len(ids) - half])[0]
            margin = other - own if known.foil else math.nan
            rows.append(
                {
                    "revision": revision or "", "text_id": known.id, "duplicates": known.duplicates, "place": place,
                    "nats_seen": own, "nats_foil": other if known.foil else math.nan, "margin_nats": margin,
                    "is_recognised": math.nan if not known.foil else float(margin > 0) + 0.5 * float(margin == 0),
                    "exact": exact(written, ids[half:]), "rouge_second": shared(written, ids[half:]),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _nats(model: LanguageModel, lead: list[int], ids: list[int]) -> float:
    """Mean −ln p of a text's tokens behind what stands before it."""
    return float(model.surprisal([[*lead, *ids]])[0, max(1, len(lead)) :].mean())
