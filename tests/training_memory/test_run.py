"""Values by year, texts with known duplicates, and whole runs: interrupted, resumed, and of several checkpoints."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.loading.language import look_up
from probes.training_memory import measure
from probes.training_memory.copying import sets_of
from probes.training_memory.duplicates import measure_duplicates
from probes.training_memory.experiment import TrainingMemory
from probes.training_memory.plan import DuplicatesUnit
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
from tests.script_tokenizers import byte_bpe, unigram
from tests.sequence_representation.test_readers import model_of

SMALL = {"conditions": ("natural",), "sentences": 4, "batch": 2, "exposures": (0, 2), "years_step": 0}


def saved(folder: Path, seed: int = 0, tokenizer: Any = byte_bpe) -> Path:
    model_of("llama", tokenizer=tokenizer, seed=seed, max_position_embeddings=512).hf.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
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


TEXT, FOIL = (
    "The keeper of the lighthouse counts the boats at noon.",
    "The baker of the old village sells bread at dawn.",
)
COUNTS = f"text,duplicates,foil\n{TEXT},60,{FOIL}\n{FOIL},0,{TEXT}\n"


def studied(folder: Path, passes: int) -> None:
    """Saves a tiny model that was trained so often on the text."""
    model = model_of("llama", max_position_embeddings=512)
    trainer = Trainer(model, 3e-3)
    for _ in range(passes):
        trainer.update([begun(byte_bpe(), byte_bpe()(TEXT)["input_ids"])])
    model.hf.save_pretrained(folder)
    byte_bpe().save_pretrained(folder)


@pytest.mark.slow
def test_checkpoints_of_a_training_are_held_against_a_twin_that_has_not_seen_the_text(tmp_path: Path) -> None:
    studied(tmp_path / "model" / "step0", 0)
    studied(tmp_path / "model" / "step60", 60)
    saved(tmp_path / "standard", seed=0)
    (tmp_path / "counts.csv").write_text(COUNTS)
    run = TrainingMemory(
        model=str(tmp_path / "model"), revision="step60", revisions=("step0", "step60"), twin=str(tmp_path / "standard"),
        duplicates=tmp_path / "counts.csv", offset_tokens=8, heads_off=2,
    ).run(out=tmp_path / "runs")  # fmt: skip
    rows = run.tables["duplicates"]
    plain = rows[rows["off"] == "none"].set_index(["checkpoint", "duplicates", "place"])
    assert set(rows["checkpoint"]) == {"step0", "step60", "standard"}
    assert set(rows.loc[rows["is_twin"], "checkpoint"]) == {"standard"}
    assert plain.loc[("step60", 60, "start"), "exact"] == 1
    assert plain.loc[("step60", 60, "start"), "is_recognised"] == 1
    assert plain.loc[("step60", 0, "start"), "exact"] < 0.5
    for column in ("nats_seen", "exact"):  # the twin has the weights of the training's beginning
        assert plain.loc[("standard", 60, "start"), column] == plain.loc[("step0", 60, "start"), column]
    effects = run.tables["duplicate_effects"].set_index(["checkpoint", "duplicates", "place", "measure", "effect"])[
        "value"
    ]
    own, twin = (plain.loc[(one, 60, "start"), "exact"] for one in ("step60", "standard"))
    assert effects["step60", 60, "start", "exact", "less the twin's"] == own - twin
    behind = plain.loc[("step60", 60, "offset"), "exact"]
    assert effects["step60", 60, "start", "exact", "at the start less behind other text"] == own - behind
    without = (
        rows.query("checkpoint == 'step60' and duplicates == 60 and place == 'start'").groupby("off")["exact"].mean()
    )
    for off in ("retrieval", "random (retrieval)", "induction", "random (induction)"):
        assert effects["step60", 60, "start", "exact", f"lost without {off} heads"] == pytest.approx(own - without[off])
    assert set(run.figures) == {"by_duplicates", "switched_off"}
    assert any("the twin that was trained without them" in finding.text for finding in run.findings)


def test_heads_that_are_switched_off_have_controls_in_their_layers_and_sizes_are_checked(tmp_path: Path) -> None:
    model = model_of("llama", max_position_embeddings=512)
    settings = Settings(duplicates=tmp_path / "counts.csv", heads_off=2)
    sets = {(one.off, one.draw): one.heads for one in sets_of(model, settings)}
    assert sets["none", 0] == ()
    for role in ("retrieval", "induction"):
        top = sets[role, 0]
        assert len(top) == 2
        for draw in range(2):
            other = sets[f"random ({role})", draw]
            assert len(other) == 2
            assert set(other).isdisjoint(top)
            assert {layer for layer, _ in other} <= {layer for layer, _ in top}
    (tmp_path / "counts.csv").write_text(COUNTS)
    with pytest.raises(ArgumentError, match="lower --offset-tokens"):
        measure_duplicates(model, DuplicatesUnit("duplicates-0", ""), dataclasses.replace(settings, offset_tokens=500))
    with pytest.raises(ArgumentError, match="lower --heads-off"):
        sets_of(model, dataclasses.replace(settings, heads_off=model.geometry.n_heads_in_all))


@pytest.mark.parametrize("family", ["gemma3_text", "bamba", "mamba"])
def test_other_families_are_read_with_heads_off_or_refused(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    (tmp_path / "counts.csv").write_text(COUNTS)
    experiment = TrainingMemory(duplicates=tmp_path / "counts.csv", heads_off=1, offset_tokens=4)
    if model.facts.geometry is None:
        with pytest.raises(ArgumentError, match="add --heads-off 0"):
            experiment.check_model(model.facts)
        experiment = dataclasses.replace(experiment, heads_off=0)
        experiment.check_model(model.facts)
    (unit,) = experiment.plan(model.facts, {})
    rows = experiment.measure(model, unit)["duplicates"]
    ids = begun(byte_bpe(), byte_bpe()(TEXT)["input_ids"])
    log_p = model.hf(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    first = len(begun(byte_bpe(), []))
    nats = -log_p[range(len(ids) - 1), ids[1:]][max(0, first - 1) :].mean()
    assert rows.query("off == 'none' and place == 'start'")["nats_seen"].iloc[0] == pytest.approx(float(nats), abs=1e-4)
    assert not rows["nats_seen"].isna().any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"twin": "twin"}, "no model or folder named twin"),
        ({"twin": "model", "twin_revision": "step9"}, "has no revision step9"),
        ({"twin": "other"}, "reads the texts as other tokens than"),
    ],
)  # fmt: skip
def test_twins_that_do_not_fit_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    saved(tmp_path / "model" / "step1")
    saved(tmp_path / "other", tokenizer=unigram)
    (tmp_path / "counts.csv").write_text(COUNTS)
    if (name := settings.get("twin", "twin")) != "twin":
        settings = {**settings, "twin": str(tmp_path / name)}
    experiment = TrainingMemory(
        model=str(tmp_path / "model"), revision="step1", duplicates=tmp_path / "counts.csv", **settings
    )
    with pytest.raises(ArgumentError, match=said):
        experiment.check_model(look_up(experiment.model, dtype="float32", revision="step1"))


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


@pytest.mark.slow
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
    assert any("before training" in finding.text for finding in whole.findings)
    own, random = (
        whole.tables["recall"].query(f"condition == {name!r} and exposures == 2") for name in ("natural", "random")
    )
    gain = whole.tables["recall_gains"].query("minus == 'random' and exposures == 2")["value"].item()
    assert gain == pytest.approx(own["rouge_second"].mean() - random["rouge_second"].mean())
    changes = whole.tables["lasting_changes"].set_index(["measure", "updates_since"])["value"]
    lasting = whole.tables["lasting"].set_index(["measure", "updates_since"])["value"]
    assert changes["recall", 1] == pytest.approx(lasting["recall", 1] - lasting["recall", 0])
    compared, figures = experiment.compare({"a": whole.tables, "b": resumed.tables})
    assert set(compared) == {"recognised", "recalled"}
    assert {trace.name for trace in figures["recalled"].data if trace.mode == "lines+markers"} == {"a", "b"}


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
