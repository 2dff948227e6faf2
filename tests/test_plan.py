"""`plan` says what a run will do, what is done of it and how long the rest takes, and touches nothing."""

import json
from pathlib import Path

import pytest

from interp.experiments import timing
from interp.experiments.experiment import Work
from interp.experiments.forecast import forecast
from interp.experiments.options import RunOptions
from interp.experiments.timing import SPREAD, MeasuredRun, duration, estimate
from tests.counting import Call, Counting

pytestmark = pytest.mark.usefixtures("counting_installed")


def planned(call: Call, *words: object) -> dict[str, str]:
    """Returns what is printed, by label."""
    status, said, errors = call("plan", "counting", *words)
    assert (status, errors) == (0, "")
    title, *lines = said.splitlines()
    assert title.startswith("counting on tiny (")
    assert all(len(line) <= 80 for line in lines if not line.startswith("folder"))
    found: dict[str, str] = {}
    for line in lines:
        label = line[:11].strip() or list(found)[-1]
        found[label] = f"{found.get(label, '')} {line[11:].strip()}".strip()
    return found


def test_a_new_run_a_finished_one_and_one_that_is_half_done(call: Call, tiny: str, tmp_path: Path) -> None:
    words = ["--model", tiny, "--out", tmp_path / "runs"]
    new = planned(call, *words)
    assert new["state"] == "new"
    assert new["units"] == "4: 4 text"
    assert new["work"] == "cannot be counted beforehand"
    assert new["time"] == "no estimate: no run of counting on tiny to go by"
    assert not (tmp_path / "runs").exists()

    run = Counting(model=tiny).run(out=tmp_path / "runs")
    assert planned(call, *words)["folder"] == str(run.folder)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    done = planned(call, *words)
    assert done["state"] == "done"
    assert done["units"].endswith("; 6 done, 0 left")
    assert done["work"].startswith("none is left")
    assert planned(call, *words, "--fresh")["units"] == "4: 4 text"
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before

    (first, *others) = sorted((run.folder / "parts" / "done").glob("*.json"))
    first.unlink()
    others[0].write_text("{")
    half = planned(call, *words)
    assert half["units"].endswith("; 4 done, 2 left")
    assert half["estimated"].startswith("from units measured before: 4 of this run (")

    other = planned(call, *words, "--seed", 1)
    assert other["state"] == "new"
    assert other["estimated"].startswith(f"from units measured before: {run.folder.name} (")


def test_seconds_of_units_are_scaled_by_their_kind_and_their_work(tiny: str, tmp_path: Path) -> None:
    sample = MeasuredRun("a", [("list", 6.0, 100.0), ("list", 4.0, 100.0), ("mask", 3.0, None)], besides=2.0)
    assert sample.seconds("list", 400.0) == pytest.approx(20)
    assert sample.seconds("list", None) == pytest.approx(5)
    assert sample.seconds("mask", 7.0) == 3.0
    assert sample.seconds("looks", 20.0) == pytest.approx(1)  # at the rate of all units whose work is known
    assert sample.seconds("looks", None) is None


def test_the_range_spans_the_runs_it_rests_on(tiny: str, tmp_path: Path) -> None:
    for seed, seconds in ((1, 2.0), (2, 6.0)):
        run = Counting(model=tiny, seed=seed).run(out=tmp_path)
        description = json.loads((run.folder / "run.json").read_text())
        description["finished"] = description["started"]  # no second besides the units'
        (run.folder / "run.json").write_text(json.dumps(description))
        for path in (run.folder / "parts" / "done").glob("*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds}))
    found = estimate(forecast(Counting(model=tiny), RunOptions(out=tmp_path)))
    assert found.low_seconds == pytest.approx(4 * 2 / SPREAD)
    assert found.high_seconds == pytest.approx(4 * 6 * SPREAD)
    damaged = run.folder / "run.json"
    damaged.write_text("{")
    assert estimate(forecast(Counting(model=tiny), RunOptions(out=tmp_path))).high_seconds == pytest.approx(
        4 * 2 * SPREAD
    )


def test_without_a_run_to_go_by_a_pass_is_timed(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "work_of", lambda *_: Work(tokens_read=50, tokens_written=10))
    expected = forecast(Counting(model=tiny), RunOptions(out=tmp_path))
    assert expected.work == Work(tokens_read=200, tokens_written=40)
    found = estimate(expected)
    assert found.low_seconds is not None
    assert found.high_seconds is not None
    assert 0 < found.low_seconds < found.high_seconds
    assert "tokens/s read" in found.basis
    monkeypatch.setattr(timing, "weights_are_here", lambda _: False)
    assert estimate(expected).basis == "no run to go by, and the model's weights are not on this machine"


def test_a_model_that_is_not_there_ends_as_the_run_would(call: Call) -> None:
    status, said, errors = call("plan", "counting", "--model", "smollm2-135")
    assert (status, said) == (2, "")
    assert errors.startswith("There is no model or folder named smollm2-135. Did you mean smollm2-135m?")
    assert errors.count("\n") == 1
    for words in (["counting", "--model", "smollm2-135"], ["retrieval_heads", "--model", "sdxl-base"]):
        assert call("plan", *words) == call(*words)
    assert call("plan", "xyzzy")[0] == 2


def test_plan_explains_itself(call: Call) -> None:
    for words in ([], ["--help"]):
        status, said, _ = call("plan", *words)
        assert status == 0
        assert said.startswith("usage: python -m interp.experiments plan EXPERIMENT")
        assert "counting" in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (40.0, "40 s"),
        (119.0, "119 s"),
        (150.0, "2.5 min"),
        (1500.0, "25 min"),
        (9000.0, "2.5 h"),
        (2e5, "2.3 d"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
