"""What pages say of the code is so: error sentences are ones that it says, files and tests are there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from interp.experiments.options import RunOptions
from interp.experiments.run_names import run_hash
from interp.experiments.runner import facts_of
from probes.verbatim_memory.experiment import VerbatimMemory
from tests.fenced import PAGES, ROOT

QUOTING = ("docs/faq.md", "docs/python.md", "docs/models.md", "docs/adding_a_model.md", "docs/adding_a_dictionary.md")
"""Pages on which every quotation (a paragraph that begins with >) is a sentence of the toolkit; … is what it fills in."""
CHECKS = ROOT / "docs" / "how_numbers_are_checked.md"
FILLED = "\0"
"""Stands for a value in a sentence of the code."""


# ---------------------------------------------------------------------- sentences


def quotations(text: str) -> list[str]:
    """The quotations of a page, each on one line."""
    found = re.findall(r"^>.*(?:\n>.*)*", text, flags=re.MULTILINE)
    return [" ".join(part.removeprefix(">").strip() for part in quotation.splitlines()) for quotation in found]


@cache
def sentences() -> tuple[str, ...]:
    """Every text in the code, its filled-in values as FILLED: also those of the log, which are filled in by %."""
    files = [path for folder in ("interp", "probes", "figures") for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(text for file in files for text in texts_of(file.read_text(encoding="utf-8")))


def texts_of(code: str) -> Iterator[str]:
    """Every text in a piece of Python; neighbouring literals are one."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sd]", FILLED, node.value)


def is_said(quotation: str, said: tuple[str, ...]) -> bool:
    """Whether a text of the code is the whole quotation, with … in the places of values; an empty value is left out."""
    alike = (text for text in said if without_values(text) == without_values(quotation))
    return any(re.fullmatch("…?".join(map(re.escape, text.split(FILLED))), quotation) for text in alike)


def without_values(text: str) -> str:
    return text.replace(FILLED, "").replace("…", "")


@pytest.mark.parametrize("page", QUOTING)
def test_every_sentence_that_is_quoted_is_said_somewhere(page: str) -> None:
    quoted = quotations((ROOT / page).read_text(encoding="utf-8"))
    assert quoted
    assert [quotation for quotation in quoted if not is_said(quotation, sentences())] == []


CODE = """
def f(name, n):
    raise ArgumentError(f"There is no {name}: "
        "use another." f"{n}")
LOG.warning("%s is damaged: %d again", name, n)
"""


@pytest.mark.parametrize(
    ("quotation", "said"),
    [
        ("There is no …: use another.…", True),
        ("There is no …: use another.", True),
        ("… is damaged: … again", True),
        ("There is no …: use another one.…", False),
        ("There is no …", False),  # half a sentence
        ("There is no …: use an….…", False),  # … stands for a value, not for words
        ("There … is no: use another.", False),
        ("use another.", False),
        ("… is damaged", False),
    ],
)
def test_a_sentence_that_nothing_says_is_not_found(quotation: str, said: bool) -> None:
    assert is_said(quotation, tuple(texts_of(CODE))) is said


def test_a_quotation_may_go_over_several_lines() -> None:
    assert quotations("Words.\n\n> One … of\n> two lines.\n\nMore.\n\n> Another.\n") == [
        "One … of two lines.",
        "Another.",
    ]


# ---------------------------------------------------------------------- files and tests


def named_tests(text: str) -> list[tuple[str, list[str]]]:
    """Each line's test files, and the tests that it names; an item of a list is one line."""
    lines = text.replace("\n  ", " ").splitlines()
    named = [(re.findall(r"`(tests/[\w/]+\.py)`", line), re.findall(r"`(test_\w+)`", line)) for line in lines]
    assert not any(tests and len(files) != 1 for files, tests in named), "a line that names a test names its file"
    return [(file, tests) for files, tests in named for file in files]


def test_every_test_that_is_named_is_in_its_file() -> None:
    named = named_tests(CHECKS.read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = [
        f"{file}: {name}"
        for file, names in named
        for name in names or [""]
        if not (ROOT / file).is_file() or f"def {name}" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_a_test_without_its_file_is_noticed() -> None:
    assert named_tests("- a: `tests/test_a.py`,\n  `test_b`\n- c") == [("tests/test_a.py", ["test_b"])]
    with pytest.raises(AssertionError, match="names its file"):
        named_tests("`test_b` alone")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(
        r"`((?:interp|probes|figures|tests|training|docs|notebooks|experiments|benchmarks)/[\w./-]+)`", text
    )
    assert [path for path in paths if not re.search(r"\b[A-Z]{2,}\b", path) and not (ROOT / path).exists()] == []


@pytest.mark.real
@pytest.mark.parametrize(("model", "shown"), [("smollm2-135m", "1417b2971175"), ("transformer-news-4", "a2d0")])
def test_the_runs_of_the_first_five_minutes_are_still_called_what_the_page_says(model: str, shown: str) -> None:
    """Another name means that what decides the numbers has changed: measure again, and show what comes out."""
    experiment = VerbatimMemory(model=model, **VerbatimMemory.presets["quick"])
    name = run_hash(experiment, facts_of(experiment, RunOptions(device="cpu")))
    assert name.startswith(shown)
    assert shown in (ROOT / "docs" / "five_minutes.md").read_text(encoding="utf-8")
