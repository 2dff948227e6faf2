"""The table of the census: one row for each family, kept as csv; a run of some families replaces their rows alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import transformers

from benchmarks.census.one import Row
from interp.models.check.verdicts import WAYS_OUT

FAULTS = ("traceback", "crash", "hangs")


def merge(rows: Sequence[Row], folder: Path) -> pd.DataFrame:
    """Returns the stored table with these rows in it."""
    found = pd.DataFrame([_flat(row) for row in rows])
    path = folder / "census.csv"
    if path.exists():
        stored = pd.read_csv(path, keep_default_na=False)
        found = pd.concat([stored[~stored["family"].isin(found["family"])], found])
    return found.sort_values("family").reset_index(drop=True)


def _flat(row: Row) -> dict[str, object]:
    fields = dataclasses.asdict(row)
    verdicts = fields.pop("verdicts")
    fields["seconds"] = round(row.seconds, 1)
    return {**fields, **{name: verdicts.get(name, "") if verdicts else "not tried" for name in WAYS_OUT}}


def write(table: pd.DataFrame, folder: Path) -> None:
    """Writes the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "census.csv", index=False)
    (folder / "version.txt").write_text(f"{transformers.__version__}\n", encoding="utf-8")


def summary(table: pd.DataFrame) -> str:
    """Returns how many rows ended in each way."""
    return ", ".join(f"{n} {outcome}" for outcome, n in table["outcome"].value_counts().items())
