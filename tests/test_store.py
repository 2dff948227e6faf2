"""What stands on disk: finished units survive anything, and nothing half-written or damaged counts."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import interp.tables
from interp.errors import RunError
from interp.experiments import store as store_module
from interp.experiments.store import MeasuredTables, RunStore, StoredTables, uninterrupted
from interp.tables import TableSchema, read_table
from tests.counting import Counting, environment


class Numbers(TableSchema):
    unit: str
    value: float


class Names(TableSchema):
    name: str


SCHEMAS = {"numbers": Numbers, "names": Names}


def rows(unit: str, n: int = 3) -> dict[str, pd.DataFrame]:
    return {
        "numbers": pd.DataFrame({"model": "tiny", "unit": unit, "value": [index + ord(unit[0]) for index in range(n)]}),
        "names": pd.DataFrame({"model": ["tiny"], "name": [f"name of {unit}"]}),
    }


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run", SCHEMAS)
    for seconds, unit in enumerate("abc"):
        store.write_part(unit, rows(unit), float(seconds))
    return store


def part(store: RunStore, table: str, unit: str) -> Path:
    return store.folder / "parts" / table / f"{unit}.{'json' if table == 'done' else 'parquet'}"


# ---------------------------------------------------------------------- parts


def test_parts_come_back_in_the_order_asked_for_with_the_seconds_they_took(store: RunStore) -> None:
    assert store.done_units() == {"a": 0.0, "b": 1.0, "c": 2.0}
    expected = pd.DataFrame({"model": ["tiny"] * 2, "name": ["name of c", "name of a"]})
    assert_frame_equal(store.read_parts("names", ["c", "a"]), expected)
    assert store.read_parts("numbers", ["b"])["value"].tolist() == [98.0, 99.0, 100.0]  # ord("b") is 98; coerced


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def holding(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    write.__name__ = f"holding {text[:12]}"
    return write


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("numbers", flip_a_byte),
        ("numbers", truncate),
        ("names", truncate),
        ("numbers", Path.unlink),
        ("done", truncate),
        ("done", holding("")),
        ("done", holding("null")),
        ("done", holding('["b"]')),
        ("done", holding('{"unit": "b"}')),
        ("done", holding('{"unit": "b", "sha256": {}}')),
    ],
)
def test_a_damaged_part_is_named_and_measured_again_and_the_others_are_kept(
    store: RunStore, caplog: pytest.LogCaptureFixture, table: str, damage: Callable[[Path], None]
) -> None:
    damaged = part(store, table, "b")
    damage(damaged)
    assert store.done_units() == {"a": 0.0, "c": 2.0}
    assert len(caplog.messages) == 1
    assert str(damaged) in caplog.messages[0]
    assert "b is measured again" in caplog.messages[0]
    store.write_part("b", rows("b"), 5.0)
    assert store.done_units() == {"a": 0.0, "b": 5.0, "c": 2.0}
    assert_frame_equal(store.read_parts("names", ["b"]), rows("b")["names"])


def test_a_part_without_its_marker_was_never_finished(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    part(store, "done", "b").unlink()
    (part(store, "done", "b").parent / ".b.json.4711").write_text("half a mark")  # what a kill leaves behind
    assert store.done_units() == {"a": 0.0, "c": 2.0}
    assert not caplog.messages
    assert MeasuredTables(store, ["a", "c"])["numbers"]["unit"].unique().tolist() == ["a", "c"]


@pytest.mark.parametrize("unit", ["", "A", "a b", "../a", "a/b", "-a", "a.b", "é", "a\n"])
def test_an_id_that_is_no_file_name_everywhere_is_refused_before_anything_is_written(tmp_path: Path, unit: str) -> None:
    with pytest.raises(ValueError, match="a unit's id is made of"):
        RunStore(tmp_path / "run", SCHEMAS).write_part(unit, {}, 0.0)
    assert not (tmp_path / "run").exists()


def test_rows_that_do_not_fit_their_schema_leave_no_part(store: RunStore) -> None:
    wrong = rows("d") | {"names": pd.DataFrame({"model": ["tiny"], "nme": ["d"]})}
    with pytest.raises(ValueError, match=r"Names.*missing columns \['name'\].*unknown columns \['nme'\]"):
        store.write_part("d", wrong, 0.0)
    assert "d" not in store.done_units()
    assert not list(store.folder.rglob(".*"))


# ---------------------------------------------------------------------- tables


def test_tables_of_a_run_in_progress_are_empty_rather_than_missing(tmp_path: Path) -> None:
    empty = MeasuredTables(RunStore(tmp_path, SCHEMAS), [])
    assert (list(empty), len(empty)) == ([], 0)
    assert empty["numbers"].columns.tolist() == ["model", "unit", "value"]
    assert empty["numbers"]["value"].dtype == "float64"
    assert len(empty["numbers"]) == 0


def test_stored_tables_are_those_of_the_schemas_each_checked_when_it_is_read(store: RunStore) -> None:
    measured = MeasuredTables(store, ["b", "a"])
    assert set(measured) == {"numbers", "names"}
    store.write_tables(measured)
    shutil.copy(store.folder / "tables" / "names.parquet", store.folder / "tables" / "strangers.parquet")
    stored = StoredTables(store.folder, SCHEMAS)
    assert (list(stored), len(stored)) == (["names", "numbers"], 2)
    assert_frame_equal(stored["numbers"], measured["numbers"])
    assert stored["numbers"] is stored["numbers"]
    with pytest.raises(KeyError):
        stored["strangers"]

    truncate(store.folder / "tables" / "names.parquet")
    with pytest.raises(RunError, match=r"names\.parquet cannot be read .*: delete it and run the same command again\."):
        stored["names"]
    with pytest.raises(RunError, match=r"missing columns \['name'\]"):
        read_table(store.folder / "tables" / "numbers.parquet", Names)


@pytest.mark.parametrize("text", [b'{"status": "do', b"", b"\xff\xfe", b"null", b'["done"]'])
def test_a_broken_description_is_named_with_what_to_do(store: RunStore, text: bytes) -> None:
    assert store.read_description() == {}
    (store.folder / "run.json").write_bytes(text)
    with pytest.raises(RunError, match=r"run\.json is damaged: delete it and run the same command again\."):
        store.read_description()


def test_documents_are_text_or_bytes_in_folders_of_their_own(store: RunStore) -> None:
    assert store.write_document("notes.json", "é\n").read_bytes() == b"\xc3\xa9\n"
    assert store.write_document("grids/one.png", b"\x89PNG\r\n").read_bytes() == b"\x89PNG\r\n"
    assert [path.name for path in (store.folder / "grids").iterdir()] == ["one.png"]


def test_clearing_leaves_only_the_lock(store: RunStore) -> None:
    with store.locked():
        store.write_tables(rows("a"))
        store.write_description({"status": "done"})
        for name in ("report.html", "figures/map.html", "document.csv"):
            store.write_document(name, "made")
        store.clear()
        assert [path.name for path in store.folder.iterdir()] == [".lock"]


# ---------------------------------------------------------------------- interruptions


HOLDER = """
import sys
from pathlib import Path
from interp.experiments.store import RunStore
with RunStore(Path(sys.argv[1]), {}).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_waits_for_whom_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(RunError) as refusal, RunStore(tmp_path, {}).locked():
                pass
        finally:
            holder.kill()
    assert str(refusal.value) == f"Another process is working on {tmp_path}: wait for it, or choose another --out."
    with RunStore(tmp_path, {}).locked():
        pass


