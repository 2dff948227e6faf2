r"""Problems with exact grading: their questions, how a response is graded, and where a run's problems come from.

They are generated (`problem_generators.py`) or read from JSON lines of the user's, in the format of GSM8K or MATH. Unlike the script of
Lin et al. 2024, a response that states no answer has none (it is counted as unextracted), numbers are compared exactly, and 100
times too much is right only on request. GSM8K answers are numbers, golds and responses read alike; MATH answers are LaTeX.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

from interp.errors import ArgumentError
from probes.critical_tokens.answers.equality import same_latex, same_number
from probes.critical_tokens.answers.extraction import extract_math, extract_number
from probes.critical_tokens.answers.numbers import read_number
from probes.critical_tokens.answers.prose import number_in
from probes.critical_tokens.grader import Grader, load_grader, verdict
from probes.critical_tokens.problem_generators import FAMILIES, Level, Task, parse_level
from probes.critical_tokens.settings import Settings

Outcome = Literal["right", "wrong", "unextracted"]
"""`unextracted`: no answer could be read out of the response. It is not right, and it is counted apart from wrong ones."""


@dataclass(frozen=True)
class Problem:
    """One problem. `solution` is the one right response in the format of the examples, "" where none is known."""

    id: str
    level: str
    prompt: str
    """Everything the model reads first, worked examples included."""
    question: str
    """The last part of the prompt: what is asked, without the examples."""
    solution: str
    gold: str
    extract: Callable[[str], str | None]
    """Reads the answer out of a response; None where there is none."""
    same: Callable[[str, str], bool] = str.__eq__
    """Whether an extracted answer and the gold one are the same."""
    grade: Callable[[str], bool | None] | None = None
    """A user's own grader of whole responses, in place of `extract` and `same`; None from it: no answer could be read."""
    check_steps: Callable[[str], list[bool]] | None = None
    """Whether each written step is right given the step before it."""

    def outcome(self, response: str) -> Outcome:
        """Returns whether a response is right, wrong, or holds no answer."""
        if self.grade is not None:
            told = self.grade(response)
            return "unextracted" if told is None else "right" if told else "wrong"
        answer = self.extract(response)
        if answer is None:
            return "unextracted"
        return "right" if self.same(answer, self.gold) else "wrong"

    def first_error(self, response: str) -> int | None:
        """Returns the character at which a response leaves the one right solution; None where it does not or none is known."""
        if not self.solution or response.startswith(self.solution.rstrip()):
            return None
        pairs = zip(response, self.solution, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(response), len(self.solution)))


# ---------------------------------------------------------------------- the problems of a run


def find_problem(settings: Settings, level: str, index: int) -> Problem:
    """Returns a problem by its level and number."""
    if settings.task_file is not None:
        return file_problems(settings)[index]
    return build_problem(parse_level(level), index, seed=settings.seed, shots=settings.shots)


def split_id(problem_id: str) -> tuple[str, int]:
    """Returns a problem's level and number from its id."""
    level, _, index = problem_id.rpartition("-")
    return level, int(index)


def check_tasks(settings: Settings) -> None:
    """Raises ArgumentError when levels, files of problems or adapters cannot be read."""
    for folder in (settings.positive_adapter, settings.negative_adapter):
        if folder is not None and not (folder / "adapter_config.json").is_file():
            raise ArgumentError(
                f"{folder} holds no adapter_config.json: give a folder that peft's save_pretrained wrote."
            )
    if settings.task_file is None:
        for text in settings.levels:
            parse_level(text)
    else:
        file_problems(settings)


def file_problems(settings: Settings) -> list[Problem]:
    """Returns the problems of the user's file."""
    assert settings.task_file is not None
    return read_problems(
        settings.task_file,
        settings.task_format,
        settings.examples,
        percent=settings.percent_tolerance,
        grader=settings.grader,
    )


# ---------------------------------------------------------------------- generated


def build_problem(level: Level, index: int, *, seed: int, shots: int) -> Problem:
    """Returns problem number `index` of a level: equal arguments give the same one; its examples are drawn anew each time."""
    random = Random(f"{seed} {level.name} {index}")
    make, extract, steps = FAMILIES[level.family]
    tasks: dict[str, Task] = {}
    while len(tasks) <= shots:
        task = make(random, level)
        tasks.setdefault(task.question, task)
    *examples, asked = tasks.values()
    prompt = "".join(f"{task.question}{task.solution}\n\n" for task in examples) + asked.question
    return Problem(
        id=f"{level.name}-{index}",
        level=level.name,
        prompt=prompt,
        question=asked.question,
        solution=f"{asked.solution}\n",
        gold=asked.gold,
        extract=extract,
        check_steps=lambda response: steps(asked, response),
    )


# ---------------------------------------------------------------------- from a file


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
        before = examples.read_text(encoding="utf-8-sig").rstrip() + "\n\n" if examples else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} or its examples cannot be read ({error}): give text files.") from error
    own = load_grader(grader) if grader is not None else None
    problems = [
        _read_line(path, number, line, format, before, percent, own, grader or "")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not problems:
        raise ArgumentError(f"{path} holds no problems: give one JSON object per line.")
    return [replace(problem, id=f"{format}-{index}") for index, problem in enumerate(problems)]


def _read_line(
    path: Path, number: int, line: str, format: str, before: str, percent: bool, grader: Grader | None, grader_name: str
) -> Problem:
    try:
        row: Any = json.loads(line, parse_float=str, object_pairs_hook=_unique)  # 0.1 as it is written
        line.encode()
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        question = _text(row["question" if format == "gsm8k" else "problem"])
        solution = "" if grader else _text(row["answer"] if "answer" in row else row["solution"])
        if grader and row.get("answer", "") is None:
            raise TypeError("the answer is null")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wanted = '"question" and "answer"' if format == "gsm8k" else '"problem" and "answer" or "solution"'
        raise ArgumentError(
            f"{path}, line {number}, has no problem with an answer: give {wanted} in each line, once, as Unicode text."
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


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; raises ValueError for a key that is given twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key is given twice")
    return row


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
        line = behind.strip().split("\n")[0]
        number = number_in(line) if "=" in line else read_number(line)
        return None if number is None else str(number)
    whole = number_in(solution) if "=" in solution and "\n" not in solution.strip() else read_number(solution)
    return str(whole) if whole is not None else _readable(extract_number(solution, gold=True))


def _readable(answer: str | None) -> str | None:
    return answer if answer is not None and read_number(answer) is not None else None


def gold_math(solution: str, *, whole: bool) -> str | None:
    r"""Returns the LaTeX answer of a solution: its last \boxed{}, else stated as in a response, else, if `whole`, all of one line."""
    stated = extract_math(solution, gold=True)
    return stated or (solution.strip() if whole and solution.strip() and "\n" not in solution.strip() else None)
