"""The summary tables, from the measured tables alone: estimates with intervals, checkpoints, audits, several runs.

Repeat surprisal is that of Armeni et al. 2022: per trial 100 × mean over the second list / mean over the first, the first
noun of each left out; then the median over trials. It is a median of ratios of means, not a ratio of medians. Trials of one
base list are rotations of each other, so intervals resample base lists; the papers resample trials.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.statistics import Array, Estimate, resampled, weighted_median, weighted_trimmed_mean
from interp.tables import Tables, empty
from probes.verbatim_memory.lists import surviving_pairs
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.tables import MaskingSummary
from probes.verbatim_memory.trials import drops_2024, read_texts, trial_ratios

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
TRIM_SHARE = 0.1
"""Share of trials left out at each end of the mean of the 2024 measure."""
REVISION = "revision "
"""What the variant of a checkpoint begins with."""


def summarise_repeat_surprisal(surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `repeat_surprisal`: every estimator in every cell; `over_novel` is the ratio against that of novel lists."""
    firsts = surprisals[surprisals["list_index"] == 1]
    seconds = surprisals[surprisals["list_index"] == 2]
    grids = {
        key: _grid(group) for key, group in firsts.groupby(["variant", "pool", "list_length", "context_type", "mode"])
    }
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


# ---------------------------------------------------------------------- silent heads


