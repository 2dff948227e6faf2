"""How strong every head is, by every detector, and what each needle asked: summaries of the measured tables alone."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.statistics import Array, Estimate, bounded, percentile_interval
from probes.retrieval_heads.totals import COPY_DEFINITIONS, NeedleTotals

BUCKETS = ("0", "0–0.1", "0.1–0.5", "≥0.5")
"""Ranges of score in the paper's Figure 5: zero, below 0.1, below 0.5, the rest."""


def summarise_head_scores(
    totals: Mapping[str, NeedleTotals], echo: pd.DataFrame, group_size: int, model: str, seed: int
) -> pd.DataFrame:
    """Returns `head_scores`: every detector's score of every head, with intervals over needles where it has them."""
    frames = []
    for definition, total in totals.items():
        low, high = _interval(total, seed, bounds=definition in COPY_DEFINITIONS)
        layer, head = np.array(total.heads).T
        copies = definition in COPY_DEFINITIONS
        frequency = total.active.sum().to_numpy() / total.n_samples if copies else np.full(len(layer), np.nan)
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "head": head,
                    "definition": definition,
                    "score": total.means(),
                    "ci_low": low,
                    "ci_high": high,
                    "activation_frequency": frequency,
                    "n_samples": total.n_samples,
                    "n_needles": len(total.needle_ids),
                }
            )
        )
    for definition in ("echo", "induction"):
        if len(echo):
            scores = echo.rename(columns={definition: "score"})[["layer", "head", "score"]]
            frames.append(
                scores.assign(
                    definition=definition,
                    ci_low=np.nan,
                    ci_high=np.nan,
                    activation_frequency=np.nan,
                    n_samples=0,
                    n_needles=0,
                )
            )
    if not frames:
        from interp.tables import empty
        from probes.retrieval_heads.tables import HeadScores

        return empty(HeadScores)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(model=model, kv_head=table["head"] // group_size)


def _interval(total: NeedleTotals, seed: int, *, bounds: bool) -> tuple[Array, Array]:
    """Intervals of every head's mean score; `bounds`: of scores between 0 and 1."""
    low, high = percentile_interval(total.bootstrap(seed))
    return _bounded(total.means(), low, high, len(total.needle_ids)) if bounds else (low, high)


def _bounded(values: Array, low: Array, high: Array, n: int) -> tuple[Array, Array]:
    """The bounds of several numbers between 0 and 1, by interp.statistics.bounded."""
    rows = zip(values, low, high, strict=True)
    found = [bounded(Estimate(float(value), float(a), float(b), n)) for value, a, b in rows]
    return np.array([one.ci_low for one in found]), np.array([one.ci_high for one in found])


def summarise_sparsity(totals: Mapping[str, NeedleTotals], model: str, seed: int) -> pd.DataFrame:
    """Returns `sparsity`: the share of heads in each of the paper's four buckets of score, with intervals over needles.

    The buckets "0" and "0–0.1" have none: a bootstrap draw leaves needles out, so heads that copied on one needle only fall
    to zero in it, and a percentile interval lies beside the estimate.
    """
    rows = []
    for definition in COPY_DEFINITIONS:
        if definition not in totals:
            continue
        total = totals[definition]
        shares = bucket_shares(total.means())
        n = len(total.needle_ids)
        low, high = (
            _bounded(shares, *percentile_interval(bucket_shares(total.bootstrap(seed))), n)
            if n > 1
            else np.full((2, len(shares)), np.nan)
        )
        low[:2] = high[:2] = np.nan
        for index, bucket in enumerate(BUCKETS):
            row = {"model": model, "definition": definition, "bucket": bucket, "n_heads": len(total.heads)}
            rows.append(row | {"share": shares[index], "ci_low": low[index], "ci_high": high[index]})
    return pd.DataFrame(rows)


def bucket_shares(scores: Array) -> Array:
    """Returns the share of heads with a score of 0, above 0, from 0.1 and from 0.5 on: [..., head] to [..., bucket]."""
    bucket = (scores > 0).astype(int) + (scores >= 0.1) + (scores >= 0.5)
    return np.stack([(bucket == index).mean(axis=-1) for index in range(len(BUCKETS))], axis=-1)


def summarise_kv_heads(head_scores: pd.DataFrame) -> pd.DataFrame:
    """Returns `kv_head_scores`: mean and maximum over the query heads that share a key-value head."""
    keys = ["model", "definition", "layer", "kv_head"]
    best = head_scores.sort_values("score", ascending=False, kind="stable").drop_duplicates(keys)
    grouped = head_scores.groupby(keys, as_index=False)["score"].agg(mean_score="mean", max_score="max")
    return grouped.merge(best[[*keys, "head"]].rename(columns={"head": "best_head"}), on=keys)


def summarise_needles(samples: pd.DataFrame, model: str) -> pd.DataFrame:
    """Returns `needle_recall`: per needle, recall with the needle in the context and without it."""
    rows = []
    for needle_id, group in samples.groupby("needle_id", sort=False):
        asked, control = group[group["has_needle"]], group[~group["has_needle"]]
        rows.append(
            {
                "model": model,
                "needle_id": needle_id,
                "literal": bool(group["literal"].iloc[0]),
                "n_samples": len(asked),
                "recall": asked["recall"].mean(),
                "share_passed": asked["passed"].mean(),
                "recall_without_needle": control["recall"].mean() if len(control) else np.nan,
            }
        )
    return pd.DataFrame(rows)
