"""Rows of a user's file of texts: .csv and .tsv with a header, .jsonl with an object in every line."""

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from interp.errors import ArgumentError
from interp.stimuli.prose import one_spelling, read_text, sign_of_no_text

TABLE_FILES = (".tsv", ".csv", ".jsonl")
_QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
"""A field as CSV writes it, with a quotation mark in it; no one writes two in a row otherwise."""


def read_rows(path: Path, columns: Collection[str]) -> Iterator[dict[str, str]]:
    """Yields the rows of a file as texts by column, in order; of a JSON object the columns named, which hold texts or numbers.

    Texts come with one_spelling characters (NFC), however the file spells them; numbers as they are written.
    Raises ArgumentError for another kind of file, one that cannot be read, a header or an object with a name twice, a row that
    does not fit its header, and a value that is no text.
    """
    readers = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise ArgumentError(f"{path} is not one of {', '.join(TABLE_FILES)}: save it as one of these.")
    return readers[path.suffix.lower()](path, read_text(path), columns)


def _csv(path: Path, content: str, columns: Collection[str], delimiter: str = ",") -> Iterator[dict[str, str]]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE  # in TSV a quotation mark is a character
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # by itself csv takes no text of 131,072 characters
    try:
        rows = csv.DictReader(io.StringIO(content), delimiter=delimiter, quoting=quoting, strict=True)
        _check_once(path, rows.fieldnames or (), columns)
        for row in rows:
            if None in row or None in row.values():
                raise ArgumentError(f"{path} has a row of another length than its header: {list(row.values())[:3]}.")
            if delimiter == "\t" and (quoted := next((one for one in row.values() if _QUOTED.fullmatch(one)), None)):
                raise ArgumentError(
                    f"{path} quotes texts as CSV does ({quoted[:40]}), which TSV does not: save it as .csv or .jsonl."
                )
            yield row
    except csv.Error as error:
        raise ArgumentError(f"{path} is not a table that can be read ({error}): save it as .jsonl.") from error


def _check_once(path: Path, header: Sequence[str], columns: Collection[str]) -> None:
    """Raises ArgumentError for a column of interest that a header names twice: only one of them would be read."""
    if twice := next((name for name in columns if list(header).count(name) > 1), None):
        raise ArgumentError(f"{path} has two columns {twice}: give each a name of its own.")


def _tsv(path: Path, content: str, columns: Collection[str]) -> Iterator[dict[str, str]]:
    return _csv(path, content, columns, "\t")


def _jsonl(path: Path, content: str, columns: Collection[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs, parse_float=str, parse_int=str)
            if not isinstance(pairs, _Pairs):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"{where}, is not a JSON object ({error}).") from error
        given = [(key, value) for key, value in pairs if key in columns and value is not None]
        _check_once(path, [key for key, _ in given], columns)
        yield {key: _as_text(value, f"{key} in {where},") for key, value in given}


class _Pairs(tuple[tuple[str, Any], ...]):
    """The names and values of a JSON object, in which a name may come twice."""


def _as_text(value: Any, name: str) -> str:
    """A value of a JSON object as a text. Raises ArgumentError for a list, a truth value, NaN, or signs that no text has."""
    if not isinstance(value, str):
        raise ArgumentError(f"{name} is neither a text nor a number: give a text.")
    if sign := sign_of_no_text(value):
        raise ArgumentError(f"{name} holds U+{ord(sign):04X}, which is no character of a text: leave it out.")
    return one_spelling(value)
