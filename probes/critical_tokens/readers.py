r"""GSM8K and MATH problems from JSON lines that the user gives, and answers read out of free text.

Where an answer stands is told in `stated.py`: the last one stated counts. Unlike the script of Lin et al. 2024, a response
without such a place has no answer (it is counted as unextracted), numbers are compared exactly, and 100 times too much is
right only on request. GSM8K answers are numbers (`numbers.py`, the same reader for golds and responses), MATH answers LaTeX
(`latex.py`, expressions through math-verify).
"""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from interp.errors import ArgumentError
from probes.critical_tokens.grader import Grader, load_grader, verdict
from probes.critical_tokens.latex import same_latex
from probes.critical_tokens.numbers import read_number
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.sentence import number_in
from probes.critical_tokens.stated import Statement, own_part, statements, taken_back

_REASON = re.compile(r",?\s+(?:because|since|which)\b", re.IGNORECASE)
STOP_STRINGS = ("\n\nQuestion:", "\n\nProblem:", "\n\nQ:")
"""What a base model writes when it goes on to a problem of its own."""


def read_problems(
    path: Path,
    format: Literal["gsm8k", "math"],
    examples: Path | None,
    *,
    percent: bool = False,
    grader: str | None = None,
) -> list[Problem]:
    """Returns the problems of a JSON-lines file: question and answer (gsm8k), problem and answer or solution (math).

    With a grader, module:function, the answer of a line is handed to it with the rest of the line and may be anything.

    Raises ArgumentError, naming the line, for a file that cannot be read or a problem without an answer.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a JSON text may hold other ends of lines
        before = examples.read_text(encoding="utf-8").rstrip() + "\n\n" if examples else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} or its examples cannot be read ({error}): give text files.") from error
    own = load_grader(grader) if grader is not None else None
    problems = [
        _read_line(path, number, line, format, before, percent, own, grader or "")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not problems:
        raise ArgumentError(f"{path} holds no problems: give one JSON object a line.")
    return [replace(problem, id=f"{format}-{index}") for index, problem in enumerate(problems)]


def _read_line(
    path: Path, number: int, line: str, format: str, before: str, percent: bool, grader: Grader | None, grader_name: str
) -> Problem:
    try:
        row: Any = json.loads(line, parse_float=str)  # 0.1 as it is written
        question = _text(row["question" if format == "gsm8k" else "problem"])
        solution = "" if grader else _text(row["answer"] if "answer" in row else row["solution"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = '"question" and "answer"' if format == "gsm8k" else '"problem" and "answer" or "solution"'
        raise ArgumentError(
            f"{path}, line {number}, has no problem with an answer: give {wanted} in each line."
        ) from error
    word = "Question" if format == "gsm8k" else "Problem"
    asked = f"{word}: {question}\n" + ("" if before else 'Let\'s think step by step and end with "The answer is".\n')
    made = Problem(
        id=format,
        level=format,
        prompt=before + asked,
        question=asked,
        solution="",
        gold="",
        extract=extract_number if format == "gsm8k" else extract_math,
        same=partial(same_number, percent=percent) if format == "gsm8k" else same_latex,
    )
    if grader:
        graded = json.loads(line)
        return replace(made, grade=partial(verdict, grader, grader_name, graded), gold=str(graded.get("answer", "")))
    gold = gold_number(solution) if format == "gsm8k" else gold_math(solution, whole="answer" in row)
    if not gold:
        raise ArgumentError(
            f"{path}, line {number}, has no answer that can be read: write it as #### 42 or in \\boxed{{}}."
        )
    return replace(made, gold=gold)


def _text(value: Any) -> str:
    """A text, a number as one, or the only member of a list; raises TypeError for null, a truth value, or several members."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is not a text")
    return str(value)


def gold_number(solution: str) -> str | None:
    """Returns the number of a solution: behind its last ####, else stated as in a response, else the whole of it; None for none."""
    _, marked, behind = solution.rpartition("####")
    if marked:
        number = read_number(behind.strip().split("\n")[0])
        return None if number is None else str(number)
    whole = read_number(solution)
    return str(whole) if whole is not None else _readable(extract_number(solution))


def _readable(answer: str | None) -> str | None:
    return answer if answer is not None and read_number(answer) is not None else None


def gold_math(solution: str, *, whole: bool) -> str | None:
    r"""Returns the LaTeX answer of a solution: its last \boxed{}, else stated as in a response, else, if `whole`, all of one line."""
    stated = extract_math(solution)
    return stated or (solution.strip() if whole and solution.strip() and "\n" not in solution.strip() else None)


def extract_number(response: str) -> str | None:
    """Returns the number that a response states last, in a form that read_number reads.

    Digits that are not one number (18 or 19, 5,6, 10:30) come back as they stand and equal no gold. None for no statement, for one
    without a number, and for one that is taken back.
    """
    response = own_part(response)
    for statement in reversed(statements(response)):
        if statement.boxed and not statement.text:  # cut off within its box
            return None
        number = number_in(statement.text)
        if number is None and not re.search(r"\d", statement.text):
            continue
        return None if taken_back(response, statement) else statement.text if number is None else str(number)
    return None


def same_number(answer: str, gold: str, *, percent: bool = False) -> bool:
    """Whether two numbers are equal, exactly; with `percent`, 100 times as much or as little is equal too."""
    a, b = read_number(answer), read_number(gold)
    if a is None or b is None:
        return False
    return a.same(b) or (percent and (a.value == 100 * b.value or 100 * a.value == b.value))


def extract_math(response: str) -> str | None:
    r"""Returns the answer that a response states last, as LaTeX: in \boxed{…}, or in a sentence such as "the answer is $…$".

    A sentence behind a box counts if what it states begins as mathematics does. None for no statement, for a box that was cut off,
    and for an answer that is taken back.
    """
    response = own_part(response)
    found = statements(response)
    boxes = [statement for statement in found if statement.boxed]
    stated = [s for s in found if not s.boxed and (not boxes or (s.end > boxes[-1].end and _mathematical(s)))]
    last = stated[-1] if stated else boxes[-1] if boxes else None
    if last is None or taken_back(response, last):
        return None
    if last.boxed:
        return last.text or None
    text = _REASON.split(last.text)[0] or last.text
    text = re.sub(r"^(?:option|choice) (?=\(?[A-Z]\)?$)", "", text.strip("* "), flags=re.IGNORECASE)
    number = number_in(text) if re.search(r"\d", text) and " " in text and "\\" not in text else None
    return text if number is None else str(number)


def _mathematical(statement: Statement) -> bool:
    return (
        re.match(r"[-+$\\\d({\[]|[A-Za-z]\s*[-+*/^=_(]", statement.text) is not None
        or re.fullmatch(r"[A-Z]", statement.text) is not None
    )
