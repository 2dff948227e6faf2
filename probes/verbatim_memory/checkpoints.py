"""Repeat surprisal over training: the cells of a sweep over checkpoints, in the order of their steps."""

import re

import pandas as pd

PREFIX = "revision "
_COLUMNS = [
    "model",
    "revision",
    "step",
    "pool",
    "list_length",
    "intervening_tokens",
    "condition",
    "estimator",
    "value",
    "ci_low",
    "ci_high",
    "n_base_lists",
]


def summarise_checkpoints(repeat_surprisal: pd.DataFrame) -> pd.DataFrame:
    """Returns `checkpoints`: every raw estimate of every checkpoint, by training step where the names have one."""
    swept = repeat_surprisal["variant"].str.startswith(PREFIX) & (repeat_surprisal["mode"] == "raw")
    rows = repeat_surprisal[swept]
    revisions = rows["variant"].str.removeprefix(PREFIX)
    table = rows.assign(revision=revisions, step=[step_of(name) for name in revisions])[_COLUMNS]
    return table.sort_values("step", kind="stable", ignore_index=True).astype({"step": float})


def step_of(revision: str) -> float:
    """Returns the number after "step" in a checkpoint's name ("step1000": 1000), or NaN when there is none."""
    found = re.search(r"step[-_]?(\d+)", revision)
    return float(found[1]) if found else float("nan")
