"""Pairs of texts with a grade of how alike their meanings are: our own, or a user's STS file. Imports no torch."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from interp.errors import ArgumentError, did_you_mean
from interp.kept import kept_while_unchanged

OWN_PAIRS = Path(__file__).with_name("pairs.toml")
GRADES = {
    "paraphrase": 5.0, "translation": 5.0, "detail": 3.0, "negation": 2.0, "roles": 2.0, "topic": 1.0, "unrelated": 0.0,
}  # fmt: skip
"""Grade of our own pairs by kind, on the scale of STS: 5 means the same, 0 nothing in common."""
TRAPS = ("negation", "roles", "translation")
"""Kinds in which shared words mislead: nearly all are shared and the meaning is another, or none and it is the same."""
_UNRELATED_STEP = 7
"""A sentence's unrelated partner is the sentence so many places further on."""


@dataclass(frozen=True)
class Pair:
    """Two texts and their grade; pairs of one cluster share a sentence."""

    id: str
    cluster: str
    kind: str
    first: str
    second: str
    grade: float


def own_pairs(limit: int | None = None) -> tuple[Pair, ...]:
    """Returns our own pairs: seven for each of the first `limit` sentences."""
    rows = tomllib.loads(OWN_PAIRS.read_text(encoding="utf-8"))["sentence"][:limit]
    found = []
    for number, row in enumerate(rows):
        others = {**row, "unrelated": rows[(number + _UNRELATED_STEP) % len(rows)]["text"]}
        found += [
            Pair(f"{number:02d}-{kind}", f"{number:02d}", kind, row["text"], others[kind], grade)
            for kind, grade in GRADES.items()
        ]
    return tuple(found)


@kept_while_unchanged(lambda path, _: (path,), maxsize=4)
def read_pairs(path: Path, columns: tuple[str, str, str]) -> tuple[Pair, ...]:
    """Returns the pairs of a .tsv, .csv or .jsonl file; `columns` name the first text, the second and the grade.

    Pairs that share their first text are one cluster.
    Raises ArgumentError for a column that is not there, a grade that is no number, an empty text, or fewer than two pairs.
    """
    from interp.stimuli.table_files import read_rows

    found = []
    for number, row in enumerate(read_rows(path, columns), start=1):
        for flag, name in zip(("first", "second", "grade"), columns, strict=True):
            if name not in row:
                raise ArgumentError(
                    f"{path} has no column {name} in row {number}.{did_you_mean(name, list(row))} Name it with --{flag}-column."
                )
        first, second, grade = (row[name].strip() for name in columns)
        if not first or not second:
            raise ArgumentError(f"{path} has an empty text in row {number}: leave the pair out.")
        try:
            value = float(grade)
        except ValueError as error:
            raise ArgumentError(f"{path} has the grade {grade!r} in row {number}: write a number.") from error
        if not math.isfinite(value):
            raise ArgumentError(f"{path} has the grade {grade!r} in row {number}: write a finite number.")
        found.append(Pair(f"{number:05d}", first, "given", first, second, value))
    if len(found) < 2 or len({pair.grade for pair in found}) < 2:
        raise ArgumentError(
            f"{path} needs at least two pairs with different grades: there is no correlation otherwise."
        )
    return tuple(found)


def texts_of(pairs: tuple[Pair, ...]) -> tuple[str, ...]:
    """Returns every text once, in the order of its first pair."""
    return tuple(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))


def word_overlap(first: str, second: str) -> float:
    """Returns the share of two texts' words that both have, without regard to case: from 0 to 1."""
    a, b = (frozenset(text.casefold().split()) for text in (first, second))
    return len(a & b) / len(a | b)
