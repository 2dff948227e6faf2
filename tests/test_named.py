"""A user's own tasks, policies, judges and graders: what their file holds is part of a run's name, and is what is run."""

import importlib
import sys
from pathlib import Path

import pytest

from interp.errors import ArgumentError
from interp.experiments.experiment import Experiment
from interp.experiments.run_names import run_hash
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.named import load_named, own_files
from probes.context_recall.experiment import ContextRecall
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.grader import load_grader
from probes.embedding_swap.experiment import EmbeddingSwap
from probes.kv_policies.experiment import KvPolicies
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.judge_models import load_judge
from probes.training_memory.experiment import TrainingMemory
from probes.verbatim_memory.experiment import VerbatimMemory

FACTS = ModelFacts(ModelIdentity("any", "any", "0" * 64, "float32"), "llama", HeadGeometry(3, 4, 2, 16), 512)


@pytest.fixture
def module(tmp_path, monkeypatch) -> Path:
    """A module that only this test has."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"own_{tmp_path.name}.py"
    file.write_text("def own(*_):\n    return 1\n")
    yield file
    sys.modules.pop(file.stem, None)


def experiments_with(name: str) -> list[Experiment]:
    return [
        ContextRecall(tasks=("mqar", f"{name}(pairs=3)")),
        ContextRecall(policies=("streaming", f"{name}(size=4)")),
        KvPolicies(policies=(name,)),
        T2IFlow(judge=name),
        CriticalTokens(grader=name, task_file=Path("tasks.jsonl")),
    ]


@pytest.mark.parametrize("number", range(5))
def test_the_file_of_ones_own_module_names_the_run(number, module):
    (module.parent / "tasks.jsonl").write_text('{"problem": "1 + 1", "answer": "2"}\n')
    experiment = experiments_with(f"{module.stem}:own")[number]
    names = []
    for text in ("def own(*_):\n    return 1\n", "def own(*_):\n    return 2\n", "def own(*_):\n    return 1\n"):
        module.write_text(text)
        names.append(run_hash(experiment, FACTS))
    assert names[0] == names[2] != names[1]


def test_the_folder_of_a_judging_model_names_the_run(tmp_path):
    names = []
    for weights in ("one", "two"):
        (tmp_path / "model.safetensors").write_text(weights)
        names += [run_hash(T2IFlow(judge=f"{kind}:{tmp_path}"), FACTS) for kind in ("clipscore", "vlm")]
    assert len(set(names)) == 4


@pytest.mark.parametrize("load", [lambda name: load_named(*name.split(":")), load_judge, load_grader])
def test_a_module_that_has_changed_since_it_was_imported_is_not_run_as_it_was(load, module):
    name = f"{module.stem}:own"
    assert load(name)() == load(name)() == 1
    module.write_text("def own(*_):\n    return 2  # changed\n")
    with pytest.raises(ArgumentError, match="has changed since Python imported it: start Python anew"):
        load(name)
    importlib.reload(sys.modules[module.stem])
    assert load(name)() == 2
    module.write_text("def own(*_):\n    return 3  # changed again\n")
    del sys.modules[module.stem]
    importlib.invalidate_caches()
    assert load(name)() == 3


def test_only_modules_of_the_users_have_files_of_their_own():
    assert own_files(["h2o_sum", "a2sf(alpha=0.5)", "pixel", "absent.module:name", "sys:path", ":", "."]) == []


@pytest.mark.parametrize(
    "experiment",
    [
        lambda model: VerbatimMemory(model=model, revisions=("step1",)),
        lambda model: EmbeddingSwap(model=model, revisions=("step1",)),
        lambda model: TrainingMemory(model=model, revisions=("step1",), duplicates=Path(model) / "texts.csv"),
    ],
)
def test_the_weights_of_checkpoints_in_subfolders_name_the_run(experiment, tmp_path):
    (tmp_path / "step1").mkdir()
    (tmp_path / "texts.csv").write_text("text,duplicates\na text,1\n")
    names = []
    for weights, log in (("one", "a"), ("two", "a"), ("one", "b")):
        (tmp_path / "step1" / "model.safetensors").write_text(weights)
        (tmp_path / "step1" / "training.log").write_text(log)
        names.append(run_hash(experiment(str(tmp_path)), FACTS))
    assert names[0] == names[2] != names[1]
