"""All runs under a folder, newest first: experiment, model, state and first headline of each. Imports no torch.

A folder may hold ten thousand runs and unrelated files: only what is needed is read, and unrelated files are skipped.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from interp.errors import ArgumentError, RunError, did_you_mean

State = Literal["done", "under way", "interrupted", "stopped", "failed", "damaged"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class RunSummary:
    """One run as a line of the list."""

    folder: Path
    experiment: str
    model: str
    state: State
    said: str
    """The first headline of a finished run, or why one failed."""
    n_bytes: int
    changed: datetime

    @property
    def age(self) -> timedelta:
        """Time since run.json was last written."""
        return datetime.now(UTC) - self.changed

    @property
    def report(self) -> Path | None:
        """The run's report, if it has one."""
        path = self.folder / "report.html"
        return path if path.is_file() else None


def list_runs(
    out: Path,
    *,
    experiment: str | None = None,
    model: str | None = None,
    state: State | None = None,
    limit: int | None = None,
) -> list[RunSummary]:
    """Returns the runs under a folder, newest first, at most `limit` of those that pass the filters.

    Raises ArgumentError when there is no such folder, or nothing in it of that experiment or model.
    """
    if not out.is_dir():
        raise ArgumentError(f"There is no folder {out}: name the one that holds the runs with --out.")
    experiment = experiment and experiment.replace("-", "_")
    _check_name("experiment", experiment, {folder.name for folder in _subfolders(out, None)})
    _check_name(
        "model", model, {folder.name for one in _subfolders(out, experiment) for folder in _subfolders(one, None)}
    )
    found: list[RunSummary] = []
    for changed, folder in sorted(_folders(out, experiment, model), reverse=True):
        if limit is not None and len(found) == limit:
            break
        summary = _summary(folder, changed)
        if summary is not None and state in (None, summary.state):
            found.append(summary)
    return found


def _check_name(what: str, name: str | None, known: set[str]) -> None:
    if name is not None and name not in known:
        raise ArgumentError(f"No run here has the {what} {name}.{did_you_mean(name, sorted(known))}")


def _folders(out: Path, experiment: str | None, model: str | None) -> Iterator[tuple[float, Path]]:
    """Folders <experiment>/<model>/<hash> that hold a run.json, each with the time at which that was written."""
    for by_experiment in _subfolders(out, experiment):
        for by_model in _subfolders(by_experiment, model):
            for run in _subfolders(by_model, None):
                try:
                    yield (run / "run.json").stat().st_mtime, run
                except OSError:
                    continue


def _subfolders(folder: Path, name: str | None) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if name in (None, entry.name) and entry.is_dir()]
    except OSError:
        return []


def _summary(folder: Path, changed: float) -> RunSummary | None:
    """One run; None where run.json is another tool's."""
    from interp.experiments.store import folder_bytes, read_description  # reads pandas, which help does not need

    when = datetime.fromtimestamp(changed, UTC)
    names = (folder.parent.parent.name, folder.parent.name)
    try:
        description = read_description(folder)
    except RunError as error:
        return RunSummary(folder, *names, "damaged", str(error), folder_bytes(folder), when)
    if not isinstance(description.get("experiment"), str):
        return None
    state = state_of(folder, str(description.get("status")))
    said = _headline(description) if state == "done" else str(description.get("error") or "")
    n_bytes = description.get("n_bytes") if state == "done" else None
    return RunSummary(folder, *names, state, said, n_bytes if isinstance(n_bytes, int) else folder_bytes(folder), when)


def state_of(folder: Path, status: str) -> State:
    """Returns the state of a run, from the status in its run.json and whether a process holds its folder."""
    from interp.experiments.store import is_locked

    if status == "running":
        return "under way" if is_locked(folder) else "interrupted"
    known: dict[str, State] = {state: state for state in STATES}
    return known.get(status, "damaged")


def _headline(description: dict[str, Any]) -> str:
    headlines = description.get("headlines")
    return str(headlines[0]) if isinstance(headlines, list) and headlines else ""


def render_listing(runs: Sequence[RunSummary], out: Path) -> str:
    """Returns a page with a sortable, searchable table that links to every run's report."""
    from interp.experiments.page import render

    return render("listing.html", title=f"Runs under {out}", runs=runs, out=out, states=STATES, in_bytes=bytes_in_words)


def bytes_in_words(n_bytes: int) -> str:
    """Returns a size for people: 812 B, 3.4 MB."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def age_in_words(age: timedelta) -> str:
    """Returns the largest unit of a duration: 40 s, 12 min, 3 h, 5 d."""
    seconds = max(age.total_seconds(), 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def shortened(text: str, n_characters: int = 110) -> str:
    """Returns the first line of a text, cut at a word."""
    from textwrap import shorten

    return shorten(text.partition("\n")[0], n_characters, placeholder=" …")
