"""The settings of the surprisal experiment, and the texts that they name. Imports no torch."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.bounds import SOME, OpenShare
from interp.experiments.experiment import Dtype, Experiment

Mode = Literal["raw", "boundary", "exact"]
OWN_TEXTS = 40
"""Sentences of news prose that are read where no file is named."""


@dataclass(frozen=True)
class Text:
    """One text to read, and what stands before it."""

    id: str
    text: str
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of Surprisal."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"modes": ("raw",)}}

    dtype: Dtype = "float32"
    """Precision of the weights. Half precision changes surprisals by hundredths of a nat."""
    texts: Path | None = None
    """File of texts: .txt with one text per line, .tsv or .csv with a header, or .jsonl; by default sentences of news prose."""
    text_column: str = "text"
    """Column (or JSON key) of the text."""
    id_column: str = "id"
    """Column (or JSON key) of the text's id; without one, texts are numbered."""
    prefix_column: str = "prefix"
    """Optional column (or JSON key) of a prefix, which is read before the text and not scored."""
    prefix: str = ""
    """Prefix for every text that has none of its own."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether a text begins with the beginning-of-sequence token; auto follows the tokenizer. A first word with neither that token
    nor a prefix before it has no surprisal."""
    modes: Annotated[tuple[Mode, ...], SOME] = ("raw", "boundary")
    """How a word's probability is computed. raw: product over its tokens; boundary: also includes the probability that the word
    ends there; exact: sum over all tokenizations of the word (far slower)."""
    exact_threshold: OpenShare = 1e-3
    """With exact: follow other tokenizations while they are at least this likely relative to the tokenizer's own."""

    def input_files(self) -> Sequence[Path]:
        """Returns the file of texts."""
        return [self.texts] if self.texts else []

    def read_texts(self) -> tuple[Text, ...]:
        """Returns the texts in the order of their file, without those that are empty.

        Raises ArgumentError for a file that is not there, that lacks the column of texts, or that holds no text.
        """
        if self.texts is None:
            return _own_texts(self.prefix)
        stamp = self.texts.stat().st_mtime_ns if self.texts.is_file() else 0
        return _read(self.texts, stamp, self.text_column, self.id_column, self.prefix_column, self.prefix)


@lru_cache(maxsize=2)
def _own_texts(prefix: str) -> tuple[Text, ...]:
    from interp.stimuli.prose import news_articles
    from interp.stimuli.sentences import sentences

    firsts = (sentences(article)[0] for article in news_articles()[:OWN_TEXTS])
    return tuple(Text(f"{number:03d}", sentence, prefix) for number, sentence in enumerate(firsts))


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: int, text: str, id: str, before: str, prefix: str) -> tuple[Text, ...]:
    from interp.stimuli.prose import read_text

    readers = {".txt": _lines, ".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of texts with --texts.")
    if path.suffix not in readers:
        raise ArgumentError(f"{path} is not one of {', '.join(readers)}: save the texts as one of these.")
    found: dict[str, Text] = {}
    for number, row in enumerate(readers[path.suffix](path, read_text(path))):
        wanted = "text" if path.suffix == ".txt" else text
        if wanted not in row:
            raise ArgumentError(
                f"{path} has no column {wanted} in row {number + 1}.{did_you_mean(wanted, list(row))} Name it with --text-column."
            )
        words = row[wanted].strip()
        if not words:
            continue
        named = row.get(id, "").strip() or f"{number:03d}"
        if named in found:
            raise ArgumentError(f"{path} has two texts called {named}: give each an {id} of its own.")
        found[named] = Text(named, words, row.get(before, "").strip() or prefix.strip())
    if not found:
        raise ArgumentError(f"{path} holds no text.")
    return tuple(found.values())


def _lines(_: Path, content: str) -> Iterable[dict[str, str]]:
    return ({"text": line} for line in content.split("\n"))


def _csv(path: Path, content: str, delimiter: str = ",") -> Iterable[dict[str, str]]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE  # in TSV a quotation mark is a character
    try:
        for row in csv.DictReader(io.StringIO(content), delimiter=delimiter, quoting=quoting, strict=True):
            if None in row or None in row.values():
                raise ArgumentError(f"{path} has a row of another length than its header: {list(row.values())[:3]}.")
            yield row
    except csv.Error as error:
        raise ArgumentError(f"{path} is not a table that can be read ({error}).") from error


def _tsv(path: Path, content: str) -> Iterable[dict[str, str]]:
    return _csv(path, content, "\t")


def _jsonl(path: Path, content: str) -> Iterable[dict[str, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise ArgumentError(f"{path}, line {number}, is not a JSON object ({error}).") from error
        yield {key: str(value) for key, value in row.items() if value is not None}
