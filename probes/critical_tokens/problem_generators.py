"""Seeded generators of problems that a small model sometimes solves, each with knobs that make it harder.

A level is written family-size-difficulty, such as arithmetic-2-9:

arithmetic  size: steps; difficulty: largest operand. Every running total is written down.
lookup      size: pairs of a table; difficulty: hops from key to key before the value is reached.
tally       size: items of a list; difficulty: items of another kind among them, which must not be counted.
words       size: words to write; difficulty: 0 copies the list, 1 reverses it.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import NamedTuple

from interp.errors import ArgumentError, did_you_mean

WORDS = (
    "apple river stone cloud table horse green light paper music bread glass train beach clock tiger field chair salt ship "
    "lemon night queen sugar"
).split()
NAMES = "Ann Bob Cal Dan Eve Fay Gus Hal Ida Jim Kay Leo Meg Ned Pam Ray Sue Tom".split()


class Level(NamedTuple):
    """A family and its two knobs."""

    family: str
    size: int
    difficulty: int

    @property
    def name(self) -> str:
        """How the level is written."""
        return f"{self.family}-{self.size}-{self.difficulty}"


class Task(NamedTuple):
    """A question, its one right response, the answer in it."""

    question: str
    solution: str
    gold: str


def parse_level(text: str) -> Level:
    """Returns the level written as family-size-difficulty.

    Raises ArgumentError, with what to type, for another family or sizes out of range.
    """
    found = re.fullmatch(r"([a-z]+)-(\d+)-(\d+)", text)
    if not found:
        raise ArgumentError(f"A level is written family-size-difficulty, such as arithmetic-2-9, not {text}.")
    level = Level(found[1], int(found[2]), int(found[3]))
    if level.family not in FAMILIES:
        hint = did_you_mean(level.family, list(FAMILIES))
        raise ArgumentError(f"There is no family of problems called {level.family}: use {', '.join(FAMILIES)}.{hint}")
    low, high = _RANGES[level.family]
    if not all(a <= value <= b for a, value, b in zip(low, level[1:], high, strict=True)):
        raise ArgumentError(
            f"{level.family} takes sizes from {low[0]} to {high[0]} and difficulties from {low[1]} to {high[1]}, not {text}."
        )
    return level


def _arithmetic(random: Random, level: Level) -> Task:
    total = random.randint(1, level.difficulty)
    question, lines = f"Q: {total}", []
    for _ in range(level.size):
        sign = random.choice("+-") if total else "+"
        operand = random.randint(1, level.difficulty if sign == "+" else min(level.difficulty, total))
        after = total + operand if sign == "+" else total - operand
        question += f" {sign} {operand}"
        lines.append(f"{total} {sign} {operand} = {after}")
        total = after
    return Task(f"{question}\nA:", f" {', '.join(lines)}. Answer: {total}", str(total))


def _arithmetic_answer(response: str) -> str | None:
    found = re.search(r"Answer: (-?\d+)\s*$", response)
    return str(int(found[1])) if found else None


_EQUATION = re.compile(r"(-?\d+) ([+-]) (\d+) = (-?\d+)")


def _arithmetic_steps(task: Task, response: str) -> list[bool]:
    """A step is right if it starts from the total written before it, applies the next operand asked for, and adds up."""
    start, *operands = re.findall(r"[+-]? ?\d+", task.question)
    total, checked = int(start), []
    for operand, (left, sign, right, result) in zip(operands, _EQUATION.findall(response), strict=False):
        sum_ = int(left) + int(right) if sign == "+" else int(left) - int(right)
        checked.append(int(left) == total and f"{sign} {right}" == operand and int(result) == sum_)
        total = int(result)
    return checked


def _lookup(random: Random, level: Level) -> Task:
    keys = random.sample(NAMES, level.size)
    path = keys[: level.difficulty + 1]
    table = {key: str(random.randint(100, 999)) for key in keys}
    table |= dict(pairwise(path))
    rows = list(table.items())
    random.shuffle(rows)
    question = "; ".join(f"{key} {value}" for key, value in rows) + f". {path[0]}:"
    visited = [table[key] for key in path]
    return Task(question, "".join(f" {value}" for value in visited), visited[-1])


def _lookup_answer(response: str) -> str | None:
    found = re.search(r"(\d+)\s*$", response)
    return found[1] if found else None


def _word_steps(task: Task, response: str) -> list[bool]:
    """A step is a word, right if it is the next one of the solution."""
    return [a == b for a, b in zip(response.split(), task.solution.split(), strict=False)]


def _tally(random: Random, level: Level) -> Task:
    wanted, other = random.sample(WORDS, 2)
    items = [wanted] * level.size + [other] * level.difficulty
    random.shuffle(items)
    marks, count = [], 0
    for item in items:
        count += item == wanted
        marks.append(f"{item} {count}")
    return Task(f"Count {wanted}: {' '.join(items)}\nTally:", f" {', '.join(marks)}. Total: {count}", str(count))


def _tally_answer(response: str) -> str | None:
    found = re.search(r"Total: (\d+)\s*$", response)
    return found[1] if found else None


def _words(random: Random, level: Level) -> Task:
    words = random.sample(WORDS, level.size)
    written = words[::-1] if level.difficulty else words
    verb = "Backwards" if level.difficulty else "Copy"
    return Task(f"Words: {' '.join(words)}\n{verb}:", f" {' '.join(written)}", " ".join(written))


def _words_answer(response: str) -> str | None:
    return " ".join(response.split()) or None


FAMILIES: dict[
    str,
    tuple[Callable[[Random, Level], Task], Callable[[str], str | None], Callable[[Task, str], list[bool]]],
] = {
    "arithmetic": (_arithmetic, _arithmetic_answer, _arithmetic_steps),
    "lookup": (_lookup, _lookup_answer, _word_steps),
    "tally": (_tally, _tally_answer, _word_steps),
    "words": (_words, _words_answer, _word_steps),
}
_RANGES = {
    "arithmetic": ((1, 2), (40, 99)),
    "lookup": ((2, 0), (len(NAMES), len(NAMES) - 1)),
    "tally": ((1, 0), (30, 30)),
    "words": ((2, 0), (len(WORDS), 1)),
}
"""Smallest and largest (size, difficulty)."""
