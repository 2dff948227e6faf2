"""The settings of the surprisal experiment, and the texts that they name. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.bounds import SOME, OpenShare
from interp.experiments.experiment import Dtype, Experiment
from interp.kept import kept_while_unchanged

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
        return _read(self.texts, self.text_column, self.id_column, self.prefix_column, self.prefix)


@lru_cache(maxsize=2)
def _own_texts(prefix: str) -> tuple[Text, ...]:
    from interp.stimuli.prose import news_articles
    from interp.stimuli.sentences import sentences

    firsts = (sentences(article)[0] for article in news_articles()[:OWN_TEXTS])
    return tuple(Text(f"{number:03d}", sentence, prefix) for number, sentence in enumerate(firsts))


@kept_while_unchanged(lambda path, *_: (path,), maxsize=4)
def _read(path: Path, text: str, id: str, before: str, prefix: str) -> tuple[Text, ...]:
    from interp.stimuli.prose import read_text
    from interp.stimuli.table_files import TABLE_FILES, read_rows

    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of texts with --texts.")
    if path.suffix.lower() not in (".txt", *TABLE_FILES):
        raise ArgumentError(f"{path} is not one of .txt, {', '.join(TABLE_FILES)}: save the texts as one of these.")
    plain = path.suffix.lower() == ".txt"
    lines = ({"text": line} for line in read_text(path).split("\n")) if plain else None
    rows = lines if lines is not None else read_rows(path, {text, id, before})
    found: dict[str, Text] = {}
    for number, row in enumerate(rows):
        wanted = "text" if plain else text
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
