"""The summary tables, from the measured tables alone: estimates with intervals, checkpoints, audits, several runs.

Repeat surprisal is that of Armeni et al. 2022: per trial 100 × mean over the second list / mean over the first, the first
noun of each left out; then the median over trials. It is a median of ratios of means, not a ratio of medians. Trials of one
base list are rotations of each other, so intervals resample base lists; the papers resample trials.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.estimates import beside, estimates
from interp.statistics import Array, weighted_median, weighted_trimmed_mean
from interp.tables import Tables, empty
from probes.verbatim_memory.lists import surviving_pairs
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.tables import MaskingSummary
from probes.verbatim_memory.trials import TrialRatios, drops_2024, read_texts, trial_ratios

DRAWS = 1000
CELL = [
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
    trials = _trials(surprisals)
    same = [*(name for name in CELL if name != "condition"), "base_list", "trial_id"]
    is_novel = trials["condition"] == "novel"
    novel = trials.loc[is_novel, [*same, "ratio"]].rename(columns={"ratio": "novel"})
    trials = trials.merge(novel, on=same, how="left")
    trials["over_novel"] = trials["ratio"].where(trials["novel"].notna() & ~is_novel)
    names = [*TrialRatios._fields, "drop_2024", "over_novel"]
    rows = trials.melt([*CELL, "base_list", "novel"], names, "estimator", "percent", ignore_index=False)
    rows = rows[rows["percent"].notna() | (rows["estimator"] != "over_novel")].sort_index(kind="stable")
    found = estimates(rows, [*CELL, "estimator"], _over_trials, over="base_list", draws=DRAWS, seed=seed)
    return found.rename(columns={"n": "n_base_lists", "n_rows": "n_trials"})


def _trials(surprisals: pd.DataFrame) -> pd.DataFrame:
    """One row per trial of a cell with its scores, the cells of novel lists first: the others are set against them."""
    firsts = surprisals[surprisals["list_index"] == 1]
    seconds = surprisals[surprisals["list_index"] == 2]
    grids = {
        key: _grid(group) for key, group in firsts.groupby(["variant", "pool", "list_length", "context_type", "mode"])
    }
    frames = []
    for key, rows in seconds.groupby(CELL, sort=False):
        cell: dict[str, Any] = dict(zip(CELL, key, strict=True))
        second = _grid(rows)
        preface = "short" if cell["context_type"] == "short" else "intact"
        first = grids[cell["variant"], cell["pool"], cell["list_length"], preface, cell["mode"]].loc[second.index]
        a, b = first.to_numpy(dtype=float), second.to_numpy(dtype=float)
        scores = {**trial_ratios(a, b)._asdict(), "drop_2024": drops_2024(a, b)}
        frames.append(second.index.to_frame(index=False).assign(**cell, **scores))
    trials = pd.concat(frames, ignore_index=True)
    return trials.sort_values("condition", key=lambda names: names != "novel", kind="stable", ignore_index=True)


def _over_trials(rows: pd.DataFrame, weights: Array) -> Array:
    """An estimator over trials, in every draw: medians; over novel lists, on the same trials, a quotient of two."""
    estimator, values = rows["estimator"].iloc[0], rows["percent"]
    if estimator == "drop_2024":
        return weighted_trimmed_mean(values, weights, share=TRIM_SHARE)
    median = weighted_median(values, weights)
    return 100 * median / weighted_median(rows["novel"], weights) if estimator == "over_novel" else median


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Surprisals with one row per trial, one column per position, trials in order."""
    return rows.pivot(index=["base_list", "trial_id"], columns="position", values="surprisal_nats").sort_index()


def summarise_positions(surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `position_curve`: medians over trials, raw surprisal, of both lists and of the words before the second."""
    raw = surprisals[surprisals["mode"] == "raw"]
    keys = [name for name in CELL if name != "mode"] + ["list_index", "position"]
    found = estimates(raw, keys, "surprisal_nats", over="base_list", kind="median", draws=DRAWS, seed=seed)
    found = found.rename(columns={"value": "median_surprisal_nats", "n": "n_base_lists"})
    return found.drop(columns="n_rows")


# ---------------------------------------------------------------------- silent heads


def summarise_masking(masking: pd.DataFrame, surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `masking_summary` from the tables `masking` and `token_surprisals`.

    Repeat surprisal of a trial under a mask is 100 × mean(list 2) / mean(list 1), first nouns left out; the first list is
    the one read under the mask, or without one where masks act on the second list only. Random sets: the mean over draws
    of each trial, then the median over trials.
    """
    if not len(masking):
        return empty(MaskingSummary)
    by = ["head_set", "control", "k", "condition"]
    same = ["head_set", "k", "condition", "base_list", "trial_id"]
    ratios = mask_ratios(masking, surprisals)
    trials = ratios.groupby([*by, "base_list", "trial_id"], sort=False)["ratio"].mean().reset_index()
    random = trials.loc[trials["control"] == "random", [*same, "ratio"]].rename(columns={"ratio": "random"})
    top = trials[trials["control"] == "top"].merge(random, on=same)
    median = partial(estimates, by=by, value="ratio", over="base_list", kind="median", draws=DRAWS, seed=seed)
    table = beside(by, median(trials), median(top, minus="random", name="beyond_random"))
    table = table.join(ratios.groupby(by)["draw"].nunique().rename("n_draws"), on=by)
    held_against = table.groupby(same[:3], sort=False).ngroup().sort_values(kind="stable")  # top, then its random heads
    table = table.loc[held_against.index].reset_index(drop=True)
    return table.rename(columns={"n": "n_base_lists"}).drop(columns="n_rows")


def mask_ratios(masking: pd.DataFrame, surprisals: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per mask and trial, with its repeat surprisal in per cent (`ratio`)."""
    keys = ["head_set", "control", "k", "draw", "condition", "list_length", "trial_id", "base_list"]
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


# ---------------------------------------------------------------------- checkpoints and runs side by side


def summarise_checkpoints(repeat_surprisal: pd.DataFrame) -> pd.DataFrame:
    """Returns `checkpoints`: every raw estimate of every checkpoint, by training step where the names have one."""
    swept = repeat_surprisal["variant"].str.startswith(REVISION) & (repeat_surprisal["mode"] == "raw")
    rows = repeat_surprisal[swept]
    revisions = rows["variant"].str.removeprefix(REVISION)
    cells = ["pool", "list_length", "intervening_tokens", "condition", "estimator"]
    table = rows.assign(revision=revisions, step=[step_of(name) for name in revisions])
    table = table[["revision", "step", *cells, "value", "ci_low", "ci_high", "n_base_lists"]]
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
    columns = ["context_type", "intervening", "intervening_tokens"]
    cells = surprisals.loc[surprisals["list_index"] == 2, columns].drop_duplicates(["context_type", "intervening"])
    wanted = zip(cells["context_type"], cells["intervening"], strict=True)
    return cells.assign(text=[texts.between(context, int(n), settings.seed) for context, n in wanted])
