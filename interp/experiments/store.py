"""A run's folder: parts as they are measured, tables and figures once it is done, and run.json, which describes it.

    runs/<experiment>/<model>/<hash12>/
        run.json                              configuration, model, versions, status, timings
        parts/<table>/<unit>.parquet          written aside and renamed
        parts/done/<unit>.json                written last: a unit is done or it is not
        tables/<table>.parquet  figures/<name>.html  report.html, and the experiment's own documents

Whenever a process is killed, the folder holds every finished unit, and half-written files are ignored.
"""

import json
import logging
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from interp.assets import file_sha256
from interp.errors import RunError
from interp.tables import Schemas, read_table, read_tables, write_aside, write_table

LOG = logging.getLogger(__name__)
_LOCK = ".lock"
_HALF_WRITTEN = re.compile(r"\..+\.\d+")
"""What `write_aside` calls a file until it is whole."""


class RunStore:
    """Reads and writes one run's folder."""

    def __init__(self, folder: Path, schemas: Schemas) -> None:
        self.folder = folder
        self.schemas = schemas

    # ------------------------------------------------------------------ the run

    def read_description(self) -> dict[str, Any]:
        """Returns run.json, or an empty dict when there is none."""
        return read_description(self.folder)

    def write_description(self, description: Mapping[str, Any]) -> None:
        """Replaces run.json."""
        text = json.dumps(description, indent=2, default=str)
        write_aside(self.folder / "run.json", lambda aside: aside.write_text(text, encoding="utf-8"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; the lock dies with the process.

        Raises RunError when another process holds it.
        """
        import filelock

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(
                f"Another process is working on {self.folder}: wait for it, or choose another --out."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> None:
        """Deletes files that a killed process left half-written; the caller holds the folder."""
        for path in self.folder.rglob(".*"):
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()

    def clear(self) -> None:
        """Deletes everything measured and derived, for --fresh."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    # ------------------------------------------------------------------ parts

    def write_part(self, unit_id: str, tables: Mapping[str, pd.DataFrame], seconds: float) -> None:
        """Stores the rows of one unit; interrupts are deferred until they are on disk."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", unit_id):
            raise ValueError(f"a unit's id is made of a-z, 0-9, '-' and '_', not {unit_id!r}")
        with uninterrupted():
            files = {}
            for name, frame in tables.items():
                path = self._part(name, unit_id)
                write_table(path, frame, self.schemas[name])
                files[name] = file_sha256(path)
            done = json.dumps({"unit": unit_id, "seconds": round(seconds, 3), "sha256": files})
            write_aside(self._done(unit_id), lambda aside: aside.write_text(done, encoding="utf-8"))

    def done_units(self) -> dict[str, float]:
        """Returns the seconds each finished unit took, by id.

        A unit with a missing or changed part file is named in the log and forgotten: it will be measured again.
        """
        done = {}
        for path in sorted((self.folder / "parts" / "done").glob("*.json")):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                seconds = float(record["seconds"])
                damaged = [
                    str(part)
                    for name, sha256 in record["sha256"].items()
                    if not (part := self._part(name, path.stem)).is_file() or file_sha256(part) != sha256
                ]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                damaged, seconds = [str(path)], 0.0
            if damaged:
                LOG.warning("%s is damaged: %s is measured again", ", ".join(damaged), path.stem)
                path.unlink()
            else:
                done[path.stem] = seconds
        return done

    def read_parts(self, table: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        """Returns a measured table: the rows of the given finished units, in that order."""
        parts = [path for id in unit_ids if (path := self._part(table, id)).is_file()]
        return read_tables(parts, self.schemas[table])

    def _part(self, table: str, unit_id: str) -> Path:
        return self.folder / "parts" / table / f"{unit_id}.parquet"

    def _done(self, unit_id: str) -> Path:
        return self.folder / "parts" / "done" / f"{unit_id}.json"

    # ------------------------------------------------------------------ results

    def write_tables(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Stores whole tables."""
        for name, frame in tables.items():
            write_table(self.folder / "tables" / f"{name}.parquet", frame, self.schemas[name])

    def table_sha256(self) -> dict[str, str]:
        """Returns the sha256 of every table's file, by name."""
        return {path.stem: file_sha256(path) for path in sorted((self.folder / "tables").glob("*.parquet"))}

    def tables_whole(self, description: Mapping[str, Any]) -> bool:
        """Whether every table is as it was when the run finished; otherwise the tables are rebuilt from the parts."""
        return self.table_sha256() == description.get("table_sha256")

    def write_document(self, name: str, content: str | bytes) -> Path:
        """Stores a further file of the run, text in UTF-8 or bytes as they are; returns its path."""
        path = self.folder / name
        written = content.encode() if isinstance(content, str) else content
        write_aside(path, lambda aside: aside.write_bytes(written))
        return path


class StoredTables(Mapping[str, pd.DataFrame]):
    """The tables of a finished run, each read on access.

    Raises RunError for a table that is not the one of `table_sha256`, where that has one of its name.
    """

    def __init__(self, folder: Path, schemas: Schemas, table_sha256: Mapping[str, str] | None = None) -> None:
        self._paths = {
            path.stem: path for path in sorted((folder / "tables").glob("*.parquet")) if path.stem in schemas
        }
        self._schemas = schemas
        self._sha256 = table_sha256 or {}
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Returns one table."""
        if name not in self._read:
            path = self._paths[name]
            table = read_table(path, self._schemas[name])
            if name in self._sha256 and file_sha256(path) != self._sha256[name]:
                raise RunError(
                    f"{path} has changed since the run ended: run the same command again, which makes it anew from what was measured."
                )
            self._read[name] = table
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the tables."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Number of tables."""
        return len(self._paths)

    def __repr__(self) -> str:
        """Names the tables; reads none."""
        return f"<tables: {', '.join(self)}>"


class MeasuredTables(Mapping[str, pd.DataFrame]):
    """The tables measured so far, each read on access; tables without rows are empty, not missing."""

    def __init__(self, store: RunStore, unit_ids: Sequence[str]) -> None:
        self._store = store
        self._unit_ids = list(unit_ids)
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Returns one table."""
        if name not in self._read:
            self._read[name] = self._store.read_parts(name, self._unit_ids)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the tables that have parts."""
        return (name for name in self._store.schemas if (self._store.folder / "parts" / name).is_dir())

    def __len__(self) -> int:
        """Number of tables that have parts."""
        return sum(1 for _ in self)


def read_description(folder: Path) -> dict[str, Any]:
    """Returns a folder's run.json, or an empty dict when there is none.

    Raises RunError when it is not JSON.
    """
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise RunError(f"{folder / 'run.json'} is damaged: delete it and run the same command again.") from error
    return description


def is_locked(folder: Path) -> bool:
    """Whether a process is working on a run's folder."""
    import filelock

    if not (folder / _LOCK).is_file():
        return False
    try:
        with filelock.FileLock(folder / _LOCK, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a folder that cannot be written: nobody works on it from here
        return False


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defers Ctrl-C to the end of the block (in the main thread, where Python delivers it)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt
