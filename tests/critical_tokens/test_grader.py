"""A user's own grader, and the chat template of prompts from a file."""

import json
import sys
from pathlib import Path

import pytest

from interp.errors import ArgumentError, RunError
from interp.experiments.run_names import run_hash
from interp.models.language.model import LanguageModel
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.problems import Problem, read_problems
from probes.critical_tokens.responses import prompt_ids, setting_of
from tests.critical_tokens.hand_tables import FACTS
from tests.critical_tokens.small import small_model

GRADER = """
def grade(problem, response):
    if "?" in response:
        return None
    return str(problem["answer"]["least"]) in response

def odd(problem, response):
    return "yes"

def broken(problem, response):
    raise KeyError("least")

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "graders_of_a_test", raising=False)
    (tmp_path / "graders_of_a_test.py").write_text(GRADER)
    (tmp_path / "broken_grader_of_a_test.py").write_text("import a_module_that_is_not_there\n")
    line = {"question": "How many?", "answer": {"least": 4.25}}
    (tmp_path / "own.jsonl").write_text(json.dumps(line))
    return tmp_path


def problem(folder: Path, name: str) -> Problem:
    (made,) = read_problems(folder / "own.jsonl", "gsm8k", None, grader=f"graders_of_a_test:{name}")
    return made


def test_a_grader_is_given_the_line_and_the_whole_response(folder: Path) -> None:
    made = problem(folder, "grade")
    assert [made.outcome(text) for text in ("about 4.25", "The answer is 4.", "4.25?")] == [
        "right",
        "wrong",
        "unextracted",
    ]


@pytest.mark.parametrize(("name", "says"), [("odd", "returned 'yes'"), ("broken", "raised KeyError")])
def test_a_grader_that_says_anything_else_ends_the_run_in_a_sentence(folder: Path, name: str, says: str) -> None:
    with pytest.raises(RunError, match=says):
        problem(folder, name).outcome("4")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("graders_of_a_test", "module:function"),
        ("not there:grade", "module:function"),
        ("nothing_of_that_name:grade", "There is no module nothing_of_that_name"),
        ("graders_of_a_test:none", "has no function none"),
        ("graders_of_a_test:number", "has no function number"),
        ("broken_grader_of_a_test:grade", "cannot be imported"),
    ],
)
def test_graders_that_are_not_there_are_refused_before_a_model_is_loaded(folder: Path, name: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        CriticalTokens(task_file=folder / "own.jsonl", grader=name).check_model(FACTS)


def test_a_grader_needs_problems_of_ones_own() -> None:
    with pytest.raises(ArgumentError, match="add --task-file"):
        CriticalTokens(grader="graders_of_a_test:grade")
    with pytest.raises(ArgumentError, match="add --task-file"):
        CriticalTokens(prompt_format="chat")


def test_what_a_grader_holds_is_part_of_a_runs_name(folder: Path) -> None:
    settings = CriticalTokens(task_file=folder / "own.jsonl", grader="graders_of_a_test:grade")
    before = run_hash(settings, FACTS)
    (folder / "graders_of_a_test.py").write_text(GRADER + "\n# stricter\n")
    assert run_hash(settings, FACTS) != before


@pytest.fixture
def chatty() -> LanguageModel:
    model = small_model()
    model.tokenizer.chat_template = "{% for m in messages %}w1 {{ m.content }} w2{% endfor %} w{{ level|default(7) }}"
    return model


def test_prompts_of_a_file_go_through_the_chat_template(folder: Path, chatty: LanguageModel) -> None:
    base = dict(task_file=folder / "own.jsonl", grader="graders_of_a_test:grade")

    def ids(model: LanguageModel, **changes: object) -> list[int]:
        return prompt_ids(model, "w3 w4", setting_of(CriticalTokens(**base, **changes), model))  # type: ignore[arg-type]

    assert ids(chatty) == [1, 3, 4, 2, 7]
    assert ids(chatty, prompt_format="chat", template_args=("level=9",)) == [1, 3, 4, 2, 9]
    assert ids(chatty, prompt_format="plain") == [3, 4]
    assert ids(small_model()) == [3, 4]
    generated = setting_of(CriticalTokens(), chatty)
    assert prompt_ids(chatty, "w3 w4", generated) == [3, 4]  # generated problems are completed, never asked
    with pytest.raises(ArgumentError, match="--prompt-format plain"):
        ids(small_model(), prompt_format="chat")
