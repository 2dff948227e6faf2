"""Several runs side by side: training regimes, encoders, models."""

from collections.abc import Mapping

import pandas as pd

from interp.errors import ArgumentError
from interp.tables import Tables

CELL = ["question", "quantity", "group", "level", "encoder"]


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `rates` of all runs, the quantities that any two of them have; runs are given by label, the column `run`.

    Raises ArgumentError when no two have one in common.
    """
    columns = ["run", "model", *CELL, "estimate", "ci_low", "ci_high", "n"]
    frames = [tables["rates"].assign(run=run)[columns] for run, tables in runs.items()]
    together = pd.concat(frames, ignore_index=True)
    shared = together.groupby(CELL)["run"].transform("nunique") >= min(2, len(runs))
    if not shared.any():
        raise ArgumentError("These runs measured nothing in common: give them the same --parts.")
    return {"rates": together[shared].reset_index(drop=True)}
