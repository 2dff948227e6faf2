r"""GSM8K and MATH problems from JSON lines that the user gives, and answers read out of free text.

Where an answer stands follows the public script of Lin et al. 2024: behind "the answer is", "####", "Final Answer:" or in
\boxed{…}. Unlike the script, a response without such a place has no answer (it is counted as unextracted), integers are
compared exactly, and 100 times too much is right only on request.
"""

import json
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

from interp.errors import ArgumentError
from probes.critical_tokens.problems import Problem

STOP_STRINGS = ("\n\nQuestion:", "\n\nProblem:", "\n\nQ:")
"""What a base model writes when it goes on to a problem of its own."""
_NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?"
_AFTER = re.compile(rf"(?:[Tt]he answer is|[Aa]nswer:|####)\s*:?\s*({_NUMBER})")


def read_problems(
    path: Path, format: Literal["gsm8k", "math"], examples: Path | None, *, percent: bool = False
) -> list[Problem]:
    """Returns the problems of a JSON-lines file: question and answer (gsm8k), problem and answer or solution (math).

    Raises ArgumentError, naming the line, for a file that cannot be read or a problem without an answer.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a JSON text may hold other ends of lines
        before = examples.read_text(encoding="utf-8").rstrip() + "\n\n" if examples else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} or its examples cannot be read ({error}): give text files.") from error
    problems = [
        _read_line(path, number, line, format, before, len(before) > 0, percent)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not problems:
        raise ArgumentError(f"{path} holds no problems: give one JSON object a line.")
    return [
        Problem(
            id=f"{format}-{index}",
            level=format,
            prompt=prompt,
            question=question,
            solution="",
            gold=gold,
            extract=extract,
            same=same,
        )
        for index, (prompt, question, gold, extract, same) in enumerate(problems)
    ]


def _read_line(
    path: Path, number: int, line: str, format: str, before: str, shown: bool, percent: bool
) -> tuple[str, str, str, Callable[[str], str | None], Callable[[str, str], bool]]:
    try:
        row: Any = json.loads(line)
        question = _text(row["question" if format == "gsm8k" else "problem"])
        solution = _text(row["answer"] if "answer" in row else row["solution"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = '"question" and "answer"' if format == "gsm8k" else '"problem" and "answer" or "solution"'
        raise ArgumentError(
            f"{path}, line {number}, has no problem with an answer: give {wanted} in each line."
        ) from error
    word = "Question" if format == "gsm8k" else "Problem"
    asked = f"{word}: {question}\n" + ("" if shown else 'Let\'s think step by step and end with "The answer is".\n')
    extract = extract_number if format == "gsm8k" else extract_math
    same = partial(same_number, percent=percent) if format == "gsm8k" else same_math
    gold = extract(solution) or (solution.strip() if "answer" in row and "\n" not in solution else None)
    if not gold:
        raise ArgumentError(
            f"{path}, line {number}, has no answer that can be read: write it as #### 42 or in \\boxed{{}}."
        )
    return before + asked, asked, gold, extract, same


def _text(value: Any) -> str:
    """A text, or a number as one; raises TypeError for null, a truth value, or a list."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is not a text")
    return str(value)


def extract_number(response: str) -> str | None:
    """Returns the number behind the first "the answer is", "Answer:" or "####", bare of $ and commas; None without one."""
    found = _AFTER.search(response)
    return found[1].replace(",", "").replace("$", "") if found else None


def same_number(answer: str, gold: str, *, percent: bool = False) -> bool:
    """Whether two numbers are equal, exactly; with `percent`, 100 times as much or as little is equal too."""
    try:
        a, b = Fraction(answer), Fraction(gold.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return False
    return a == b or (percent and (a == 100 * b or 100 * a == b))


def extract_math(response: str) -> str | None:
    r"""Returns what stands in $…$ behind the last "Final Answer:", else in the last \boxed{…}, else behind "the answer is"."""
    _, found, tail = response.rpartition("Final Answer:")
    inside = re.search(r"\$(.+?)\$", tail, re.DOTALL) if found else None
    if inside:
        return inside[1].strip()
    boxed = _last_boxed(response)
    if boxed is not None:
        return boxed
    stated = re.search(r"[Tt]he answer is:?\s*\$?([^\n$]+?)\$?\.?\s*(?:\n|$)", response)
    return stated[1].strip() if stated else None


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, first = 0, start + len("\\boxed{")
    for at in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth < 0:
            return text[first:at].strip()
    return None


def same_math(answer: str, gold: str) -> bool:
    """Whether two LaTeX answers are the same number or, after spelling is evened out, the same text."""
    a, b = _plain(answer), _plain(gold)
    return a == b or same_number(a, b)


def _plain(latex: str) -> str:
    text = re.sub(r"\\(?:left|right|,|;|!|quad|\s)", "", latex)
    text = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text)
    text = text.replace("^\\circ", "").replace("\\%", "").replace("%", "").replace("$", "").rstrip(".")
    return re.sub(r"(?<=\d),(?=\d{3})|\s", "", text)
