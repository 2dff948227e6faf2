"""Several runs side by side: transformers of several depths, recurrent models, precisions."""

from collections.abc import Mapping

import pandas as pd

from interp.errors import ArgumentError
from interp.tables import Tables


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `repeat_surprisal`: the raw estimates of the models as they are, in the cells that all runs have.

    Runs are given by label, which becomes the column `run`.
    Raises ArgumentError when no cell is in all of them.
    """
    cells = ["pool", "list_length", "context_type", "intervening", "condition", "estimator"]
    frames = []
    for run, tables in runs.items():
        table = tables["repeat_surprisal"]
        table = table[(table["variant"] == "none") & (table["mode"] == "raw")]
        frames.append(table.assign(run=run)[["run", "model", *cells, "value", "ci_low", "ci_high", "n_base_lists"]])
    together = pd.concat(frames, ignore_index=True)
    in_all = together.groupby(cells)["run"].transform("nunique") == len(runs)
    if not in_all.any():
        raise ArgumentError(
            "These runs have no list length, text and condition in common: give them the same settings."
        )
    return {"repeat_surprisal": together[in_all].reset_index(drop=True)}
