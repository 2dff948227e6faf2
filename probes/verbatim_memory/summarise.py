"""From surprisals to repeat surprisal: pure arithmetic on tables.

Armeni et al. 2022: per trial 100 × mean over the second list / mean over the first, the first noun of each left out; then
the median over trials. It is a median of ratios of means, not a ratio of medians. Trials of one base list are rotations of
each other, so intervals resample base lists; the papers resample trials.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.statistics import Array, cluster_weights, percentile_interval

DRAWS = 1000
CELL = [
    "model",
    "variant",
    "pool",
    "list_length",
    "context_type",
    "intervening",
    "intervening_tokens",
    "condition",
    "mode",
]
_TRIAL = ["variant", "pool", "list_length", "trial_id", "mode"]
TRIM_SHARE = 0.1
"""Share of trials left out at each end of the mean of the 2024 measure."""


class TrialRatios(NamedTuple):
    """The estimators of single trials, in per cent."""

    ratio: Array
    first_noun: Array
    all_positions: Array


def trial_ratios(first: Array, second: Array) -> TrialRatios:
    """Returns 100 × mean(second) / mean(first) per trial, from surprisals [trial, position]: without the first noun, of the
    first noun alone, and over all nouns.
    """
    return TrialRatios(
        100 * second[:, 1:].mean(axis=1) / first[:, 1:].mean(axis=1),
        100 * second[:, 0] / first[:, 0],
        100 * second.mean(axis=1) / first.mean(axis=1),
    )


def trimmed_mean(values: Array, share: float = TRIM_SHARE) -> float:
    """Returns the mean without the given share of the values at each end (at least rounded down)."""
    cut = int(share * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())


def drop_2024(first: Array, second: Array) -> float:
    """Returns Armeni et al.'s 2024 measure in per cent: 100 · (1 − second / first) per trial and position, mean over positions,
    20% trimmed mean over trials.
    """
    return trimmed_mean((100 * (1 - second / first)).mean(axis=1))


def over_bases(
    statistic: Callable[[np.ndarray], float], base_lists: np.ndarray, *, seed: int, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Returns a statistic of trial indices over all trials, and its bootstrap interval when base lists are resampled.

    One base list has no interval (NaN).
    """
    whole = statistic(np.arange(len(base_lists)))
    names, index = np.unique(base_lists, return_inverse=True)
    if len(names) < 2:
        return whole, float("nan"), float("nan")
    members = [np.flatnonzero(index == base) for base in range(len(names))]
    drawn = []
    for weights in cluster_weights(len(names), draws, seed).astype(int):
        drawn.append(statistic(np.concatenate([np.tile(members[base], n) for base, n in enumerate(weights) if n])))
    low, high = percentile_interval(drawn)
    return whole, float(low), float(high)


def summarise_repeat_surprisal(surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `repeat_surprisal`: every estimator in every cell; `over_novel` is the ratio against that of novel lists."""
    firsts = surprisals[surprisals["list_index"] == 1]
    seconds = surprisals[surprisals["list_index"] == 2]
    grids = {key: _grid(group) for key, group in firsts.groupby([*_TRIAL[:3], "context_type", "mode"])}
    rows = []
    novel: dict[tuple, tuple[Array, np.ndarray]] = {}
    cells: dict[Any, pd.DataFrame] = dict(iter(seconds.groupby(CELL, sort=False)))
    keys = sorted(cells, key=lambda key: key[CELL.index("condition")] != "novel")  # the others are set against novel
    for key in keys:
        cell: dict[str, Any] = dict(zip(CELL, key, strict=True))
        second = _grid(cells[key])
        preface = "short" if cell["context_type"] == "short" else "intact"
        first = grids[cell["variant"], cell["pool"], cell["list_length"], preface, cell["mode"]].loc[second.index]
        bases = second.index.get_level_values("base_list").to_numpy()
        a, b = first.to_numpy(dtype=float), second.to_numpy(dtype=float)
        ratios = trial_ratios(a, b)
        statistics: dict[str, Callable[[np.ndarray], float]] = {
            **{name: _median_of(values) for name, values in ratios._asdict().items()},
            "drop_2024": lambda trials, a=a, b=b: drop_2024(a[trials], b[trials]),
        }
        same = tuple(value for name, value in cell.items() if name != "condition")
        if cell["condition"] == "novel":
            novel[same] = ratios.ratio, bases
        elif same in novel and len(novel[same][0]) == len(ratios.ratio):
            statistics["over_novel"] = _median_of_quotient(ratios.ratio, novel[same][0])
        for estimator, statistic in statistics.items():
            value, low, high = over_bases(statistic, bases, seed=seed)
            rows.append(
                {
                    **cell,
                    "estimator": estimator,
                    "value": value,
                    "ci_low": low,
                    "ci_high": high,
                    "n_base_lists": len(np.unique(bases)),
                    "n_trials": len(bases),
                }
            )
    return pd.DataFrame(rows)


def _median_of(values: Array) -> Callable[[np.ndarray], float]:
    return lambda trials: float(np.median(values[trials]))


def _median_of_quotient(values: Array, novel: Array) -> Callable[[np.ndarray], float]:
    """Median repeat surprisal over that of novel lists, on the same trials, in per cent."""
    return lambda trials: float(100 * np.median(values[trials]) / np.median(novel[trials]))


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Surprisals with one row per trial, one column per position, trials in order."""
    return rows.pivot(index=["base_list", "trial_id"], columns="position", values="surprisal_nats").sort_index()


def summarise_positions(surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `position_curve`: medians over trials, raw surprisal, of both lists and of the words before the second."""
    raw = surprisals[surprisals["mode"] == "raw"]
    keys = [name for name in CELL if name != "mode"] + ["list_index", "position"]
    rows = []
    for key, group in raw.groupby(keys, sort=False):
        bases = group["base_list"].to_numpy()
        median, low, high = over_bases(
            _median_of(group["surprisal_nats"].to_numpy(dtype=float)), bases, seed=seed, draws=300
        )
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "median_surprisal_nats": median,
                "ci_low": low,
                "ci_high": high,
                "n_base_lists": len(np.unique(bases)),
            }
        )
    return pd.DataFrame(rows)
