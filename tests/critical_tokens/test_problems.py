"""Problems of every family and of files: what is right, wrong or unreadable, where a response first goes wrong, what is refused."""

import json
from pathlib import Path

import pytest

from interp.errors import ArgumentError
from probes.critical_tokens import problem_generators as families
from probes.critical_tokens.answers.equality import same_latex, same_number
from probes.critical_tokens.answers.extraction import extract_math, extract_number
from probes.critical_tokens.problem_generators import parse_level
from probes.critical_tokens.problems import Problem, build_problem, gold_math, gold_number, read_problems
from probes.critical_tokens.token_classes import token_class

LEVELS = ["arithmetic-3-9", "lookup-5-2", "lookup-4-0", "tally-3-2", "words-4-0", "words-4-1"]


def problem(level: str, index: int = 0, seed: int = 0) -> Problem:
    return build_problem(parse_level(level), index, seed=seed, shots=3)


@pytest.mark.parametrize("level", LEVELS)
def test_every_solution_is_right_and_free_of_errors(level: str) -> None:
    for index in range(30):
        made = problem(level, index)
        assert made.outcome(made.solution) == "right"
        assert made.first_error(made.solution) is None
        assert made.prompt.endswith(made.question)
        assert made.check_steps is not None
        steps = made.check_steps(made.solution)
        assert steps
        assert all(steps)
        examples = made.prompt.removesuffix(made.question).split("\n\n")
        assert len(examples) == 4  # three and the empty end
        assert made.question not in made.prompt.removesuffix(made.question)


@pytest.mark.parametrize("level", LEVELS)
def test_problems_go_by_seed_and_number(level: str) -> None:
    assert problem(level, 3).prompt == problem(level, 3).prompt
    assert len({problem(level, index, seed).prompt for index in range(5) for seed in range(2)}) == 10


def test_knobs_make_longer_problems() -> None:
    assert problem("arithmetic-5-9").solution.count("=") == 5
    assert len(problem("lookup-5-2").solution.split()) == 3
    assert problem("tally-3-2").gold == "3"
    assert len(problem("words-7-0").gold.split()) == 7


def test_reversing_reverses() -> None:
    made = problem("words-4-1")
    asked = made.question.split("\n")[0].removeprefix("Words: ").split()
    assert made.gold.split() == asked[::-1]


def arithmetic() -> Problem:
    """Q: 4 + 5 - 2, whatever the seed."""
    made = problem("arithmetic-2-5")
    task = families.Task("Q: 4 + 5 - 2\nA:", " 4 + 5 = 9, 9 - 2 = 7. Answer: 7", "7")
    return Problem(
        made.id,
        made.level,
        "Q: 4 + 5 - 2\nA:",
        "Q: 4 + 5 - 2\nA:",
        f"{task.solution}\n",
        "7",
        made.extract,
        check_steps=lambda response: families._arithmetic_steps(task, response),
    )


@pytest.mark.parametrize(
    ("response", "outcome", "error", "steps"),
    [
        (" 4 + 5 = 9, 9 - 2 = 7. Answer: 7\n", "right", None, [True, True]),
        (" 4 + 5 = 8, 8 - 2 = 6. Answer: 6\n", "wrong", 9, [False, True]),
        (" 4 + 5 = 8, 8 - 2 = 7. Answer: 7\n", "right", 9, [False, False]),  # errors that cancel are right, exactly
        (" 4 + 5 = 9, 9 - 2 = 7. Answer: 8\n", "wrong", 31, [True, True]),
        (" 4 + 5 = 9, 8 - 2 = 6. Answer: 6\n", "wrong", 12, [True, False]),  # does not start from its own total
        (" 4 + 5 = 9, 9 - 2 = 7.\n", "unextracted", 22, [True, True]),
        (" 4 + 5 = 9, 9 - 2 = 7. Answer: seven\n", "unextracted", 31, [True, True]),
        ("", "unextracted", 0, []),
    ],
)
def test_responses_by_hand(response: str, outcome: str, error: int | None, steps: list[bool]) -> None:
    made = arithmetic()
    assert made.outcome(response) == outcome
    assert made.first_error(response) == error
    assert made.check_steps is not None
    assert made.check_steps(response) == steps


