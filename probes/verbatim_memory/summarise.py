"""From surprisals to repeat surprisal: pure arithmetic on tables.

Armeni et al. 2022: per trial 100 × mean over the second list / mean over the first, the first noun of each left out; then
the median over trials. It is a median of ratios of means, not a ratio of medians. Trials of one base list are rotations of
each other, so intervals resample base lists; the papers resample trials.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.statistics import Array, resampled, weighted_median, weighted_trimmed_mean

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


def drops_2024(first: Array, second: Array) -> Array:
    """Returns Armeni et al.'s 2024 measure of single trials in per cent: 100 · (1 − second / first), mean over positions.

    They take its 20% trimmed mean over trials, a tenth left out at each end.
    """
    return (100 * (1 - second / first)).mean(axis=1)


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
        statistics: dict[str, Callable[[Array], Array]] = {
            **{name: partial(weighted_median, values) for name, values in ratios._asdict().items()},
            "drop_2024": partial(weighted_trimmed_mean, drops_2024(a, b), share=TRIM_SHARE),
        }
        same = tuple(value for name, value in cell.items() if name != "condition")
        if cell["condition"] == "novel":
            novel[same] = ratios.ratio, bases
        elif same in novel and len(novel[same][0]) == len(ratios.ratio):
            statistics["over_novel"] = partial(_quotient_of_medians, ratios.ratio, novel[same][0])
        for estimator, statistic in statistics.items():
            estimate = resampled(statistic, bases, draws=DRAWS, seed=seed)
            rows.append(
                {
                    **cell,
                    "estimator": estimator,
                    "value": estimate.value,
                    "ci_low": estimate.ci_low,
                    "ci_high": estimate.ci_high,
                    "n_base_lists": estimate.n,
                    "n_trials": len(bases),
                }
            )
    return pd.DataFrame(rows)


def _quotient_of_medians(values: Array, novel: Array, weights: Array) -> Array:
    """Median repeat surprisal over that of novel lists, on the same trials, in per cent."""
    return 100 * weighted_median(values, weights) / weighted_median(novel, weights)


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Surprisals with one row per trial, one column per position, trials in order."""
    return rows.pivot(index=["base_list", "trial_id"], columns="position", values="surprisal_nats").sort_index()


def summarise_positions(surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `position_curve`: medians over trials, raw surprisal, of both lists and of the words before the second."""
    raw = surprisals[surprisals["mode"] == "raw"]
    keys = [name for name in CELL if name != "mode"] + ["list_index", "position"]
    rows = []
    for key, group in raw.groupby(keys, sort=False):
        nats = group["surprisal_nats"].to_numpy(dtype=float)
        estimate = resampled(partial(weighted_median, nats), group["base_list"], draws=DRAWS, seed=seed)
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "median_surprisal_nats": estimate.value,
                "ci_low": estimate.ci_low,
                "ci_high": estimate.ci_high,
                "n_base_lists": estimate.n,
            }
        )
    return pd.DataFrame(rows)
