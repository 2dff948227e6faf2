"""Ray: the same tables from two workers as from this process, a killed worker replaced, a failed unit in its own words."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from interp.errors import ArgumentError, RunError
from interp.experiments import ray_engine
from interp.experiments.__main__ import main
from interp.experiments.experiment import WorkUnit
from interp.experiments.options import RunOptions
from interp.experiments.run import Run
from tests.counting import HOLD, Counting, environment

pytestmark = pytest.mark.slow

RAY = dict(engine="ray", workers=2, cpus_per_worker=0.5)
"""Two workers, on any machine."""


@dataclass(frozen=True, kw_only=True)
class Watched(Counting):
    """Counts what is measured where, in a folder, and ends or refuses where a file there says so."""

    watch: str = ""
    """The folder."""

    def measure(self, model: Any, unit: Any) -> Any:
        watch = Path(self.watch)
        (watch / f"{unit.id}.{os.getpid()}.{time.monotonic_ns()}").touch()
        if (watch / f"kill {unit.id}").exists():
            if not (watch / "always").exists():
                (watch / f"kill {unit.id}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (watch / f"refuse {unit.id}").exists():
            raise RunError(f"{unit.id} is too long: use shorter texts.")
        return super().measure(model, unit)


def measured(watch: Path) -> Counter[str]:
    """How often each unit was begun."""
    return Counter(path.name.split(".")[0] for path in watch.iterdir() if "." in path.name)


def processes(watch: Path) -> set[int]:
    return {int(path.name.split(".")[1]) for path in watch.iterdir() if "." in path.name}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for the tests that only need one: starting it takes seconds."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()
    with warnings.catch_warnings():
        # Ray lets go of the processes of its cluster without waiting for them, of which subprocess warns.
        warnings.filterwarnings("ignore", "subprocess .* is still running", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def local(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny).run(out=tmp_path_factory.mktemp("local"))


@pytest.fixture
def watch(tmp_path: Path) -> Path:
    (tmp_path / "watch").mkdir()
    return tmp_path / "watch"


def assert_same_tables(run: Run, local: Run) -> None:
    for name in ("texts", "tokens"):
        here, there = (side.folder / "tables" / f"{name}.parquet" for side in (run, local))
        assert here.read_bytes() == there.read_bytes(), name


def test_two_workers_one_of_them_killed_write_the_bytes_of_one_process_and_a_finished_run_starts_none(
    tiny: str,
    local: Run,
    cluster: None,
    watch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (watch / "kill text-1").touch()
    watched = Watched(model=tiny, watch=str(watch))
    run = watched.run(out=tmp_path, **RAY)
    assert_same_tables(run, local)
    assert measured(watch) == dict.fromkeys(local.description["unit_seconds"], 1) | {"text-1": 2}
    assert len(processes(watch)) >= 2
    assert os.getpid() not in processes(watch)
    assert "A worker died in text-1, which is tried again with another." in caplog.messages
    said = run.description
    assert list(said["unit_seconds"]) == list(local.description["unit_seconds"])  # in the order of the plan
    assert (said["engine"], said["workers_lost"], said["status"]) == ("ray", 1, "done")
    assert "--engine ray --workers 2 --cpus-per-worker 0.5" in said["command"]

    monkeypatch.setattr(ray_engine.RayEngine, "_connect", lambda _: pytest.fail("a finished run needs no cluster"))
    assert watched.run(out=tmp_path, **RAY).folder == run.folder
    assert measured(watch).total() == 7


def test_a_unit_that_takes_down_every_worker_ends_the_run_and_the_same_command_goes_on(
    tiny: str, local: Run, cluster: None, watch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "TRIES", 2)
    (watch / "kill text-3").touch()
    (watch / "always").touch()
    watched = Watched(model=tiny, watch=str(watch))
    with pytest.raises(RunError, match=r"^2 workers died in text-3 \(The actor died .*take fewer --workers"):
        watched.run(out=tmp_path, engine="ray", workers=1)
    assert measured(watch)["text-3"] == 2
    folder = next(tmp_path.glob("counting/tiny/*"))
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    (watch / "kill text-3").unlink()
    assert_same_tables(watched.run(out=tmp_path), local)  # by this process this time
    assert measured(watch)["text-0"] == 1


def test_a_unit_that_fails_says_so_in_the_words_it_would_have_used_here(
    tiny: str, cluster: None, watch: Path, tmp_path: Path
) -> None:
    (watch / "refuse text-2").touch()
    with pytest.raises(RunError, match=r"^text-2 is too long: use shorter texts\.$"):
        Watched(model=tiny, watch=str(watch)).run(out=tmp_path, engine="ray", workers=1)
    folder = next(tmp_path.glob("counting/tiny/*"))
    said = json.loads((folder / "run.json").read_text())
    assert (said["status"], said["error"]) == ("failed", "RunError: text-2 is too long: use shorter texts.")
    assert "test_ray_engine.py" in said["traceback"]  # where it was raised, in the worker
    wait_for(lambda: not any(map(psutil.pid_exists, processes(watch))))


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kills the process at the end, whatever happens."""
    try:
        yield
    finally:
        process.kill()


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_the_workers_and_the_cluster_that_was_started_for_the_run(
    tiny: str, local: Run, tmp_path: Path, plugin: Path
) -> None:
    words = ["counting", "--model", tiny, "--out", str(tmp_path), "--engine", "ray", "--workers", "1"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "interp.experiments", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(plugin, **{HOLD: "text-1"}),
    )
    with driver, ended(driver):
        wait_for(lambda: list(tmp_path.glob("counting/tiny/*/parts/done/text-0.json")))
        family = {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}
        driver.send_signal(signal.SIGINT)
        _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert errors.splitlines()[-1] == "Stopped; every finished unit is kept. The same command goes on from there."
    assert "Traceback" not in errors
    assert len(family) > 3  # the worker, and what a cluster is made of
    wait_for(lambda: not any(map(psutil.pid_exists, family)))
    assert_same_tables(Counting(model=tiny).run(out=tmp_path), local)