@pytest.mark.parametrize(
    "level", ["arithmetic", "arithmetic-2", "arithmetc-2-5", "arithmetic-0-5", "lookup-1-0", "words-3-2", "2-5-words"]
)
def test_levels_that_do_not_exist_are_refused(level: str) -> None:
    with pytest.raises(ArgumentError):
        parse_level(level)


def test_a_typo_gets_a_suggestion() -> None:
    with pytest.raises(ArgumentError, match="Did you mean arithmetic"):
        parse_level("arithmetc-2-5")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("So 3 + 4. The answer is 7.", "7"),
        ("the answer is $1,234.50 in all", "2469/2 dollar"),
        ("Therefore #### -12", "-12"),
        ("Answer: 42\n", "42"),
        ("The answer is 3. The answer is 4.", "4"),  # the last one stated
        ("I get 7 and then 8", None),  # the script would take the last number; here it has no answer
        ("The answer is seven", "7"),
        ("The answer is unknown", None),
        ("The answer is 5,6", "5,6"),  # stated, and no number
        ("", None),
    ],
)
def test_numbers_are_read_out_of_text(response: str, answer: str | None) -> None:
    assert extract_number(response) == answer


@pytest.mark.parametrize(
    ("a", "b", "percent", "same"),
    [
        ("5", "5.0", False, True),
        ("5", "500", False, False),
        ("5", "500", True, True),
        ("500", "5", True, True),
        ("1/2", "0.5", False, True),
        ("5", "5.0001", False, False),  # exact, unlike the script's relative tolerance
        ("x", "5", False, False),
        ("1/0", "5", False, False),
    ],
)
def test_numbers_are_compared_exactly(a: str, b: str, percent: bool, same: bool) -> None:
    assert same_number(a, b, percent=percent) is same


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} holds", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{x^{2}}", "x^{2}"),
        ("Final Answer: The final answer is $12$. I hope it is correct.", "12"),
        (r"\boxed{3} Final Answer: $4$", "4"),
        ("The answer is 12.", "12"),
        (r"\boxed{never closed", None),
        ("it is 12", None),
    ],
)
def test_latex_is_read_out_of_text(response: str, answer: str | None) -> None:
    assert extract_math(response) == answer


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\dfrac{1}{2}", r"\frac12", True),
        (r"\dfrac{1}{2}", r"\frac{1}{2}", True),
        (r"\frac{1}{2}", "0.5", True),
        ("1,000", "1000", True),
        (r"90^\circ", "90", True),
        (r"\text{east}", "east", True),
        (r"\left(1, 2\right)", "(1,2)", True),
        ("x+1", "1+x", True),
    ],
)
def test_latex_is_compared_after_evening_out(a: str, b: str, same: bool) -> None:
    assert same_latex(a, b) is same


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_files_are_read(tmp_path: Path) -> None:
    gsm = lines(tmp_path / "gsm.jsonl", {"question": "How many?", "answer": "2 + 2 = 4\n#### 4"})
    (made,) = read_problems(gsm, "gsm8k", None)
    assert made.gold == "4"
    assert made.outcome("The answer is 4.") == "right"
    assert made.outcome("The answer is 400.") == "wrong"
    assert made.outcome("maybe 4") == "unextracted"
    assert read_problems(gsm, "gsm8k", None, percent=True)[0].outcome("The answer is 400.") == "right"
    math = lines(tmp_path / "math.jsonl", {"problem": "What is x?", "solution": r"Thus \boxed{\frac{3}{4}}."})
    (made,) = read_problems(math, "math", None)
    assert made.outcome(r"\boxed{0.75}") == "right"
    examples = tmp_path / "examples.txt"
    examples.write_text("Question: one\nThe answer is 1.\n")
    assert read_problems(gsm, "gsm8k", examples)[0].prompt == "Question: one\nThe answer is 1.\n\nQuestion: How many?\n"


