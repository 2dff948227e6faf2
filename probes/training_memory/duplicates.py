"""Texts whose number of duplicates in the training data is known: recognised and recalled by a checkpoint that is not trained here."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import ArgumentError
from interp.experiments.experiment import Work
from interp.heads.sets import heads_as_text
from interp.kept import kept_while_unchanged
from interp.models.identity import ModelFacts
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load_outline, look_up
from interp.models.tokens.encoding import encode_piece
from interp.stimuli.prose import news_articles
from interp.stimuli.table_files import read_rows
from probes.training_memory.copying import RANDOM_DRAWS, sets_of, tokens_needed
from probes.training_memory.plan import ROLES, DuplicatesUnit
from probes.training_memory.scores import ROWS_AT_ONCE, completions, exact, shared
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import FEWEST_TOKENS, begun

PLACES = ("start", "offset", "copied")
"""Where a text stands: at the beginning of the window, behind news text, or behind itself and the same news text."""


@dataclass(frozen=True)
class Known:
    """A text, how often it was in the training data, and a text to tell it from ("" for none)."""

    id: str
    text: str
    duplicates: int
    foil: str


@kept_while_unchanged(lambda path: (path,))
def read_known(path: Path) -> tuple[Known, ...]:
    """Returns the texts of a file with the columns text, duplicates and optionally foil.

    Raises ArgumentError for a column that is not there, a count that is none, and an empty text.
    """
    found = []
    for number, row in enumerate(read_rows(path, ("text", "duplicates", "foil")), start=1):
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
    return read_known(path)


@dataclass(frozen=True)
class Encoded:
    """A known text and its foil as tokens, without the beginning of a sequence."""

    known: Known
    ids: tuple[int, ...]
    foil: tuple[int, ...]

    @property
    def half(self) -> int:
        """Tokens of its first half."""
        return len(self.ids) // 2


def encoded(tokenizer: Any, settings: Settings) -> list[Encoded]:
    """Returns the known texts as tokens.

    Raises ArgumentError for a text of too few tokens.
    """
    found = []
    for known in known_texts(settings):
        ids, foil = (encode_piece(tokenizer, text, first=True).ids for text in (known.text, known.foil or known.text))
        if len(ids) < FEWEST_TOKENS:
            raise ArgumentError(f"{known.text[:40]!r} has {len(ids)} tokens: texts need {FEWEST_TOKENS} or more.")
        found.append(Encoded(known, tuple(ids), tuple(foil)))
    return found


def measure_duplicates(model: LanguageModel, unit: DuplicatesUnit, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the tables `duplicates` and `switched_off`: every text in each place, with nothing and with heads switched off.

    Raises ArgumentError for a text of too few tokens, a window that is too short, and too many heads to switch off.
    """
    texts = encoded(model.tokenizer, settings)
    before = tuple(
        encode_piece(model.tokenizer, " ".join(news_articles()[:3]), first=True).ids[: settings.offset_tokens]
    )
    _check_window(model, settings, texts)
    named = {"checkpoint": unit.checkpoint or model.identity.name, "is_twin": unit.is_twin}
    rows, sets = [], sets_of(model, settings)
    for one in sets:
        about = {**named, "off": one.off, "draw": one.draw}
        with model.edit_heads(one.heads) if one.heads else nullcontext():
            for first in range(0, len(texts), ROWS_AT_ONCE):
                part = texts[first : first + ROWS_AT_ONCE]
                rows += [{**about, **row} for place in PLACES for row in _read(model, part, place, before)]
    switched = [{**named, "off": one.off, "draw": one.draw, "heads": heads_as_text(one.heads)} for one in sets[1:]]
    return {"duplicates": pd.DataFrame(rows)} | ({"switched_off": pd.DataFrame(switched)} if switched else {})


