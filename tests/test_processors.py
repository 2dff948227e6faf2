"""A machine that others use: waiting threads sleep, and a run takes no more threads than there are free processors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from interp.experiments import engine
from interp.experiments.engine import computing_threads, free_processors, threads_for
from tests.counting import FAIL, Counting

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch as it is on a machine of four processors whose user chose nothing."""
    for name in engine.CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("chosen", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(chosen: str | None, expected: str) -> None:
    own = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = "import os, interp; print(os.environ['OMP_WAIT_POLICY']); import sys; print('torch' in sys.modules)"
    given = own if chosen is None else {**own, "OMP_WAIT_POLICY": chosen}
    done = subprocess.run([sys.executable, "-c", code], env=given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]  # set before torch could read it


@pytest.mark.parametrize(
    ("free", "most", "threads"), [(4.0, 4, 4), (2.4, 4, 2), (0.9, 4, 1), (0.0, 4, 1), (-0.3, 4, 1), (64.0, 4, 4)]
)
def test_a_run_takes_as_many_threads_as_processors_are_free(
    free: float, most: int, threads: int, four_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "free_processors", lambda: free)
    assert threads_for(most) == threads


def test_what_the_user_chose_is_taken(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "free_processors", lambda: 0.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_for(3) == 3


def test_processors_of_others_are_not_free_and_those_this_process_may_not_use_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [100.0, 50.0, 0.0, 100.0])
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 1, 2], raising=False)
    monkeypatch.setattr(engine, "_own_seconds", lambda process: 0.0)
    assert free_processors() == pytest.approx(1.5)


def test_what_this_process_uses_itself_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0])  # two seconds pass, and in them this process computes for two
    monkeypatch.setattr(engine.time, "perf_counter", lambda: next(clock))
    used = iter([5.0, 7.0])
    monkeypatch.setattr(engine, "_own_seconds", lambda process: next(used))
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [100.0, 0.0])
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 1], raising=False)
    assert free_processors() == pytest.approx(2.0)


def test_a_resumed_run_keeps_its_threads_and_torch_has_its_own_again_afterwards(
    four_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "threads_for", lambda most: 1)
    for resumed, expected in (({}, 1), ({"threads": 3}, 3), ({"threads": 9}, 1), ({"threads": "many"}, 1)):
        with computing_threads(resumed) as threads:
            assert (threads, torch.get_num_threads()) == (expected, expected)
        assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("counting_installed")
def test_a_run_says_with_how_many_threads_it_was_measured_and_goes_on_with_them(
    tiny: str, tmp_path: Path, four_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "threads_for", lambda most: 2)
    monkeypatch.setenv(FAIL, "text-2")
    with pytest.raises(Exception, match="text-2"):
        Counting(model=tiny).run(out=tmp_path)
    monkeypatch.delenv(FAIL)
    monkeypatch.setattr(engine, "threads_for", lambda most: 1)  # the machine has become crowded
    run = Counting(model=tiny).run(out=tmp_path)
    assert json.loads((run.folder / "run.json").read_text())["threads"] == 2
