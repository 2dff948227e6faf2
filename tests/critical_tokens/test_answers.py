"""Answers: pairs of a gold and a response whose truth was told by hand, and inputs that would run away."""

import json
import time
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest

from interp.errors import ArgumentError
from probes.critical_tokens.answers.equality import same_latex, same_number
from probes.critical_tokens.answers.extraction import extract_math, extract_number
from probes.critical_tokens.answers.numbers import read_number
from probes.critical_tokens.answers.places import CODES, SIGNS, WORDS, money
from probes.critical_tokens.problems import read_problems

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "answer_pairs.jsonl").read_text("utf-8").splitlines()]
"""Format, line of the problem file, response, and whether it is right: "own-…" and field cases."""


def outcome(pair: dict[str, Any], folder: Path) -> str:
    path = folder / "problems.jsonl"
    path.write_text(json.dumps(pair["problem"]), encoding="utf-8")
    return read_problems(path, pair["format"], None)[0].outcome(pair["response"])


def test_every_pair_is_told_as_by_hand(tmp_path: Path) -> None:
    told = {pair["id"]: outcome(pair, tmp_path) for pair in PAIRS}
    wrong = {
        pair["id"]: (pair["problem"], pair["response"], told[pair["id"]])
        for pair in PAIRS
        if (told[pair["id"]] == "right") != (pair["truth"] == "right")
    }
    assert not wrong
    assert len(PAIRS) > 1500


def test_a_response_that_states_the_gold_as_it_is_written_is_right(tmp_path: Path) -> None:
    solutions = {pair["problem"]["solution"] for pair in PAIRS if pair["format"] == "math"}
    golds = {solution.removeprefix("so ") for solution in solutions if solution.startswith(r"so \boxed")}
    for gold in golds:
        pair = {"format": "math", "problem": {"problem": "p", "solution": gold}, "response": f"So it is ${gold}$."}
        assert outcome(pair, tmp_path) == "right", gold


@pytest.mark.parametrize(
    "answer",
    [
        "many", "18 or 19", "#### 5,6", "#### x", "10:30", ["18", "19"], [], None, True, "18/0", "1\n2", float("nan"), {"a": 1},
    ],
)  # fmt: skip
def test_a_gold_that_is_no_number_is_refused_by_its_line(tmp_path: Path, answer: object) -> None:
    path = tmp_path / "gsm.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": 1}) + "\n" + json.dumps({"question": "q", "answer": answer}))
    with pytest.raises(ArgumentError, match="line 2"):
        read_problems(path, "gsm8k", None)


@pytest.mark.parametrize("sign", [*"~～、،°′″:：∶/∕⁄|–—−‐≈…^_&+±×÷=<>≤#*eπ√%‰$€²⁵₅·⋅∙•;；"])
def test_two_numbers_with_a_sign_between_them_are_not_one_number(sign: str) -> None:
    for second in ("5", "500"):
        for text in (f"18{sign}{second}", f"18 {sign} {second}"):
            assert not same_latex(text, f"18{second}")
            for response in (f"The answer is {text}.", f"#### {text}", f"\\boxed{{{text}}}"):
                assert not same_number(extract_number(response) or "", f"18{second}")


def test_money_and_words_of_other_scripts_are_told_apart_and_read_back() -> None:
    amounts = {f"{before}18": money(before) for before in (*SIGNS, *CODES, "US$", "R$", "NT$")}
    amounts |= {f"18{word}": unit for word, (scale, unit) in WORDS.items() if scale == 1}
    for text, unit in amounts.items():
        found = read_number(text)
        assert found is not None, text
        assert (found.value, found.unit) == (18, unit), text
        assert read_number(str(found)) == found
    scales = {word: scale for word, (scale, _) in WORDS.items() if scale > 1}
    assert all(same_number(f"18 {word}", str(18 * scale)) for word, scale in scales.items())
    assert not any(same_number(f"18 {word}", "18") for word in scales)


@pytest.mark.parametrize(
    ("groups", "point"),
    [(",", "."), ("'", "."), ("’", "."), (" ", "."), ("\u202f", "."), (" ", ","), ("\u00a0", ","), (".", ",")],
)
def test_thousands_are_parted_as_people_part_them(groups: str, point: str) -> None:
    random = Random(0)
    for _ in range(200):
        whole, part = random.randrange(10**3, 10**9), random.randrange(1, 100)
        text = f"{whole:,}".replace(",", groups)
        assert (groups == "." and whole < 10**6) or same_number(text, str(whole)), text
        decimal = f"{text}{point}{part:02}"
        assert same_number(decimal, f"{whole}.{part:02}"), decimal
        assert same_latex(decimal, f"{whole}.{part:02}"), decimal
        assert not same_number(f"{text}0", str(10 * whole)), text


RUNAWAYS = [
    "9^{9^{9^{9}}}", "9^9^9^9", "((9^{99})^{99})^{99}", "9^{99999999}", "10^{10^{10}}!", "9!!!!!!", "99999999!", "1e999999999",
    "{" * 5000, "(" * 90 + "1" + ")" * 90, r"\frac{" * 500, r"\int_0^\infty x^x dx", r"\sum_{n=1}^{\infty} n^n", "9" * 5000,
    r"\sqrt{" * 60 + "2" + "}" * 60, "x^{" * 40 + "2" + "}" * 40, r"\begin{pmatrix}" * 50, r"\binom{999999}{99999}",
    "," * 5000, r"\pm" * 900, "1+" * 2000 + "1", "a b " * 2000, "((9^{9})!)!", r"\binom{9^{99}}{9^{98}}", "(99!)^{x^{99!}}",
]  # fmt: skip


@pytest.mark.parametrize("text", RUNAWAYS, ids=range(len(RUNAWAYS)))
def test_hostile_answers_come_to_an_end(text: str) -> None:
    """In a thread too, where no signal can stop anything."""
    told: list[bool] = []

    def tell() -> None:
        for gold in ("5", r"\frac{x+1}{2}", "(1,2)"):
            told.append(same_latex(text, gold))
        for response in (f"The answer is {text}", f"\\boxed{{{text}}}", text):
            extract_number(response)
            extract_math(response)

    began = time.process_time()
    thread = Thread(target=tell)
    thread.start()
    thread.join()
    assert told == [False, False, False]
    assert time.process_time() - began < 5