def test_ctrl_c_waits_until_the_block_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    steps = []

    @uninterrupted()
    def block() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_a_part_is_written_keeps_the_part(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        interp.tables.write_table(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write_part("d", rows("d"), 3.0)
    assert store.done_units()["d"] == 3.0


def test_parts_are_written_from_other_threads_too(store: RunStore) -> None:
    thread = threading.Thread(target=store.write_part, args=("d", rows("d"), 3.0))
    thread.start()
    thread.join()
    assert store.done_units()["d"] == 3.0


# ---------------------------------------------------------------------- full disks


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Callable[[bool], None]]]:
    """A folder on a disk of 16 MB, and what fills it to the last byte or makes room again.

    Where no disk can be mounted, every write to disk says that it is full.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode

    fsync = os.fsync

    def fill(full: bool) -> None:
        if not mounted:
            monkeypatch.setattr(interp.tables.os, "fsync", _refuse if full else fsync)
        elif full:
            _fill(folder / "ballast")
        else:
            (folder / "ballast").unlink()

    yield folder, fill
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass


def _refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_no_finished_unit_and_the_run_goes_on_when_there_is_room(
    small_disk: tuple[Path, Callable[[bool], None]], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fill = small_disk
    counting = Counting(model=tiny)
    measured: list[str] = []

    def measure(self: Counting, model: object, unit: object) -> object:
        if unit.id == "text-2" and "text-2" not in measured:  # type: ignore[attr-defined]
            fill(True)
        measured.append(unit.id)  # type: ignore[attr-defined]
        return original(self, model, unit)

    original = Counting.measure
    monkeypatch.setattr(Counting, "measure", measure)
    with pytest.raises(RunError) as full:
        counting.run(out=out)
    folder = next(out.glob("counting/tiny/*"))
    assert str(full.value) == (
        f"The disk that holds {folder} is full; every finished unit is kept: make room and type the same command again."
    )
    assert sorted(RunStore(folder, counting.schemas()).done_units()) == ["text-0", "text-1"]
    assert json.loads((folder / "run.json").read_text())["experiment"] == "counting"
    assert not list(folder.rglob(".*.parquet.*"))

    fill(False)
    run, elsewhere = counting.run(out=out), counting.run(out=tmp_path / "elsewhere")
    assert measured[:7] == ["text-0", "text-1", "text-2", "text-2", "text-3", "again-text-2", "again-text-0"]
    assert_frame_equal(run.tables["tokens"], elsewhere.tables["tokens"])
