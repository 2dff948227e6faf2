"""Small runs on the device and on the processor: their tables must be the same numbers."""

import dataclasses
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.gpu_check.card import Card
from benchmarks.gpu_check.verdicts import Group, Measured
from interp.experiments.catalogue import find_experiment
from interp.experiments.experiment import Experiment

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Float32 sums in another order, through all layers of a model, differ by less."""
STORED = ("png", "vector")
"""Columns that hold whole pictures and vectors."""


def group(settings: dict[str, dict[str, Any]]) -> Group:
    """Returns a check for every run."""
    checks = {f"tables of {name}": partial(tables, name=name, values=values) for name, values in settings.items()}
    return Group("tables", "the models that ship, float32", _nothing, checks)


def _nothing(card: Card) -> None:
    """A run loads its model itself."""


def tables(subject: None, card: Card, *, name: str, values: dict[str, Any]) -> list[Measured]:
    """Every cell of every table of a run, on the device against the processor."""
    del subject
    experiment = settled(name, values)
    with tempfile.TemporaryDirectory() as folder:
        here = experiment.run(out=Path(folder) / "here", device="cpu").tables
        there = experiment.run(out=Path(folder) / "there", device=str(card.device)).tables
        n_cells, apart, worst = cells_apart(here, there)  # tables are read from their files when they are asked for
    note = f"{n_cells:,} cells compared" + (f"; most in {worst}" if apart else "")
    return [Measured("cells that differ by more than rounding", float(apart), "cells", 0.0, note=note)]


def settled(name: str, values: dict[str, Any]) -> Experiment:
    """Returns the experiment with these settings, in float32."""
    kind = find_experiment(name)
    preset = kind.presets[values["preset"]] if "preset" in values else values
    return dataclasses.replace(kind(), **preset, dtype="float32")


def cells_apart(one: Mapping[str, pd.DataFrame], other: Mapping[str, pd.DataFrame]) -> tuple[int, int, str]:
    """Returns how many cells were compared, how many differ, and the table and column where most do.

    A table of another length, or one that is missing, differs in all its cells.
    """
    n_cells, apart = 0, {}
    for table in sorted({*one, *other}):
        mine, theirs = one.get(table), other.get(table)
        if mine is None or theirs is None or mine.shape != theirs.shape:
            lost = max(frame.size for frame in (mine, theirs) if frame is not None)
            n_cells, apart[table] = n_cells + lost, max(lost, 1)
            continue
        for column in [column for column in mine if column not in STORED]:
            n_cells += len(mine)
            apart[f"{table}.{column}"] = int((~_alike(mine[column], theirs[column])).sum())
    worst = max(apart, key=lambda name: apart[name], default="")
    return n_cells, sum(apart.values()), worst


def _alike(mine: pd.Series, theirs: pd.Series) -> np.ndarray:
    if pd.api.types.is_float_dtype(mine) and pd.api.types.is_float_dtype(theirs):
        return np.isclose(mine.astype(float), theirs.astype(float), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    pairs = zip(mine.tolist(), theirs.tolist(), strict=True)
    return np.array([_same(one, other) for one, other in pairs], dtype=bool)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | list | tuple):
        return np.array_equal(np.asarray(one), np.asarray(other))
    return bool(one == other) or bool(pd.isna(one) and pd.isna(other))
