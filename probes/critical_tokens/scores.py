"""Scores: pass@k of rollouts, and how well a cheap score of tokens ranks those that rollouts confirm."""

from collections.abc import Mapping
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Nd
from scipy.stats import rankdata

from interp.statistics import Estimate, bounded, cluster_weights, percentile_interval

DRAWS = 500


def pass_at_k(right: int, n: int, k: int) -> float:
    """Returns the chance that at least one of k rollouts is right, without bias from n: 1 − C(n − right, k) / C(n, k).

    Chen et al. 2021, Evaluating Large Language Models Trained on Code, equation 1.
    Raises ValueError unless 0 <= right <= n and 1 <= k <= n.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} cannot be told from {right} right of {n} rollouts")
    return 1 - comb(n - right, k) / comb(n, k)


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


def agreement_row(
    name: str, score: Float[Nd, " token"], positive: Bool[Nd, " token"], trajectory: Nd, seed: int
) -> dict[str, object]:
    """Returns a row of `agreement`: a score against the confirmed tokens; bootstrap intervals resample trajectories."""
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
        "score": name,
        **area.columns("auroc"),
        **precision.columns("average_precision"),
        "top1_hit": top1.value,
        "top1_ci_low": top1.ci_low,
        "top1_ci_high": top1.ci_high,
        "n_trajectories": len(hits),
        "n_positive": int(positive.sum()),
        "n_tokens": len(score),
    }
