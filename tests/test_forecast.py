"""What is said of a run beforehand is held against what it reads, writes and draws, on tiny models, for every experiment."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.experiments.experiment import Work, total
from interp.experiments.forecast import kind_of
from interp.experiments.store import MeasuredTables, RunStore
from interp.models.identity import HeadGeometry
from interp.models.image.model import ImageModel
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load
from interp.tables import named
from probes.critical_tokens.experiment import CriticalTokens
from probes.function_tokens.experiment import FunctionTokens
from probes.retrieval_heads.conditions import default_ks, plan_conditions
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.plan import stand_in_ranking
from probes.retrieval_heads.rankings import RANKINGS
from probes.surprisal.experiment import Surprisal
from probes.verbatim_memory.experiment import VerbatimMemory
from tests.function_tokens import test_run as function_tokens
from tests.function_tokens.test_run import place  # noqa: F401
from tests.planted import IDS, needle_line, news, prose, word_tokenizer
from tests.t2i_flow import test_runs as t2i_flow
from tests.t2i_flow.planted import PlantedImages
from tests.tiny_models import tiny
from tests.verbatim_memory import test_measure as verbatim_memory
from tests.verbatim_memory.test_measure import settings as lists  # noqa: F401

SIZES: dict[str, Any] = {**verbatim_memory.SIZES["llama"], "max_position_embeddings": 2048}
SAID = [IDS[token] for token in (" The", " the", " old", " small", " heavy", " near", " behind")]
NEAR = 0.1
"""How far a count may lie from what was said, as a share."""


@dataclass
class Counts:
    """What passed through a model."""

    read: int = 0
    written: int = 0
    pictures: int = 0

    def __iadd__(self, other: "Counts") -> "Counts":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@contextmanager
def counted(model: Any) -> Iterator[Counts]:
    """Counts the tokens of every forward pass (a pass over single tokens writes), or the pictures of every call."""
    counts = Counts()

    def note(_: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        ids = options["input_ids"] if "input_ids" in options else inputs[0]
        if ids.shape[1] == 1:
            counts.written += ids.numel()
        else:
            counts.read += ids.numel()

    if isinstance(model, LanguageModel):
        handle = model.hf.register_forward_pre_hook(note, with_kwargs=True)
        yield counts
        handle.remove()
        return
    generate = type(model).generate

    def draw(self: Any, conditioning: Any, noise: Any, **options: Any) -> Any:
        counts.pictures += max(len(conditioning), len(noise))
        return generate(self, conditioning, noise, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "generate", draw)
        yield counts


def measured(experiment: Any, model: Any, folder: Path) -> dict[str, dict[str, tuple[Counts, Work]]]:
    """Measures all units, wave by wave; returns what each read, wrote and drew, and what is said of it, by kind and id."""
    store, done, unmade = RunStore(folder, experiment.schemas()), [], outline(model)
    found: dict[str, dict[str, tuple[Counts, Work]]] = {}
    while units := [unit for unit in experiment.plan(model.facts, MeasuredTables(store, done)) if unit.id not in done]:
        for unit in units:
            with counted(model) as counts:
                tables = experiment.measure(model, unit)
            store.write_part(unit.id, named(tables, model.identity.name), 0.0)
            done.append(unit.id)
            found.setdefault(kind_of(unit), {})[unit.id] = (counts, experiment.work_of(unmade, unit))
    return found


def foreseen(experiment: Any, model: Any, folder: Path) -> dict[str, dict[str, Work]]:
    """Returns what is said of every unit before any is measured, by kind and id."""
    nothing = MeasuredTables(RunStore(folder, experiment.schemas()), [])
    found: dict[str, dict[str, Work]] = {}
    for unit in experiment.expected_units(model, nothing):
        work = experiment.work_of(model, unit)
        assert work is not None
        found.setdefault(kind_of(unit), {})[unit.id] = work
    return found


def outline(model: Any) -> Any:
    """Returns the model without weights, as `plan` has it; the planted image model has none to speak of."""
    if isinstance(model, ImageModel):
        return model
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(model.hf.config)
    return LanguageModel(hf, model.tokenizer, model.identity)


def check(experiment: Any, model: Any, folder: Path, at_most: str = "") -> None:
    """Holds every kind of unit against what was said of it before anything was measured, and when it was planned.

    Of the kind `at_most` less may be done than was said at first.
    """
    said, did = foreseen(experiment, outline(model), folder / "a"), measured(experiment, model, folder / "b")
    assert {kind: list(units) for kind, units in said.items()} == {kind: list(units) for kind, units in did.items()}
    for kind, units in did.items():
        at_first, planned, counts = total(said[kind].values()), total(work for _, work in units.values()), Counts()
        for one, _ in units.values():
            counts += one
        if kind == at_most:
            assert at_first.tokens_read >= planned.tokens_read > 0
        for work in (planned,) if kind == at_most else (planned, at_first):
            assert work.tokens == pytest.approx(counts.read + counts.written, rel=NEAR), kind
            if work.tokens_written:  # else single tokens that are read look like writing
                assert work.tokens_written == pytest.approx(counts.written, rel=NEAR), kind
            assert work.pictures == pytest.approx(counts.pictures, rel=NEAR), kind


def test_surprisal(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(prose(1 + index % 3, seed=index) for index in range(40)))
    check(Surprisal(texts=texts), tiny("llama", tokenizer=verbatim_memory.tokenizer(), **SIZES), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            dict(ablation_modes=("zero", "uniform"), ablation_phases=("decode", "both"), sharing=False),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_retrieval_heads(changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.retrieval_heads.stimuli.news_articles", news)
    needles = tmp_path / "needles.jsonl"
    needles.write_text("\n".join(json.dumps(needle_line(index)) for index in range(5)))
    experiment = RetrievalHeads(
        needles=needles,
        context_tokens=(64, 96),
        ablation_context_tokens=(64,),
        max_new_tokens=12,
        k=(2, 4),
        random_draws=2,
        other_k=4,
        echo_block_tokens=16,
        echo_repeats=3,
        **changes,
    )
    heads = dict(num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=8)
    model = tiny("llama", tokenizer=word_tokenizer(), tie_word_embeddings=False, **heads)
    head: Any = model.hf.get_output_embeddings()
    # It says frequent words, so that it copies some by chance, and never ends an answer: that is not what is asked here.
    head.weight.data[[id for id in range(len(head.weight)) if id not in SAID]] = 0.0
    check(experiment, model, tmp_path, at_most="ablation")  # in a tiny model many sets of heads are the same


def test_stand_ins_of_rankings_give_as_many_sets_of_heads_as_rankings_do() -> None:
    geometry = HeadGeometry(30, 9, 3, 64)
    shuffled = np.random.default_rng(0)
    heads = [(layer, head) for layer in range(30) for head in range(9)]
    found = []
    for rankings in (
        {name: stand_in_ranking(geometry, number) for number, name in enumerate(RANKINGS)},
        {name: [heads[index] for index in shuffled.permutation(len(heads))] for name in RANKINGS},
    ):
        conditions = plan_conditions(
            rankings,
            "set",
            ks=default_ks(geometry),
            modes=("zero",),
            phases=("decode",),
            random_draws=5,
            other_k=10,
            n_heads=9,
            seed=0,
        )
        found.append(len({condition.edit for condition in conditions}))
    assert found[0] == found[1]
    assert 1 + 5 * (1 + 4) + 5 < found[0] <= 1 + 5 * (1 + 5) + 5  # some draws of two heads are the same


def test_verbatim_memory(lists: VerbatimMemory, tmp_path: Path) -> None:  # noqa: F811
    experiment = dataclasses.replace(lists, exact_rotations=0, mask_sets=("postmatch", "recent"), mask_k=(1, 2))
    check(experiment, tiny("llama", tokenizer=verbatim_memory.tokenizer(), **SIZES), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")
def test_function_tokens(place: Path, tmp_path: Path) -> None:  # noqa: F811
    experiment: FunctionTokens = function_tokens.settings(place)
    check(experiment, load(str(place / "tiny"), device="cpu"), tmp_path)


def test_critical_tokens_as_far_as_it_can_be_told(tmp_path: Path) -> None:
    experiment = CriticalTokens(
        calibrate_only=True, shots=1, calibration_problems=2, responses_per_problem=6, max_new_tokens=10, top_k=4
    )
    check(experiment, tiny("llama", tokenizer=verbatim_memory.tokenizer(), **SIZES), tmp_path)


@pytest.mark.slow
def test_t2i_flow(tmp_path: Path) -> None:
    check(t2i_flow.settings(tmp_path, repairs="all"), PlantedImages(), tmp_path)
