"""The life of a run: a run cut off at any moment and taken up again ends with the tables of one that was not."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from interp.errors import RunError, UserError
from interp.experiments import runner
from interp.experiments.__main__ import main
from interp.experiments.experiment import WorkUnit
from interp.experiments.run import Run
from interp.experiments.run_names import run_hash
from interp.models.check.verdicts import WAYS_OUT
from interp.models.loading.language import load, look_up
from tests.counting import FAIL, HOLD, Counting, environment, save_model

UNITS = ["text-0", "text-1", "text-2", "text-3", "again-text-2", "again-text-0"]

pytestmark = pytest.mark.usefixtures("counting_installed")


@pytest.fixture(scope="module")
def whole(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny).run(out=tmp_path_factory.mktemp("whole"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that are measured from now on, in order."""
    units: list[str] = []
    original = Counting.measure

    def measure(self: Counting, model: Any, unit: WorkUnit) -> Any:
        units.append(unit.id)
        return original(self, model, unit)

    monkeypatch.setattr(Counting, "measure", measure)
    return units


def assert_same_results(run: Run, whole: Run) -> None:
    assert list(run.tables) == list(whole.tables) == ["texts", "tokens"]
    for name in whole.tables:
        assert_frame_equal(run.tables[name], whole.tables[name], check_exact=True)
    for name in ("tables/tokens.parquet", "tables/texts.parquet", "texts.csv", "figures/plotly.min.js"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def description(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


# ---------------------------------------------------------------------- a whole run


def test_a_run_leaves_what_was_measured_and_what_it_comes_to(whole: Run, tiny: str) -> None:
    tokens = whole.tables["tokens"]
    model = load(tiny).hf
    ids = torch.as_tensor(np.random.default_rng([0, *b"again-text-2"]).integers(3, 97, 12))
    log_p = model(ids[None]).logits[0].float().log_softmax(-1)
    expected = [-log_p[position - 1, ids[position]].item() for position in range(1, 12)]
    again = tokens.query("again and text_id == 'text-2'")
    assert again["token_id"].tolist() == ids[1:].tolist()
    np.testing.assert_allclose(again["surprisal_nats"], expected, rtol=1e-5)

    texts = whole.tables["texts"]
    assert texts["n"].tolist() == [5, 5, 5, 5, 11, 11]  # 6 tokens, and 12 the second time; the first is not scored
    means = {key: sum(rows) / len(rows) for key, rows in tokens.groupby(["text_id", "again"])["surprisal_nats"]}
    assert texts["mean_nats"].tolist() == pytest.approx([means[key] for key in zip(texts["text_id"], texts["again"])])
    assert sorted(texts.loc[:3, "mean_nats"])[-2:] == [texts["mean_nats"][0], texts["mean_nats"][2]]  # read again

    made = {path.relative_to(whole.folder).as_posix() for path in whole.folder.rglob("*") if path.is_file()}
    assert made == {
        *(".lock", "run.json", "report.html", "texts.csv", "figures/surprisal.html", "figures/plotly.min.js"),
        *("tables/tokens.parquet", "tables/texts.parquet"),
        *(f"parts/tokens/{unit}.parquet" for unit in UNITS),
        *(f"parts/done/{unit}.json" for unit in UNITS),
    }


def test_run_json_says_how_the_run_came_to_be(whole: Run, tiny: str) -> None:
    said = description(whole.folder)
    assert (said["status"], said["error"], said["experiment"], said["schema_version"]) == ("done", None, "counting", 1)
    assert said["versions"]["torch"] == version("torch")
    assert said["versions"]["transformers"] == version("transformers")
    assert said["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert said["configuration"]["texts"] == 4
    assert said["model"]["identity"]["dtype"] == "float32"
    shape = {"n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16}
    assert said["model"]["geometry"] == {**shape, "only_in": None}  # heads in every layer
    assert list(said["unit_seconds"]) == UNITS
    assert all(seconds >= 0 for seconds in said["unit_seconds"].values())
    assert said["started"] <= said["finished"]
    assert whole.folder.parts[-3:] == ("counting", "tiny", run_hash(whole.experiment, look_up(tiny)))
    verdicts = load(tiny).verdicts
    assert verdicts is not None
    assert said["check_at_load"] == {name: verdict.in_words() for name, verdict in verdicts.by_name.items()}
    assert list(said["check_at_load"]) == list(WAYS_OUT)
    assert said["device"] == load(tiny).hf.device.type  # where it ran, not "auto"


# ---------------------------------------------------------------------- cut off and taken up again


@pytest.fixture(scope="module")
def held(tiny: str, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two processes that have each begun a run and hold in the middle of a unit, in its first or its second wave."""
    runs = {}
    for unit in ("text-2", "again-text-0"):
        out = tmp_path_factory.mktemp(unit)
        command = [sys.executable, "-m", "interp.experiments", "counting", "--model", tiny, "--out", str(out)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process = subprocess.Popen(command, **pipes, text=True, env=environment(plugin, **{HOLD: unit}))  # type: ignore[call-overload]
        runs[unit] = (process, out)
    deadline = threading.Timer(120, lambda: [process.kill() for process, _ in runs.values()])
    deadline.start()
    for unit, (process, _) in runs.items():
        assert process.stdout.readline() == f"holding at {unit}\n", process.communicate()
    deadline.cancel()
    yield runs
    for process, _ in runs.values():
        process.kill()
        process.communicate()


def test_a_run_that_was_killed_resumes_to_the_same_tables(
    held: dict[str, Any], tiny: str, whole: Run, measured: list[str]
) -> None:
    process, out = held["again-text-0"]
    with pytest.raises(RunError, match="Another process is working on"):
        Counting(model=tiny).run(out=out)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert description(next(out.glob("counting/tiny/*")))["status"] == "running"

    run = Counting(model=tiny).run(out=out)
    assert measured == ["again-text-0"]  # all others were kept
    assert_same_results(run, whole)
    assert description(run.folder)["status"] == "done"


@pytest.mark.slow
def test_ctrl_c_stops_with_a_sentence_and_the_run_resumes_to_the_same_tables(
    held: dict[str, Any], tiny: str, whole: Run, measured: list[str]
) -> None:
    process, out = held["text-2"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == ("Stopped; every finished unit is kept. The same command goes on from there."), (
        errors
    )
    assert "Traceback" not in errors
    said = description(next(out.glob("counting/tiny/*")))
    assert (said["status"], said["error"]) == ("stopped", "stopped by the user")

    run = Counting(model=tiny).run(out=out)
    assert measured == UNITS[2:]
    assert_same_results(run, whole)
    assert description(run.folder)["error"] is None


class Killed(BaseException):
    """Stands for a kill: nothing in the toolkit catches it."""


@pytest.mark.slow
def test_a_run_killed_before_each_of_its_writes_in_turn_changes_no_table(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(model=tiny, texts=1)
    replace = Path.replace
    written: list[str] = []
    dooms: list[tuple[str, int]] = []

    def write(aside: Path, path: Path) -> Path:
        if (path.name, written.count(path.name)) in dooms:
            raise Killed
        written.append(path.name)
        return replace(aside, path)

    monkeypatch.setattr(Path, "replace", write)
    whole = counting.run(out=tmp_path / "whole")
    parts = ["text-0.parquet", "text-0.json", "again-text-0.parquet", "again-text-0.json"]
    results = ["tokens.parquet", "texts.parquet", "surprisal.html", "plotly.min.js", "texts.csv", "report.html"]
    assert written == ["run.json", *parts, *results, "run.json"]
    for doom in [("run.json", 0), *((name, 0) for name in [*parts, *results]), ("run.json", 1)]:
        written.clear()
        dooms[:] = [doom]
        with pytest.raises(Killed):
            counting.run(out=tmp_path / "killed")
    dooms.clear()
    assert_same_results(counting.run(out=tmp_path / "killed"), whole)


def test_a_failed_run_says_where_and_goes_on_from_there(
    tiny: str,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["counting", "--model", tiny, "--out", str(tmp_path)]
    monkeypatch.setenv(FAIL, "text-1")
    assert main(command) == 1
    assert "ValueError: nothing can be read in text-1" in capsys.readouterr().err
    run_folder = next(tmp_path.glob("counting/tiny/*"))
    said = description(run_folder)
    assert (said["status"], said["error"]) == ("failed", "ValueError: nothing can be read in text-1")
    assert "raise ValueError" in said["traceback"]

    monkeypatch.delenv(FAIL)
    measured.clear()
    assert main(command) == 0
    assert measured == UNITS[1:]
    said = description(run_folder)
    assert (said["status"], said["error"], "traceback" in said) == ("done", None, False)
    assert_same_results(dataclasses.replace(whole, folder=run_folder), whole)


def test_a_part_damaged_after_the_second_wave_was_planned_is_measured_again_and_nothing_else_is(
    tiny: str, whole: Run, tmp_path: Path, measured: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / whole.folder.relative_to(whole.folder.parents[2])
    shutil.copytree(whole.folder, copy)
    (copy / "run.json").write_text(json.dumps(description(copy) | {"status": "stopped"}))
    (copy / "parts" / "tokens" / "text-1.parquet").write_bytes(b"PAR1")
    run = Counting(model=tiny).run(out=tmp_path)
    assert measured == ["text-1"]
    assert any("text-1.parquet is damaged: text-1 is measured again" in message for message in caplog.messages)
    assert_same_results(run, whole)


class Hasty(Counting):
    """Plans its second wave from whatever there is, as no experiment should."""

    def plan(self, facts: Any, measured: Any) -> Any:
        first = super().plan(facts, {"tokens": measured["tokens"].head(0)})
        means = measured["tokens"].query("~again").groupby("text_id")["surprisal_nats"].mean()
        return [*first, *self.most_surprising(means)]


class Backwards(Counting):
    def plan(self, facts: Any, measured: Any) -> Any:
        return super().plan(facts, measured)[::-1]


def test_neither_the_order_of_units_nor_a_hasty_plan_changes_a_row(
    tiny: str, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    backwards = Backwards(model=tiny).run(out=tmp_path / "backwards")
    assert measured == [*UNITS[3::-1], *UNITS[:3:-1]]
    keys = ["text_id", "again", "position"]
    rows = [run.tables["tokens"].sort_values(keys, ignore_index=True) for run in (backwards, whole)]
    assert_frame_equal(*rows, check_exact=True)

    monkeypatch.setenv(FAIL, "text-2")
    with pytest.raises(ValueError, match="text-2"):
        Hasty(model=tiny).run(out=tmp_path)
    monkeypatch.delenv(FAIL)
    resumed = Hasty(model=tiny).run(out=tmp_path)
    assert "again-text-1" in measured  # one of the two worst of the first two texts, but not of all four
    assert_same_results(resumed, whole)


# ---------------------------------------------------------------------- a finished run


def test_a_finished_run_returns_at_once_and_fresh_starts_over(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    counting = Counting(model=tiny, texts=1)
    first = counting.run(out=tmp_path)
    assert measured == ["text-0", "again-text-0"]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "load", lambda *_, **__: pytest.fail("a finished run needs no model"))
        assert counting.run(out=tmp_path).folder == first.folder
    assert measured == ["text-0", "again-text-0"]
    (first.folder / "parts" / "done" / "stale.json").write_text("{}")
    counting.run(out=tmp_path, fresh=True)
    assert measured == ["text-0", "again-text-0"] * 2
    assert not (first.folder / "parts" / "done" / "stale.json").exists()


def test_a_damaged_or_missing_table_of_a_finished_run_is_made_again_from_the_parts(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(model=tiny, texts=1)
    first = counting.run(out=tmp_path)
    table = first.folder / "tables" / "texts.parquet"
    whole = pd.read_parquet(table)
    table.write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"texts\.parquet cannot be read .*: delete it and run the same command again\."):
        dataclasses.replace(first).tables["texts"]
    monkeypatch.setattr(runner, "load", lambda *_, **__: pytest.fail("tables are made without a model"))
    assert_frame_equal(counting.run(out=tmp_path).tables["texts"], whole)
    table.unlink()
    assert_frame_equal(counting.run(out=tmp_path).tables["texts"], whole)


def test_a_model_without_attention_heads_is_refused_with_what_can_be_used(tmp_path: Path) -> None:
    small = dict(vocab_size=97, hidden_size=16, num_hidden_layers=1, state_size=4)
    mamba = save_model(tmp_path / "striped", "mamba", **small)
    with pytest.raises(UserError) as refusal:
        Counting(model=str(mamba)).run(out=tmp_path / "runs")
    sentence, usable = str(refusal.value).removesuffix(".").split(": it can be used in ")
    assert sentence == "striped (mamba) has no attention heads, which counting looks at"
    assert "yardstick" in usable.split(", ")
    assert "counting" not in usable.split(", ")
    assert not (tmp_path / "runs").exists()
