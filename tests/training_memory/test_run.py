"""Values by year, texts with known duplicates, and whole runs: interrupted, resumed, and of several checkpoints."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from probes.training_memory import measure
from probes.training_memory.experiment import TrainingMemory
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import begun
from probes.training_memory.trainer import Trainer
from probes.training_memory.values import (
    QUESTIONS,
    candidates,
    derangement,
    log_probabilities,
    measure_values,
    random_walk,
    series,
)
from tests.script_tokenizers import byte_bpe
from tests.sequence_representation.test_readers import model_of

SMALL = {"conditions": ("natural",), "sentences": 4, "batch": 2, "exposures": (0, 2), "years_step": 0}


def saved(folder: Path, seed: int = 0) -> Path:
    model_of("llama", seed=seed, max_position_embeddings=512).hf.save_pretrained(folder)
    byte_bpe().save_pretrained(folder)
    return folder


# ---------------------------------------------------------------------- values by year


def test_the_series_are_whole_and_their_nulls_are_nulls() -> None:
    assert set(series()) == set(QUESTIONS)
    for values in series().values():
        assert sorted(values) == list(range(1990, 2025))
    generator = np.random.default_rng(0)
    told = np.array(list(series()["consumer_prices"].values()))
    walk = random_walk(told, generator)
    assert walk[0] == told[0]
    steps = [np.sort(np.abs(np.diff(np.log(one)))) for one in (told, walk)]
    assert steps[0] == pytest.approx(steps[1])
    assert (derangement(9, generator) != np.arange(9)).all()
    assert candidates(100.0) == ["100.0", "101.0", "105.0", "120.0", "80.0", "95.0", "99.0"]
    assert len(candidates(4.0)) > 5
    assert "4.0" == candidates(4.0)[0] not in candidates(4.0)[1:]


def test_values_are_scored_by_plain_log_probabilities() -> None:
    model = model_of("gpt2", n_positions=512)
    lead = begun(model.tokenizer, byte_bpe()("In 1999 it was")["input_ids"])
    found = log_probabilities(model, lead, [" 4.2", " 4.31"])
    for ending, value in zip((" 4.2", " 4.31"), found, strict=True):
        ids = byte_bpe()(ending)["input_ids"]
        log_p = model.hf(torch.tensor([[*lead, *ids]])).logits[0].log_softmax(-1)
        wanted = sum(float(log_p[len(lead) - 1 + place, id]) for place, id in enumerate(ids))
        assert value == pytest.approx(wanted, abs=1e-3)
    table = measure_values(model, "unemployment", Settings(years_step=17))
    assert set(table["year"]) == {1990, 2007, 2024}
    assert table.groupby(["year", "instruction"]).size().eq(3).all()
    assert not table.query("year == 2024")["in_window"].any()


# ---------------------------------------------------------------------- known duplicates


@pytest.mark.slow
def test_a_checkpoint_that_has_seen_a_text_recalls_it_and_its_twin_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder / "standard")
    perturbed = model_of("llama", max_position_embeddings=512)
    text = "The keeper of the lighthouse counts the boats at noon."
    ids = begun(byte_bpe(), byte_bpe()(text)["input_ids"])
    trainer = Trainer(perturbed, 3e-3)
    for _ in range(60):
        trainer.update([ids])
    perturbed.hf.save_pretrained(folder / "perturbed")
    byte_bpe().save_pretrained(folder / "perturbed")
    counts = tmp_path / "counts.csv"
    foil = "The baker of the old village sells the bread at dawn."
    counts.write_text(f"text,duplicates,foil\n{text},60,{foil}\n{foil},0,{text}\n")
    run = TrainingMemory(
        model=str(folder), revision="standard", duplicates=counts, revisions=("perturbed", "standard"), offset_tokens=8
    ).run(out=tmp_path / "runs")  # fmt: skip
    table = run.tables["duplicates"].set_index(["revision", "duplicates", "place"])
    assert table.loc[("perturbed", 60, "start"), "exact"] == 1
    assert table.loc[("perturbed", 60, "start"), "is_recognised"] == 1
    assert table.loc[("standard", 60, "start"), "exact"] < 0.5
    assert table.loc[("perturbed", 0, "start"), "exact"] < 0.5
    assert set(run.figures) == {"by_duplicates"}
    assert any("60 duplicates" in finding.text for finding in run.findings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,times\na b c,1\n", "no column duplicates"),
        ("text,duplicates\na b c,-1\n", "whole number of duplicates"),
        ("text,duplicates\n,1\n", "needs a text"),
        ("text,duplicates\n", "holds no text"),
    ],
)
def test_counts_that_do_not_fit_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "counts.csv").write_text(content)
    experiment = TrainingMemory(model=str(saved(tmp_path / "model")), duplicates=tmp_path / "counts.csv")
    with pytest.raises(ArgumentError, match=said):
        experiment.run(out=tmp_path / "runs")


def test_a_revision_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model" / "step1")
    (tmp_path / "counts.csv").write_text("text,duplicates\nThe keeper counts the boats at noon.,3\n")
    experiment = TrainingMemory(
        model=str(tmp_path / "model"), revision="step1", duplicates=tmp_path / "counts.csv", revisions=("step1", "step9")
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="has no revision step9"):
        experiment.run(out=tmp_path / "runs")


# ---------------------------------------------------------------------- whole runs


def test_a_run_that_is_stopped_in_a_training_ends_with_the_same_tables(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    folder = saved(tmp_path / "model")
    settings = {**SMALL, "conditions": ("natural", "random"), "kept_for": (1,), "layer_groups": 2, "studied": 1}
    experiment = TrainingMemory(model=str(folder), learning_rates=(1e-3,), **settings)
    whole = experiment.run(out=tmp_path / "whole")
    update, calls = Trainer.update, []

    def interrupted(self, rows):  # type: ignore[no-untyped-def]
        calls.append(rows)
        if len(calls) == 6:  # in the middle of the second training
            raise KeyboardInterrupt
        return update(self, rows)

    monkeypatch.setattr(measure.Trainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(out=tmp_path / "stopped")
    resumed = experiment.run(out=tmp_path / "stopped")
    assert len(calls) == 6 + 4 + 2 + 1  # the second training again, what follows, and one update on other text
    for name, table in whole.tables.items():
        assert table.equals(resumed.tables[name]), name
    assert set(whole.figures) == {"recognised", "recalled", "lasting", "carriers"}
    assert set(whole.tables["recognised"]["exposures"]) == {0, 2}
    assert any("before study" in finding.text for finding in whole.findings)


def test_a_run_whose_training_diverges_says_so(tmp_path: Path) -> None:
    run = TrainingMemory(
        model=str(saved(tmp_path / "model")), **SMALL, learning_rates=(50.0,), kept_for=(), layer_groups=0
    ).run(out=tmp_path / "runs")  # fmt: skip
    warnings = [finding.text for finding in run.findings if finding.kind == "warning"]
    assert len(warnings) == 1
    assert "was stopped in exposure" in warnings[0]
    assert 0 in set(run.tables["recognised"]["exposures"])


def test_a_model_in_half_precision_is_refused_before_anything_is_read() -> None:
    facts = model_of("gpt2").facts
    half = dataclasses.replace(facts, identity=dataclasses.replace(facts.identity, dtype="bfloat16"))
    with pytest.raises(ArgumentError, match="add --dtype float32"):
        TrainingMemory(**SMALL).check_model(half)
