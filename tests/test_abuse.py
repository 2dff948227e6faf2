"""A day of abuse: kills at random moments, clocks that run backwards, folders that move, disks that only read."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import interp.tables
from interp.errors import RunError
from interp.experiments import runner
from interp.experiments.__main__ import main
from interp.experiments.run import Run, open_run
from tests.counting import Counting, environment

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("counting_installed")


@pytest.fixture(scope="module")
def whole(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny).run(out=tmp_path_factory.mktemp("whole"))


def assert_same_tables(run: Run, whole: Run) -> None:
    for name in ("texts", "tokens"):
        here, there = (side.folder / "tables" / f"{name}.parquet" for side in (run, whole))
        assert here.read_bytes() == there.read_bytes(), name


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.abuse", "--kills", "3", "--experiment", "verbatim_memory"]
    abuse = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        **dict(cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False),
    )
    assert (abuse.returncode, abuse.stderr) == (0, "")
    assert abuse.stdout.startswith("verbatim_memory: 3 kills in ")
    assert abuse.stdout.endswith(" tables equal\n")


def test_what_a_kill_left_half_written_is_cleared_away_when_the_run_goes_on(
    tiny: str, whole: Run, tmp_path: Path
) -> None:
    copy = tmp_path / whole.folder.relative_to(whole.folder.parents[2])
    shutil.copytree(whole.folder, copy)
    (copy / "run.json").write_text(json.dumps(dict(whole.description) | {"status": "running"}))
    for name in ("parts/tokens/.text-1.parquet.4711", "parts/done/.text-1.json.4711", ".run.json.1"):
        (copy / name).write_bytes(b"half")
    (copy / ".mine").write_text("a user's own")
    assert_same_tables(Counting(model=tiny).run(out=tmp_path), whole)
    assert sorted(path.name for path in copy.rglob(".*")) == [".lock", ".mine"]


def test_a_clock_set_back_in_the_middle_changes_no_table(
    tiny: str, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)

    counting = Counting(model=tiny)
    monkeypatch.setenv("COUNTING_FAILS_AT", "text-2")
    with pytest.raises(ValueError, match="text-2"):
        counting.run(out=tmp_path)
    monkeypatch.delenv("COUNTING_FAILS_AT")
    monkeypatch.setattr(runner, "datetime", Earlier)
    monkeypatch.setattr("time.time", lambda: 946684799.0)
    for path in tmp_path.rglob("*"):
        os.utime(path, (4e9, 4e9))  # what was written before is from the future now
    run = counting.run(out=tmp_path)
    assert_same_tables(run, whole)
    assert run.description["finished"].startswith("1999")
    assert counting.run(out=tmp_path).folder == run.folder  # done, whatever the dates


def test_a_run_that_was_moved_is_shown_drawn_compared_and_finished_where_it_is(
    tiny: str, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "a disk" / "of someone else"
    shutil.copytree(whole.folder, moved)
    other = Counting(model=tiny, seed=1).run(out=tmp_path)
    shutil.rmtree(moved / "figures")
    for words in (
        ["show", str(moved)],
        ["figures", str(moved), "--format"],
        ["compare", str(moved), str(other.folder), "--out", str(tmp_path)],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert (moved / "figures" / "surprisal.html").is_file()
    said = capsys.readouterr().out
    assert str(moved / "report.html") in said
    assert str(whole.folder) not in said
    assert open_run(moved).tables["texts"].equals(whole.tables["texts"])


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_can_only_be_read_is_said_and_a_finished_run_in_it_can_be_shown(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    counting = Counting(model=tiny, texts=1)
    done = counting.run(out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        patch.setattr(Path, "write_text", refuse)
        patch.setattr(interp.tables, "write_aside", refuse)
        with pytest.raises(RunError, match=r"cannot be written: choose another folder with --out\.$"):
            Counting(model=tiny, texts=2).run(out=tmp_path)
        assert main(["show", str(done.folder)]) == 0
    assert "texts have" in capsys.readouterr().out
    assert_same_tables(counting.run(out=tmp_path), done)


def edited(run: Run, folder: Path, edit: Callable[[dict], None]) -> Path:
    shutil.copytree(run.folder, folder)
    description = json.loads((folder / "run.json").read_text())
    edit(description)
    (folder / "run.json").write_text(json.dumps(description))
    return folder


def test_a_run_from_a_stranger_writes_nowhere_but_in_its_folder(whole: Run, tmp_path: Path) -> None:
    def hostile(description: dict) -> None:
        description["model"]["identity"] |= {"name": "../../../elsewhere", "source": "/elsewhere"}
        description["unit_seconds"] = {"../../elsewhere": 1.0}
        description["table_sha256"] = {"../../elsewhere": "0"}
        description["configuration"]["words"] = "../../elsewhere"
        description["command"] = "<script>alert(1)</script>"

    folder = edited(whole, tmp_path / "deep" / "down" / "in" / "run", hostile)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)}
    assert main(["show", str(folder)]) == 0
    assert main(["figures", str(folder), "--format"]) == 0
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)} == before
    shutil.copy(whole.folder / "tables" / "texts.parquet", folder / "tables" / "..parquet")
    assert main(["show", str(folder)]) == 0
