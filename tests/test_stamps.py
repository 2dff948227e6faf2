"""Files that change between two calls in one process, as a notebook changes them: what is read is what is there now."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from interp.experiments.experiment import Experiment
from interp.retention.policies.catalogue import build
from probes.byte_bias.settings import Settings as ByteBias
from probes.context_recall.settings import Settings as ContextRecall
from probes.context_recall.words import words_of
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.grader import load_grader
from probes.embedding_swap.materials import materials_of
from probes.embedding_swap.settings import Settings as EmbeddingSwap
from probes.kv_policies.experiment import KvPolicies
from probes.prediction_depth.materials import frequencies
from probes.prediction_depth.questions import read_questions
from probes.prediction_depth.settings import Settings as PredictionDepth
from probes.sequence_representation.settings import Settings as Sequences
from probes.surprisal.settings import Settings as Surprisal
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.measure import judge_of
from probes.training_memory.duplicates import known_texts
from probes.training_memory.settings import Settings as TrainingMemory
from probes.verbatim_memory.trials import read_texts
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level

ROOT = Path(__file__).parents[1]
OWN_FRAMES = (ROOT / "probes/context_recall/frames.toml").read_text(encoding="utf-8")
SWAPS = "\n".join(
    f'[{part}]\nframes = ["a ___", "b ___", "c ___", "d ___"]\ntests = ["x"]\nwords = ["AAAA", "p", "q", "r"]'
    for part in "mn"
)


def model():
    tokenizer = byte_level()
    return tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))


def in_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "prompts": (lambda path: ByteBias(prompts=path).read_prompts(), '[a]\ntexts = [["AAAA", ["b", "c"]]]'),
    "frames of words": (lambda path: EmbeddingSwap(frames=path).read_frames(), SWAPS),
    "frames of tasks": (lambda path: ContextRecall(frames=path).read_frames(), OWN_FRAMES.replace("Here is a list", "AAAA is a list")),
    "words": (lambda path: words_of(byte_level(), str(path)), "and AAAA"),
    "questions": (
        lambda path: read_questions(PredictionDepth(facts=path)),
        '[capital]\ncue = "The {} is"\nfacts = "AAAA = b | c = d"',
    ),
    "preface": (
        read_texts,
        '[preface]\nintact = "AAAA"\n[prompt]\nintact = "Again:"\n[intervening]\nintact = ["It rained."]\n',
    ),
    "texts": (lambda path: Surprisal(texts=path).read_texts(), "AAAA and so on"),
    "duplicates": (lambda path: known_texts(TrainingMemory(duplicates=path)), "text\tduplicates\nAAAA\t3\n"),
    "pairs": (
        lambda path: Sequences(pairs=path).read_pairs(),
        "sentence1\tsentence2\tscore\nAAAA\tb\t1\nc\td\t2\n",
    ),
    "counted folder": (
        in_folder(lambda folder: frequencies(PredictionDepth(texts=folder), model()).counts.tolist()), "AAAA and the cat " * 40
    ),
    "folder of texts": (in_folder(lambda folder: materials_of(model(), EmbeddingSwap(texts=folder)).texts), "AAAA and the cat " * 40),
}  # fmt: skip
SUFFIX = {"texts": ".txt", "duplicates": ".tsv", "pairs": ".tsv", "counted folder": ".txt", "folder of texts": ".txt"}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_written_anew_is_read_anew(name: str, tmp_path: Path) -> None:
    """Also when it is as long as before, and its time of writing is set back."""
    read, content = READERS[name]
    path = tmp_path / f"given{SUFFIX.get(name, '.toml')}"
    seen = []
    for letters in ("the", "cat") if name == "words" else ("AAAA", "BBBB"):
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns) if path.exists() else None
        path.write_text(content.replace("AAAA", letters), encoding="utf-8")
        if times:
            os.utime(path, ns=times)
        seen.append(repr(read(path)))
    assert seen[0] != seen[1]
    if name not in ("counted folder", "folder of texts", "words"):
        assert "AAAA" in seen[0]
        assert "BBBB" in seen[1]
        assert "AAAA" not in seen[1]


POLICY = """
from dataclasses import dataclass
from interp.experiments.experiment import Experiment
from interp.experiments.experiment import Experiment
from interp.retention.policies.baselines import Random
@dataclass(frozen=True)
class Own(Random):
    draw: int = {number}
"""


def test_a_module_of_the_users_own_is_imported_anew_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in (1, 0):
        (tmp_path / "own_grader_of_stamps.py").write_text(f"def grade(problem, response):\n    return bool({number})\n")
        (tmp_path / "own_policy_of_stamps.py").write_text(POLICY.format(number=number))
        (tmp_path / "own_judge_of_stamps.py").write_text(
            f"def judge(picture, descriptions):\n    return [bool({number})]\n"
        )
        found.append(
            (
                load_grader("own_grader_of_stamps:grade")({}, ""),
                build("own_policy_of_stamps:Own").draw,  # type: ignore[attr-defined]
                judge_of(T2IFlow(judge="own_judge_of_stamps:judge"))(np.zeros((1, 1, 3)), ["x"]),
            )
        )
    assert found == [(True, 1, [True]), (False, 0, [False])]


@pytest.mark.parametrize(
    "settings",
    [
        lambda: ContextRecall(tasks=("own_module_of_stamps:mine(pairs=3)",)),
        lambda: ContextRecall(policies=("own_module_of_stamps:Mine",)),
        lambda: KvPolicies(policies=("h2o_sum", "own_module_of_stamps:Mine(window=2)")),
        lambda: T2IFlow(judge="own_module_of_stamps:judge"),
        lambda: CriticalTokens(grader="own_module_of_stamps:grade", task_file=Path("x.jsonl")),
    ],
)
def test_a_run_is_named_by_the_contents_of_the_users_own_module(
    settings: Callable[[], Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_module_of_stamps.py"
    file.write_text("x = 1\n")
    assert file in settings().input_files()


def test_nothing_is_kept_by_the_name_of_a_file_alone() -> None:
    """No function that keeps its results takes a path, a name of a file or settings that name one, but by what `read_once` adds."""
    wrong = []
    for file in (*ROOT.glob("interp/**/*.py"), *ROOT.glob("probes/**/*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                "cache" in ast.unparse(one) for one in function.decorator_list
            ):
                kinds = {ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation}
                names = {argument.arg for argument in function.args.args}
                if kinds & {"Path", "Path | None", "Settings"} or names & {"name", "source", "folder", "path"}:
                    wrong.append(f"{file.relative_to(ROOT)}:{function.name}")
    assert wrong == []
