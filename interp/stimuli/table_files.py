"""Rows of a user's file of texts: .csv and .tsv with a header, .jsonl with an object in every line."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from interp.errors import ArgumentError
from interp.stimuli.prose import read_text

TABLE_FILES = (".tsv", ".csv", ".jsonl")


def read_rows(path: Path) -> Iterable[dict[str, str]]:
    """Yields the rows of a file as texts by column, in order.

    Raises ArgumentError for another kind of file, one that cannot be read, and a row that does not fit its header.
    """
    readers = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise ArgumentError(f"{path} is not one of {', '.join(TABLE_FILES)}: save it as one of these.")
    return readers[path.suffix](path, read_text(path))


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
