"""Do cheap scores find the tokens that rollouts confirm? Ranking quality over all tokens of the analysed trajectories."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray as Nd
from scipy.stats import rankdata

from interp.statistics import Estimate, bounded, cluster_weights, percentile_interval
from interp.tables import Tables

DRAWS = 500


class Quality(NamedTuple):
    """How well a score ranks: NaN where there is nothing to find or nothing else."""

    auroc: float
    average_precision: float
    top1_hit: float


def auroc(score: Float[Nd, " token"], positive: Bool[Nd, " token"]) -> float:
    """Returns the chance that a positive token scores above another one, ties counted half; NaN without both kinds."""
    n, others = int(positive.sum()), int((~positive).sum())
    if not n or not others:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * others))


def average_precision(score: Float[Nd, " token"], positive: Bool[Nd, " token"]) -> float:
    """Returns the mean precision at every positive token, best score first; tied tokens share one threshold."""
    if not positive.any():
        return float("nan")
    thresholds = np.unique(score)[::-1]
    taken = score[None] >= thresholds[:, None]
    hits = (taken & positive).sum(axis=1)
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / taken.sum(axis=1)).sum() / positive.sum())


def top1_hits(score: Float[Nd, " token"], positive: Bool[Nd, " token"], trajectory: Nd) -> Mapping[str, float]:
    """Returns for each trajectory with a positive token the share of its best-scored tokens (ties) that are positive."""
    found = {}
    for name in dict.fromkeys(trajectory):
        own = trajectory == name
        if positive[own].any():
            best = score[own] == score[own].max()
            found[str(name)] = float(positive[own][best].mean())
    return found


def summarise_agreement(measured: Tables, critical: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `agreement`: every score against the confirmed cliffs; bootstrap intervals resample trajectories.

    1 − p has a start: the bound lets only tokens with a large 1 − p be cliffs. Empty where no cliff was confirmed.
    """
    spines = measured["spines"]
    cliffs = critical[critical["definition"] == "cliff"]
    if not len(cliffs) or not len(spines):
        return pd.DataFrame()
    keys = ["trajectory_id", "position"]
    table = spines.merge(cliffs[keys].assign(positive=True), on=keys, how="left")
    table = table.merge(measured["contrastive"].drop(columns="model"), on=keys, how="left")
    positive = table["positive"].notna().to_numpy()
    scores = {
        "surprisal": table["surprisal_nats"].to_numpy(),
        "entropy": table["entropy_nats"].to_numpy(),
        "1 - p": 1 - table["p"].to_numpy(),
        "position": table["position"].to_numpy(dtype=float),
        "random": np.random.default_rng([seed, 5]).random(len(table)),
    }
    if table["score"].notna().all():
        scores = {"contrastive": 1 - table["score"].to_numpy()} | scores
    names = table["trajectory_id"].to_numpy()
    return pd.DataFrame(
        [_row(name, score, positive, names, str(table["model"].iloc[0]), seed) for name, score in scores.items()]
    )


def _row(
    name: str, score: Float[Nd, " token"], positive: Bool[Nd, " token"], trajectory: Nd, model: str, seed: int
) -> dict[str, object]:
    hits = top1_hits(score, positive, trajectory)
    ids = list(dict.fromkeys(trajectory))
    places = [np.flatnonzero(trajectory == id) for id in ids]
    drawn = []
    for weights in cluster_weights(len(ids), DRAWS, seed) if len(ids) > 1 else ():
        rows = np.concatenate([np.repeat(place, int(times)) for place, times in zip(places, weights, strict=True)])
        top = [(hits[id], times) for id, times in zip(ids, weights, strict=True) if id in hits and times]
        drawn.append(
            Quality(
                auroc(score[rows], positive[rows]),
                average_precision(score[rows], positive[rows]),
                float(np.average([h for h, _ in top], weights=[w for _, w in top])) if top else float("nan"),
            )
        )
    low, high = percentile_interval(np.array(drawn)) if drawn else np.full((2, 3), np.nan)
    if len(hits) < 2:  # one trajectory with a cliff: its hit has no spread
        low[2] = high[2] = np.nan
    found = Quality(auroc(score, positive), average_precision(score, positive), float(np.mean(list(hits.values()))))
    area, precision, top1 = (
        bounded(Estimate(float(value), float(low[index]), float(high[index]), n))
        for index, (value, n) in enumerate(zip(found, (len(ids), len(ids), len(hits)), strict=True))
    )
    return {
        "model": model,
        "score": name,
        "auroc": area.value,
        "auroc_ci_low": area.ci_low,
        "auroc_ci_high": area.ci_high,
        "average_precision": precision.value,
        "average_precision_ci_low": precision.ci_low,
        "average_precision_ci_high": precision.ci_high,
        "top1_hit": top1.value,
        "top1_ci_low": top1.ci_low,
        "top1_ci_high": top1.ci_high,
        "n_trajectories": len(hits),
        "n_positive": int(positive.sum()),
        "n_tokens": len(score),
    }
