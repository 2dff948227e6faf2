"""How cost grows with size: the exponent of a power law, fitted to what was measured."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def fitted_exponent(sizes: ArrayLike, costs: ArrayLike) -> float:
    """Returns b of cost = a · size^b: the least-squares slope of log cost on log size.

    1 is a cost in proportion to size, 2 one that is four times as much for twice the size.
    Raises ValueError for fewer than two sizes.
    """
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(costs, dtype=float))
    if len(np.unique(x)) < 2:
        raise ValueError("a slope needs two sizes")
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def summarise(growth: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each size of each curve: median, lowest and highest processor seconds, and median peak memory."""
    return (
        growth.groupby(["benchmark", "curve", "size"], sort=False)
        .agg(
            seconds=("processor_seconds", "median"),
            seconds_low=("processor_seconds", "min"),
            seconds_high=("processor_seconds", "max"),
            peak_mb=("peak_mb", "median"),
            n=("processor_seconds", "size"),
        )
        .reset_index()
    )


def exponents(growth: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each curve: the exponent fitted to the medians over repetitions of processor seconds.

    `exponent_low` and `exponent_high` are the lowest and highest of the exponents fitted to each repetition alone;
    `exponent_last` is the slope between the two largest sizes, which what costs the same at any size flattens least.
    """
    rows = []
    for (benchmark, curve), part in growth.groupby(["benchmark", "curve"], sort=False):
        medians = part.groupby("size")["processor_seconds"].median()
        alone = [fitted_exponent(one["size"], one["processor_seconds"]) for _, one in part.groupby("repetition")]
        last = medians.tail(2)
        rows.append(
            {
                "benchmark": benchmark,
                "curve": curve,
                "exponent": fitted_exponent(medians.index, medians),
                "exponent_low": min(alone),
                "exponent_high": max(alone),
                "exponent_last": fitted_exponent(last.index, last),
            }
        )
    return pd.DataFrame(rows)
