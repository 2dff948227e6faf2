"""Do detectors find the same heads? Rank correlation over all heads and overlap of the top k, with intervals."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from interp.statistics import Array, Estimate, bounded, cluster_weights, percentile_interval, spearman, top_overlap
from probes.retrieval_heads.totals import NeedleTotals

DRAWS = 500


def summarise_agreement(
    totals: Mapping[str, NeedleTotals], fixed: Mapping[str, Array], *, k: int, model: str, seed: int
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
        rho = _interval([spearman(x, y) for x, y in pairs], varies)
        shared = top_overlap(a, b, k)
        overlap = bounded(Estimate(shared, *_interval([top_overlap(x, y, k) for x, y in pairs], varies), len(ids)))
        rows.append(
            {
                "model": model,
                "first": first,
                "second": second,
                "k": k,
                "spearman": spearman(a, b),
                "spearman_ci_low": rho[0],
                "spearman_ci_high": rho[1],
                "top_k_overlap": shared,
                "top_k_overlap_ci_low": overlap.ci_low,
                "top_k_overlap_ci_high": overlap.ci_high,
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