def _read(model: LanguageModel, texts: Sequence[Encoded], place: str, before: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row for each text in one place: its loss, its foil's, and what is written behind its first half."""
    contexts = {"start": lambda one: (), "offset": lambda one: before, "copied": lambda one: (*one.ids, *before)}
    leads = [begun(model.tokenizer, contexts[place](one)) for one in texts]
    prompts = [[*lead, *one.ids[: one.half]] for lead, one in zip(leads, texts, strict=True)]
    written = completions(model, prompts, [len(one.ids) - one.half for one in texts])
    rows = []
    for one, lead, tokens in zip(texts, leads, written, strict=True):
        own, other = (_nats(model, lead, ids) for ids in (one.ids, one.foil))
        margin = other - own if one.known.foil else math.nan
        wanted = one.ids[one.half :]
        rows.append(
            {
                "text_id": one.known.id, "duplicates": one.known.duplicates, "place": place, "nats_seen": own,
                "nats_foil": other if one.known.foil else math.nan, "margin_nats": margin,
                "is_recognised": math.nan if not one.known.foil else float(margin > 0) + 0.5 * float(margin == 0),
                "exact": exact(tokens, wanted), "rouge_second": shared(tokens, wanted),
            }
        )  # fmt: skip
    return rows


def _nats(model: LanguageModel, lead: list[int], ids: Sequence[int]) -> float:
    """Mean −ln p of a text's tokens behind what stands before it."""
    return float(model.surprisal([[*lead, *ids]])[0, max(1, len(lead)) :].mean())


def _check_window(model: LanguageModel, settings: Settings, texts: Sequence[Encoded]) -> None:
    window = model.facts.context_window
    if window is None:
        return
    lead = len(begun(model.tokenizer, ()))
    longest = max(texts, key=lambda one: len(one.ids) + max(len(one.ids), len(one.foil)))
    needed = lead + len(longest.ids) + settings.offset_tokens + max(len(longest.ids), len(longest.foil))
    if needed > window:
        raise ArgumentError(
            f"{longest.known.text[:40]!r} twice, with --offset-tokens {settings.offset_tokens} between, is {needed} tokens and "
            f"{model.identity.name} reads {window}: shorten the texts or lower --offset-tokens."
        )
    if settings.heads_off and lead + tokens_needed() > window:
        raise ArgumentError(
            f"{model.identity.name} reads {window} tokens, too few to find heads that copy: add --heads-off 0."
        )


def check_checkpoints(settings: Settings, facts: ModelFacts) -> None:
    """Raises UserError for texts that cannot be read, a checkpoint that is not there, and a twin that does not fit."""
    known = known_texts(settings)
    for revision in settings.revisions:
        look_up(settings.model, dtype=facts.identity.dtype, revision=revision)
    twin = settings.twin
    heads = [facts]
    if twin is not None:
        heads.append(look_up(twin, dtype=facts.identity.dtype, revision=settings.twin_revision))
        own, other = (
            load_outline(name, dtype=facts.identity.dtype, revision=revision).tokenizer
            for name, revision in ((settings.model, settings.revision), (twin, settings.twin_revision))
        )
        if any(_ids(own, one.text) != _ids(other, one.text) for one in known):
            raise ArgumentError(
                f"--twin {twin} reads the texts as other tokens than {facts.name}: name a model with the same tokenizer."
            )
    for one in heads:
        if settings.heads_off and one.geometry is None:
            raise ArgumentError(f"{one.name} has no attention heads to switch off: add --heads-off 0.")


def work_of_reading(tokenizer: Any, settings: Settings) -> Work:
    """Returns what one checkpoint reads and writes."""
    texts = encoded(tokenizer, settings)
    times = 1 + len(ROLES) * (1 + RANDOM_DRAWS) * bool(settings.heads_off)
    rows = [
        context + length
        for one in texts
        for context in (0, settings.offset_tokens, settings.offset_tokens + len(one.ids))
        for length in (len(one.ids), len(one.foil), one.half)
    ]
    written = len(PLACES) * sum(len(one.ids) - one.half for one in texts)
    return Work(tokens_read=times * sum(rows), tokens_written=times * written, tokens_held=max(rows))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(encode_piece(tokenizer, text, first=True).ids)
