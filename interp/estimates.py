"""Estimates by group: one statistic for every group of a table's rows, with an interval that resamples whole clusters."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.statistics import (
    Array,
    Estimate,
    bounded,
    mean_estimate,
    paired_difference,
    resampled,
    share_difference,
    share_estimate,
    weighted_median,
)

Statistic = Callable[[pd.DataFrame, Array], Array]
"""Takes the rows of a group and how often each counts, [draw, row]; returns one number per draw."""
Kind = Literal["mean", "share", "median", "correlation"]
_UNLIMITED = (-np.inf, np.inf)
ESTIMATE: dict[str, type] = {"value": float, "ci_low": float, "ci_high": float, "n": int, "n_rows": int}
"""The columns of estimates, as `interp.tables.schema_of` takes them: n counts clusters."""


def estimates(
    frame: pd.DataFrame,
    by: Sequence[str],
    value: str | Statistic,
    over: str,
    *,
    kind: Kind = "mean",
    minus: str | None = None,
    name: str | None = None,
    limits: tuple[float, float] = _UNLIMITED,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns `by`, value, ci_low, ci_high, n (clusters) and n_rows of every group, groups in the order of their first rows;
    rows that lack a value of `by` are a group too.

    With a name the columns are name, name_ci_low and name_ci_high, for tables that have several estimates `beside` each other.
    `value` is a column or a statistic of the rows; `minus` a column that is paired with it, row by row: the difference is
    estimated. `over` names the cluster of each row, which is resampled as a whole. Kind "share": of numbers between 0 and 1,
    whose interval has a width also at none and all (`interp.statistics.bounded`). Kind "correlation": of a statistic
    from −1 to 1, which has no interval where all draws agree. `limits` are what the number can be at least and at most, for kinds
    other than these: an interval goes no further.
    """
    if kind == "correlation":
        limits = (-1.0, 1.0)
    rows = [
        (*key, *_within(_estimate(rows, value, rows[over], kind, minus, draws, seed), limits), len(rows))
        for key, rows in frame.groupby(list(by), sort=False, dropna=False)
    ]
    own = ("value", "ci_low", "ci_high") if name is None else (name, f"{name}_ci_low", f"{name}_ci_high")
    found = pd.DataFrame(rows, columns=[*by, *own, "n", "n_rows"])
    return found.astype({**frame.dtypes[list(by)], **dict.fromkeys(own, float), "n": int, "n_rows": int})


def _estimate(
    rows: pd.DataFrame,
    value: str | Statistic,
    clusters: pd.Series,
    kind: Kind,
    minus: str | None,
    draws: int,
    seed: int,
) -> Estimate:
    if callable(value):
        estimate = resampled(lambda weights: value(rows, weights), clusters, draws=draws, seed=seed)
        if (
            kind == "correlation" and estimate.ci_high - estimate.ci_low <= 1e-12
        ):  # of three points: no spread, no certainty
            return estimate._replace(ci_low=np.nan, ci_high=np.nan)
        return bounded(_within(estimate, (0.0, 1.0))) if kind == "share" else estimate
    if kind == "median":
        return resampled(lambda weights: _median(rows, value, minus, weights), clusters, draws=draws, seed=seed)
    if minus is None:
        one = share_estimate if kind == "share" else mean_estimate
        return one(rows[value], clusters, draws=draws, seed=seed)
    two = share_difference if kind == "share" else paired_difference
    return two(rows[value], rows[minus], clusters, draws=draws, seed=seed)


def _within(estimate: Estimate, limits: tuple[float, float]) -> Estimate:
    low, high = np.clip([estimate.ci_low, estimate.ci_high], *limits)  # NaN stays
    return estimate._replace(ci_low=float(low), ci_high=float(high))


def _median(rows: pd.DataFrame, value: str, minus: str | None, weights: Array) -> Array:
    """The median of a column in every draw, less the median of another in the same draws."""
    median = weighted_median(rows[value], weights)
    return median if minus is None else median - weighted_median(rows[minus], weights)


def unshown(low: Any, high: Any, null: Any = 0.0) -> str:
    """Returns what a sentence adds to a number whose interval does not exclude the null, in brackets; nothing where it does."""
    if low > null or high < null:
        return ""
    if pd.isna(low) or pd.isna(high):
        return " (not shown: there is no interval)"
    return f" (not shown: the interval contains {null:.3g})"


def beside(by: Sequence[str], first: pd.DataFrame, *others: pd.DataFrame) -> pd.DataFrame:
    """Returns estimates of the same groups in one table, with the groups, n and n_rows of the first; NaN where one lacks a group."""
    for other in others:
        first = first.merge(other.drop(columns=["n", "n_rows"]), on=list(by), how="left")
    return first
