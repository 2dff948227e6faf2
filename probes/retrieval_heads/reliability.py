"""How far head scores can be trusted: over halves of the needles, over more and more of them, resampled, and between detectors."""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from interp.statistics import (
    Array,
    Estimate,
    bounded,
    cluster_weights,
    pearson,
    percentile_interval,
    spearman,
    top_overlap,
)
from interp.tables import Tables
from probes.retrieval_heads.rankings import NeedleTotals, detection_totals

SPLITS = 200
DRAWS = 500
SCORING = 0.01
"""Heads below this over all needles are mostly tied at zero."""
FIRST_NEEDLES = 4
STEP_NEEDLES = 4


def summarise_reliability(totals: Mapping[str, NeedleTotals], seed: int) -> pd.DataFrame:
    """Returns `reliability`: over random splits of the needles into disjoint halves, how well their head scores agree."""
    rows = []
    for definition, total in totals.items():
        n = len(total.needle_ids)
        scoring = total.means() >= SCORING
        generator = np.random.default_rng([seed, 1])
        for split in range(SPLITS if n >= 2 else 0):
            half = np.zeros(n)
            half[generator.permutation(n)[: n // 2]] = 1
            a, b = total.means(half), total.means(1 - half)
            rows.append(
                {
                    "definition": definition,
                    "split": split,
                    "n_needles_half": n // 2,
                    "pearson": pearson(a, b),
                    "spearman": spearman(a, b),
                    "spearman_scoring": spearman(a[scoring], b[scoring]) if scoring.sum() > 2 else np.nan,
                    "n_scoring_heads": int(scoring.sum()),
                    "top10_overlap": top_overlap(a, b, min(10, len(a))),
                }
            )
    return pd.DataFrame(rows)


def summarise_convergence(totals: Mapping[str, NeedleTotals], k: int, seed: int) -> pd.DataFrame:
    """Returns `convergence`: scores after the first 1, 2, … needles against those after all."""
    rows = []
    for definition, total in totals.items():
        final = total.means()
        k = min(k, len(final))
        for n in range(1, len(total.needle_ids) + 1):
            so_far = (np.arange(len(total.needle_ids)) < n).astype(float)
            now = total.means(so_far)
            rows.append(
                {
                    "definition": definition,
                    "n_needles": n,
                    "n_samples": int(total.counts.iloc[:n].sum()),
                    "k": k,
                    "pearson_with_final": pearson(now, final),
                    "top_k_overlap_with_final": top_overlap(now, final, k),
                    "stability": stability(total, n, k, seed),
                }
            )
    columns = ["n_needles", "n_samples", "k", "pearson_with_final", "top_k_overlap_with_final", "stability"]
    return pd.DataFrame(rows, columns=["definition", *columns])


def stability(total: NeedleTotals, n_needles: int, k: int, seed: int, draws: int = DRAWS) -> float:
    """Returns the share of bootstrap draws over the first n needles that keep at least nine tenths of the top k heads.

    NaN below two needles: nothing can be resampled.
    """
    if n_needles < 2:
        return float("nan")
    k = min(k, len(total.heads))
    weights = np.zeros((draws, len(total.needle_ids)))
    weights[:, :n_needles] = cluster_weights(n_needles, draws, seed)
    so_far = (np.arange(len(total.needle_ids)) < n_needles).astype(float)
    now, drawn = total.means(so_far), total.means(weights)
    return float(np.mean([top_overlap(now, one, k) >= 0.9 for one in drawn]))


def needles_until_stable(
    measured: Tables, order: list[str], definition: str, k: int, confidence: float, only_passed: bool, seed: int
) -> int:
    """Returns how many needles of the order are needed, as far as is known: the next checkpoint that is not yet reached.

    Checkpoints are 4, 8, 12, … needles; at each, detection stops if at least `confidence` of the bootstrap draws over the
    needles so far keep at least nine tenths of the top k. Only the needles before a checkpoint count there, so the answer
    does not depend on how a run was interrupted.
    """
    done = set(measured["samples"]["needle_id"])
    totals = detection_totals(measured, only_passed=only_passed).get(definition)
    checkpoints = math.ceil(max(0, len(order) - FIRST_NEEDLES) / STEP_NEEDLES) + 1
    for step in range(checkpoints):
        needed = min(FIRST_NEEDLES + step * STEP_NEEDLES, len(order))
        if not done.issuperset(order[:needed]):
            return needed
        if totals is not None:
            counted = [id for id in order[:needed] if id in totals.needle_ids]
            if counted == totals.needle_ids[: len(counted)] and stability(totals, len(counted), k, seed) >= confidence:
                return needed
    return len(order)


def summarise_agreement(
    totals: Mapping[str, NeedleTotals], fixed: Mapping[str, Array], *, k: int, seed: int
) -> pd.DataFrame:
    """Returns `agreement` for every pair of detectors.

    `fixed` are scores that do not depend on needles (echo, induction), in layer-major order. Intervals resample needles,
    the same draw for both detectors of a pair; two fixed detectors have none.
    """
    names = [*totals, *fixed]
    ids = list(dict.fromkeys(id for total in totals.values() for id in total.needle_ids))
    draws = cluster_weights(len(ids), DRAWS, seed) if len(ids) > 1 else np.zeros((0, len(ids)))
    rows = []
    for first, second in combinations(names, 2):
        a, b = (_scores(name, totals, fixed) for name in (first, second))
        drawn = zip(*(_drawn(name, totals, fixed, ids, draws) for name in (first, second)), strict=True)
        pairs = [(x, y) for x, y in drawn if np.isfinite(x).all() and np.isfinite(y).all()]
        varies = bool(pairs) and (first in totals or second in totals)
        rho = Estimate(spearman(a, b), *_interval([spearman(x, y) for x, y in pairs], varies), len(ids))
        shared = _interval([top_overlap(x, y, k) for x, y in pairs], varies)
        overlap = bounded(Estimate(top_overlap(a, b, k), *shared, len(ids)))
        rows.append(
            {
                "first": first,
                "second": second,
                "k": k,
                **rho.columns("spearman"),
                **overlap.columns("top_k_overlap"),
                "n_needles": len(ids) if varies else 0,
            }
        )
    return pd.DataFrame(rows)


def _scores(name: str, totals: Mapping[str, NeedleTotals], fixed: Mapping[str, Array]) -> Array:
    return totals[name].means() if name in totals else np.asarray(fixed[name], dtype=float)


def _drawn(
    name: str, totals: Mapping[str, NeedleTotals], fixed: Mapping[str, Array], ids: list[str], draws: Array
) -> Array:
    """Scores in every bootstrap draw over all needles; NaN in draws without a needle this detector could score."""
    if name in fixed:
        return np.broadcast_to(np.asarray(fixed[name], dtype=float), (len(draws), len(fixed[name])))
    total = totals[name]
    return np.atleast_2d(total.means(draws[:, [ids.index(id) for id in total.needle_ids]]))


def _interval(values: list[float], varies: bool) -> tuple[float, float]:
    if not varies:
        return float("nan"), float("nan")
    low, high = percentile_interval(np.array(values))
    return float(low), float(high)