# ---------------------------------------------------------------------- without a cluster


@dataclass
class Hand:
    """What a worker was given."""

    given: list[str]

    @property
    def measure(self) -> "Hand":
        return self

    def remote(self, unit: WorkUnit) -> tuple[int, str]:
        self.given.append(unit.id)
        return id(self), unit.id

    def __hash__(self) -> int:
        return id(self)


def test_workers_take_units_of_the_model_they_hold_and_spread_over_models() -> None:
    units = [WorkUnit(f"{revision}{index}") for revision in "ab" for index in range(3)]
    engine = ray_engine.RayEngine((), RunOptions(engine="ray"), lambda unit: ("tiny", unit.id[0]))
    first, second = Hand([]), Hand([])
    engine._workers = {first: None, second: None}
    running: dict[Any, Any] = {}
    for turns in ([first, second], [first], [second], [first], [second], []):
        engine._idle += turns
        engine._hand_out(units, running)
    assert (first.given, second.given) == (["a0", "a1", "a2"], ["b0", "b1", "b2"])
    assert [unit.id for _, unit in running.values()] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert units == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "ray", "--workers", "0"], "--workers must be 1 or more, not 0."),
        (["--workers", "2"], "--workers applies only with --engine ray: add that."),
        (["--gpus-per-worker", "1"], "--gpus-per-worker applies only with --engine ray: add that."),
        (
            ["--engine", "ray", "--gpus-per-worker", "1.5"],
            "--gpus-per-worker can be a fraction of one or a whole number",
        ),
        (["--engine", "ray", "--cpus-per-worker", "0"], "--cpus-per-worker must be above 0, not 0."),
        (
            ["--engine", "ray", "--device", "cuda:1"],
            "--device cuda:1 is on this machine only: with --engine ray say cpu,",
        ),
        (["--engine", "ray", "--device", "cpu", "--gpus-per-worker", "1"], "contradict each other: leave one out."),
    ],
)
def test_options_that_cannot_be_get_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrieval_heads", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_an_engine_by_another_name_is_refused_from_python_too() -> None:
    options = RunOptions()
    object.__setattr__(options, "engine", "rya")  # only these tests check types
    with pytest.raises(ArgumentError, match=r"^There is no engine called rya\. Did you mean ray\?$"):
        options.__post_init__()


def test_a_missing_ray_or_cluster_or_gpu_is_said(
    tiny: str, cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(model=tiny)
    with pytest.raises(RunError) as refusal:
        counting.run(out=tmp_path, engine="ray", gpus_per_worker=2.0)
    assert str(refusal.value) == (
        "A worker asks for 1 CPU and 2 GPU and the cluster has 2 CPU and 0 GPU: ask for less with --cpus-per-worker and "
        "--gpus-per-worker."
    )
    with monkeypatch.context() as patch:
        patch.setattr("ray.is_initialized", lambda: False)
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with pytest.raises(
            RunError, match=r"^No Ray cluster can be reached at 127\.0\.0\.1:1 \(.*refused\): set RAY_ADDRESS"
        ):
            counting.run(out=tmp_path, engine="ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ArgumentError, match=r"^--engine ray needs Ray, which is not installed: pip install 'interp\[ray\]'"
    ):
        counting.run(out=tmp_path, engine="ray")
