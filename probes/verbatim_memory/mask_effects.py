"""What masking does to repeat surprisal: the top of each ranking against random heads of the same layers."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.statistics import Array, Estimate, resampled, weighted_median
from interp.tables import empty
from probes.verbatim_memory.summarise import DRAWS
from probes.verbatim_memory.tables import MaskingSummary

_KEYS = ["head_set", "k", "condition"]


def summarise_masking(masking: pd.DataFrame, surprisals: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `masking_summary` from the tables `masking` and `token_surprisals`.

    Repeat surprisal of a trial under a mask is 100 × mean(list 2) / mean(list 1), first nouns left out; the first list is
    the one read under the mask, or without one where masks act on the second list only. Random sets: the mean over draws
    of each trial, then the median over trials.
    """
    if not len(masking):
        return empty(MaskingSummary)
    ratios = _ratios(masking, surprisals)
    unmasked = ratios[ratios["control"] == "none"]
    rows = [
        _row(str(condition), "none", "none", 0, part, None, seed)
        for condition, part in unmasked.groupby("condition", sort=False)
    ]
    masked: dict[Any, pd.DataFrame] = dict(iter(ratios[ratios["control"] != "none"].groupby(_KEYS, sort=False)))
    for (head_set, k, condition), part in masked.items():
        top, random = part[part["control"] == "top"], part[part["control"] == "random"]
        rows.append(_row(condition, head_set, "top", k, top, random if len(random) else None, seed))
        if len(random):
            rows.append(_row(condition, head_set, "random", k, random, None, seed))
    return pd.DataFrame(rows)


def _ratios(masking: pd.DataFrame, surprisals: pd.DataFrame) -> pd.DataFrame:
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


def _row(
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