@pytest.mark.parametrize(
    "row",
    [{"question": "How many?"}, {"answer": "4"}, "not json", {"question": "How many?", "answer": "many\nmany"}, "[]"],
)
def test_problems_without_answers_are_refused_by_line(tmp_path: Path, row: object) -> None:
    path = lines(tmp_path / "gsm.jsonl", {"question": "a", "answer": "#### 1"}, row)
    with pytest.raises(ArgumentError, match="line 2"):
        read_problems(path, "gsm8k", None)


@pytest.mark.parametrize(
    "row",
    [
        r'{"question": "a \ud800 b", "answer": "#### 1"}',
        '{"question": "a", "answer": null}',
        '{"question": "a", "answer": "#### 1", "answer": "#### 2"}',
        '{"question": "a", "answer": "#### 1", "more": {"k": 1, "k": 2}}',
    ],
)
def test_what_is_no_text_or_given_twice_is_refused_by_line(tmp_path: Path, row: str) -> None:
    path = lines(tmp_path / "gsm.jsonl", {"question": "a", "answer": "#### 1"}, row)
    with pytest.raises(ArgumentError, match="line 2"):
        read_problems(path, "gsm8k", None)


def test_a_byte_order_mark_is_no_part_of_the_examples(tmp_path: Path) -> None:
    gsm = lines(tmp_path / "gsm.jsonl", {"question": "How many?", "answer": "#### 4"})
    examples = tmp_path / "examples.txt"
    examples.write_text("\ufeffQuestion: one\nThe answer is 1.\n", encoding="utf-8")
    assert read_problems(gsm, "gsm8k", examples)[0].prompt.startswith("Question: one\n")


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        (r"$\boxed{3} \text{ or } \boxed{4}$", "3, 4"),
        (r"$\boxed{3}\quad\boxed{4}$", "3, 4"),
        (r"so $\boxed{5}$. Thus he has to wait 5 minutes.", "5"),
        (r"so $n\equiv\boxed{3}\pmod 7$", "3"),
        (r"so at least $\boxed{5}$", "5"),
        (r"the area is $\boxed{5}\pi$", r"5\pi"),
    ],
)
def test_golds_are_all_of_their_boxes(solution: str, gold: str) -> None:
    assert gold_math(solution, whole=False) == gold


@pytest.mark.parametrize(
    "text",
    [
        "1.5M",
        "18M",
        "18 score",
        "18 point five",
        "18 gross",
        "$18 dozen",
        "18元5角",
        "12,5",
        "2*",
        "18 mil",
        "18 at most",
        "18 sevenths",
    ],
)
def test_golds_of_an_unknown_scale_are_refused(text: str) -> None:
    assert gold_number(f"#### {text}") is None


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("x = 18", "18"),
        ("9*2=18", "18"),
        ("$1.5 million", "1500000 dollar"),
        ("$1.5M", "1500000 dollar"),
        ("18 eggs", "18 eggs"),
    ],
)
def test_golds_are_read(text: str, gold: str) -> None:
    assert gold_number(f"#### {text}") == gold


def test_files_that_are_not_there_or_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_problems(tmp_path / "none.jsonl", "gsm8k", None)
    with pytest.raises(ArgumentError, match="holds no problems"):
        read_problems(lines(tmp_path / "empty.jsonl", ""), "gsm8k", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" 12", "number"), ("x2", "number"), (" +", "operator"), ("=", "operator"), (".", "punctuation"), (" the", "function"),
     (" river", "content"), (" ", "space"), ("\n", "space"), ("", "space"),
     ("½", "number"), ("Ⅷ", "number"), ("≤", "operator"), (" ≠", "operator"), ("√", "operator"),
     ("±", "operator"), ("一", "content"), ("\ufffd", "content"), ("\u093f", "content"), ("$", "punctuation")],
)  # fmt: skip
def test_token_classes(text: str, expected: str) -> None:
    assert token_class(text) == expected
