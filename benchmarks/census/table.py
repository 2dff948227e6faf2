"""The table of the census: one row for each family, kept as csv; a run of some families replaces their rows alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import transformers

from benchmarks.census.one import Row
from benchmarks.census.runs import SETTINGS
from interp.models.check.verdicts import WAYS_OUT

FAULTS = ("traceback", "crash", "hangs")
NOT_TRIED = "not tried"


def merge(rows: Sequence[Row], folder: Path) -> pd.DataFrame:
    """Returns the stored table with these rows in it."""
    found = pd.DataFrame([_flat(row) for row in rows])
    path = folder / "census.csv"
    if path.exists():
        stored = pd.read_csv(path, keep_default_na=False)
        stored = stored.reindex(columns=found.columns, fill_value=NOT_TRIED)
        found = pd.concat([stored[~stored["family"].isin(found["family"])], found])
    return found.sort_values("family").reset_index(drop=True)


def _flat(row: Row) -> dict[str, object]:
    fields = dataclasses.asdict(row)
    verdicts, runs = fields.pop("verdicts"), fields.pop("runs")
    fields["seconds"] = round(row.seconds, 1)
    checked = {name: verdicts.get(name, "") if verdicts else NOT_TRIED for name in WAYS_OUT}
    return {**fields, **checked, **{name: runs.get(name, NOT_TRIED) for name in SETTINGS}}


def is_fault(row: Row) -> bool:
    """Whether a family ended in an error that is no sentence of the toolkit, or one of its runs in a number that cannot be."""
    return row.outcome in FAULTS or any(end.startswith(("fault", "wrong")) for end in row.runs.values())


def write(table: pd.DataFrame, folder: Path) -> None:
    """Writes the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "census.csv", index=False)
    (folder / "version.txt").write_text(f"{transformers.__version__}\n", encoding="utf-8")


def summary(table: pd.DataFrame) -> str:
    """Returns how many rows ended in each way."""
    return ", ".join(f"{n} {outcome}" for outcome, n in table["outcome"].value_counts().items())
