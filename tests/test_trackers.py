"""A finished run's headlines reach each tracker, read back from what it stored offline; a tracker that is missing is named first."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from interp.errors import RunError
from interp.experiments import options, trackers
from interp.experiments.run import Run
from interp.experiments.run_names import run_hash
from interp.experiments.trackers import log_run, record_of
from interp.models.loading.language import look_up
from tests.counting import Call, Counting

pytestmark = pytest.mark.usefixtures("counting_installed")
PATIENCE_S = 60


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny, texts=1).run(out=tmp_path_factory.mktemp("runs"))


def test_a_record_holds_headlines_settings_identity_and_seconds(run: Run) -> None:
    record = record_of(run)
    assert record.key == run.folder.name
    assert record.headlines["headline_1"] == run.findings[0].text
    assert record.headlines["warning_1"] == run.findings[1].text
    assert {"texts": 1, "seed": 0, "model_dtype": "float32"}.items() <= record.settings.items()
    assert record.settings["model_revision"] == run.description["model"]["identity"]["revision"]
    assert record.numbers["seconds"] == pytest.approx(sum(run.description["unit_seconds"].values()))
    assert record.numbers["units"] == len(run.description["unit_seconds"])


def test_where_a_run_is_logged_is_no_part_of_its_name_and_one_that_was_done_is_logged_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(options, "find_spec", lambda name: name)
    monkeypatch.setitem(trackers._SENDERS, "wandb", lambda record: seen.append(record.key))  # type: ignore[arg-type]
    again = run.experiment.run(out=run.folder.parents[2], log="wandb")
    assert again.folder == run.folder
    assert seen == [run_hash(run.experiment, look_up(run.experiment.model))]
    assert again.description["started"] == run.description["started"]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_computed(
    call: Call, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    status, _, errors = call("counting", "--model", tiny, "--out", tmp_path / "runs", "--log", "mlflow")
    assert (status, errors) == (
        2,
        "--log mlflow needs a package that is not installed: python -m pip install mlflow-skinny\n",
    )
    assert not (tmp_path / "runs").exists()


def test_a_tracker_that_fails_leaves_the_run_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(trackers._SENDERS, "wandb", refuse)  # type: ignore[arg-type]
    monkeypatch.setattr(trackers, "_errors_of", lambda _: ())
    with pytest.raises(RunError, match=r"is done .* wandb did not take it \(no route to host\): the same command"):
        log_run(run, "wandb")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="comes with sae-lens; without it there is nothing to log to")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log_run(run, "wandb")
    (stored,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert run.folder.name in stored.name
    told = (run.findings[0].text.encode(), b"model_revision")
    until = time.monotonic() + PATIENCE_S
    while not all(
        text in (content := stored.read_bytes()) for text in told
    ):  # its own process writes, also after finish
        assert time.monotonic() < until, f"after {PATIENCE_S} s the file holds {len(content)} bytes"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip(
        "mlflow", reason="mlflow-skinny asks for an importlib_metadata older than the tested one"
    )
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    for _ in range(2):
        log_run(run, "mlflow")
    client = mlflow.MlflowClient()
    project = client.get_experiment_by_name("interp")
    (stored,) = client.search_runs([project.experiment_id])
    assert stored.data.tags["headline_1"] == run.findings[0].text
    assert stored.data.params["texts"] == "1"
    assert stored.data.metrics["seconds"] == pytest.approx(record_of(run).numbers["seconds"])
    assert stored.info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_on_this_machine(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio", reason="trackio asks for a Pillow older than the tested one")
    log_run(run, "trackio")
    with sqlite3.connect(tmp_path / "interp.db") as database:
        rows = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics")]
        (config,) = [json.loads(row) for (row,) in database.execute("SELECT config FROM configs")]
    assert [row["headline_1"] for row in rows] == [run.findings[0].text]
    assert config["texts"] == 1