def summarise_masking(masking: pd.DataFrame, surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `masking_summary` from the tables `masking` and `token_surprisals`.

    Repeat surprisal of a trial under a mask is 100 × mean(list 2) / mean(list 1), first nouns left out; the first list is
    the one read under the mask, or without one where masks act on the second list only. Random sets: the mean over draws
    of each trial, then the median over trials.
    """
    if not len(masking):
        return empty(MaskingSummary)
    ratios = _mask_ratios(masking, surprisals)
    unmasked = ratios[ratios["control"] == "none"]
    rows = [
        _mask_row(str(condition), "none", "none", 0, part, None, seed)
        for condition, part in unmasked.groupby("condition", sort=False)
    ]
    masked: dict[Any, pd.DataFrame] = dict(
        iter(ratios[ratios["control"] != "none"].groupby(["head_set", "k", "condition"], sort=False))
    )
    for (head_set, k, condition), part in masked.items():
        top, random = part[part["control"] == "top"], part[part["control"] == "random"]
        rows.append(_mask_row(condition, head_set, "top", k, top, random if len(random) else None, seed))
        if len(random):
            rows.append(_mask_row(condition, head_set, "random", k, random, None, seed))
    return pd.DataFrame(rows)


def _mask_ratios(masking: pd.DataFrame, surprisals: pd.DataFrame) -> pd.DataFrame:
    """One row per mask and trial, with its repeat surprisal in per cent."""
    keys = ["model", "head_set", "control", "k", "draw", "condition", "list_length", "trial_id", "base_list"]
    later = masking[masking["position"] > 0]
    means = later.groupby([*keys, "list_index"], sort=False)["surprisal_nats"].mean().unstack("list_index")
    if 1 not in means:
        first = surprisals[
            (surprisals["list_index"] == 1)
            & (surprisals["position"] > 0)
            & (surprisals["variant"] == "none")
            & (surprisals["mode"] == "raw")
            & (surprisals["context_type"] == "intact")
            & (surprisals["pool"] == surprisals["pool"].iloc[0])
        ]
        whole = first.groupby(["list_length", "trial_id"])["surprisal_nats"].mean()
        means[1] = whole.reindex(pd.MultiIndex.from_frame(means.reset_index()[["list_length", "trial_id"]])).to_numpy()
    return (100 * means[2] / means[1]).rename("ratio").reset_index()


def _mask_row(
    condition: str,
    head_set: str,
    control: str,
    k: int,
    rows: pd.DataFrame,
    random: pd.DataFrame | None,
    seed: int,
) -> dict[str, Any]:
    ratios, bases = _per_trial(rows)
    estimate = resampled(partial(weighted_median, ratios), bases, draws=DRAWS, seed=seed)
    beyond = Estimate(float("nan"), float("nan"), float("nan"), 0)
    if random is not None:
        control_ratios, _ = _per_trial(random)
        beyond = resampled(
            lambda weights: weighted_median(ratios, weights) - weighted_median(control_ratios, weights),
            bases,
            draws=DRAWS,
            seed=seed,
        )
    return {
        "model": rows["model"].iloc[0],
        "head_set": head_set,
        "control": control,
        "k": k,
        "condition": condition,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "beyond_random": beyond.value,
        "beyond_random_ci_low": beyond.ci_low,
        "beyond_random_ci_high": beyond.ci_high,
        "n_base_lists": estimate.n,
        "n_draws": int(rows["draw"].nunique()),
    }


def _per_trial(rows: pd.DataFrame) -> tuple[Array, np.ndarray]:
    """The mean over draws of each trial, trials in order, and the base list of each."""
    means = rows.groupby(["base_list", "trial_id"])["ratio"].mean()
    return means.to_numpy(dtype=float), means.index.get_level_values("base_list").to_numpy()


# ---------------------------------------------------------------------- checkpoints and runs side by side


def summarise_checkpoints(repeat_surprisal: pd.DataFrame) -> pd.DataFrame:
    """Returns `checkpoints`: every raw estimate of every checkpoint, by training step where the names have one."""
    swept = repeat_surprisal["variant"].str.startswith(REVISION) & (repeat_surprisal["mode"] == "raw")
    rows = repeat_surprisal[swept]
    revisions = rows["variant"].str.removeprefix(REVISION)
    cells = ["pool", "list_length", "intervening_tokens", "condition", "estimator"]
    table = rows.assign(revision=revisions, step=[step_of(name) for name in revisions])
    table = table[["model", "revision", "step", *cells, "value", "ci_low", "ci_high", "n_base_lists"]]
    return table.sort_values("step", kind="stable", ignore_index=True).astype({"step": float})


def step_of(revision: str) -> float:
    """Returns the number after "step" in a checkpoint's name ("step1000": 1000), or NaN when there is none."""
    found = re.search(r"step[-_]?(\d+)", revision)
    return float(found[1]) if found else float("nan")


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


# ---------------------------------------------------------------------- what the stimuli are like


def audit_lists(surprisals: pd.DataFrame) -> pd.DataFrame:
    """Returns `stimulus_audit`: one row per pool, length and condition, from the shortest cell that has them."""
    raw = surprisals[(surprisals["mode"] == "raw") & (surprisals["variant"] == "none")]
    rows = []
    cells: dict[Any, pd.DataFrame] = dict(iter(raw.groupby(["pool", "list_length"], sort=False)))
    for (pool, length), group in cells.items():
        first = _lists(group[group["condition"] == "first"])
        for condition, part in group[group["list_index"] == 2].groupby("condition", sort=False):
            second = _lists(part).loc[first.index]
            pairs = list(zip(first["noun"], second["noun"], strict=True))
            n_pairs = len(pairs) * (int(length) - 1)
            tokens = np.array([len(ids) for lists in second["token_ids"] for ids in lists])
            rows.append(
                {
                    "model": group["model"].iloc[0],
                    "pool": pool,
                    "list_length": length,
                    "condition": condition,
                    "n_trials": len(pairs),
                    "n_base_lists": part["base_list"].nunique(),
                    "shared_nouns_share": sum(len(set(a) & set(b)) for a, b in pairs) / (len(pairs) * int(length)),
                    "same_position_share": sum(x == y for a, b in pairs for x, y in zip(a, b, strict=True))
                    / (len(pairs) * int(length)),
                    "surviving_pairs_share": sum(surviving_pairs(a, b) for a, b in pairs) / n_pairs,
                    "tokens_per_noun": float(tokens.mean()),
                    "multi_token_share": float((tokens > 1).mean()),
                }
            )
    return pd.DataFrame(rows)


def _lists(rows: pd.DataFrame) -> pd.DataFrame:
    """The nouns and their tokens as one list per trial."""
    one_cell = rows.drop_duplicates(["trial_id", "position"]).sort_values(["trial_id", "position"])
    return one_cell.groupby("trial_id")[["noun", "token_ids"]].agg(list)


def audit_texts(surprisals: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Returns `intervening_audit`: every text between the lists, with its length in tokens."""
    texts = read_texts(settings.texts)
    columns = ["model", "context_type", "intervening", "intervening_tokens"]
    cells = surprisals.loc[surprisals["list_index"] == 2, columns].drop_duplicates(["context_type", "intervening"])
    wanted = zip(cells["context_type"], cells["intervening"], strict=True)
    return cells.assign(text=[texts.between(context, int(n), settings.seed) for context, n in wanted])
