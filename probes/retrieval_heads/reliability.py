"""How far head scores can be trusted: over halves of the needles, over more and more of them, and resampled."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.statistics import cluster_weights, pearson, spearman, top_overlap
from probes.retrieval_heads.totals import NeedleTotals

SPLITS = 200
SCORING = 0.01
"""Heads below this over all needles are mostly tied at zero."""


def summarise_reliability(totals: Mapping[str, NeedleTotals], model: str, seed: int) -> pd.DataFrame:
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
                    "model": model,
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


def summarise_convergence(totals: Mapping[str, NeedleTotals], k: int, model: str, seed: int) -> pd.DataFrame:
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
                    "model": model,
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
    return pd.DataFrame(rows, columns=["model", "definition", *columns])


def stability(total: NeedleTotals, n_needles: int, k: int, seed: int, draws: int = 500) -> float:
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
