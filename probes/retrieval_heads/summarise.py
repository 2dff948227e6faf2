"""Statistics of the retrieval-head experiment, from the measured tables alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from interp.statistics import (
    Array,
    cluster_weights,
    pearson,
    percentile_interval,
    spearman,
    top_indices,
    top_overlap,
)
from interp.tables import Tables

Head = tuple[int, int]
DRAWS = 2000
COPY_DEFINITIONS = {"set": "set_score", "count": "count_score"}
CONTRIBUTION_DEFINITIONS = ("locos", "direct")
SPLITS = 200
SCORING = 0.01
"""Heads below this over all needles are mostly tied at zero."""
BUCKETS = ("0", "0–0.1", "0.1–0.5", "≥0.5")
"""Ranges of score in the paper's Figure 5: zero, below 0.1, below 0.5, the rest."""


class NeedleTotals:
    """Per-sample scores of every head, added up by needle: all that means, intervals and splits over needles need."""

    def __init__(self, frame: pd.DataFrame, value: str) -> None:
        """`frame` has one row per sample and head; samples whose value is NaN (no answer step) do not count."""
        frame = frame.dropna(subset=[value])
        self.needle_ids = list(frame["needle_id"].unique())
        grouped = frame.groupby(["needle_id", "layer", "head"], sort=False)[value]
        self.sums = grouped.sum().unstack(["layer", "head"]).sort_index(axis=1).loc[self.needle_ids]
        self.active = (
            (frame.assign(active=frame[value] > 0).groupby(["needle_id", "layer", "head"], sort=False)["active"].sum())
            .unstack(["layer", "head"])
            .sort_index(axis=1)
            .loc[self.needle_ids]
        )
        self.counts = frame.groupby("needle_id", sort=False)["sample_id"].nunique().loc[self.needle_ids]

    @property
    def heads(self) -> list[Head]:
        """(layer, head) of every column, in layer-major order."""
        return [(int(layer), int(head)) for layer, head in self.sums.columns]

    @property
    def n_samples(self) -> int:
        """Samples that count."""
        return int(self.counts.sum())

    def means(self, weights: Array | None = None) -> Array:
        """Returns the mean score of every head: [head], or [draw, head] when needles are weighted per draw."""
        weights = np.ones((1, len(self.needle_ids))) if weights is None else np.atleast_2d(weights)
        with np.errstate(invalid="ignore"):  # a draw without any of these needles has no mean: NaN
            means = (weights @ self.sums.to_numpy()) / (weights @ self.counts.to_numpy())[:, None]
        return means[0] if len(means) == 1 else means

    def bootstrap(self, seed: int, draws: int = DRAWS) -> Array:
        """Returns bootstrap draws of the mean scores over needles: [draw, head]."""
        return self.means(cluster_weights(len(self.needle_ids), draws, seed))


def detection_totals(measured: Tables, *, only_passed: bool) -> dict[str, NeedleTotals]:
    """Returns the totals of every detector that is scored on samples: set, count, locos, direct.

    `only_passed` leaves out samples that were answered wrong (the reference's success filter). A detector without any
    sample that counts is left out.
    """
    scores = scored_rows(measured, "sample_head_scores", only_passed=only_passed)
    contributions = scored_rows(measured, "logit_contribution", only_passed=only_passed).dropna(subset=["score"])
    totals = {name: NeedleTotals(scores, column) for name, column in COPY_DEFINITIONS.items()} if len(scores) else {}
    for name in CONTRIBUTION_DEFINITIONS:
        part = contributions[contributions["definition"] == name]
        if len(part):
            totals[name] = NeedleTotals(part, "score")
    return totals


def scored_rows(tables: Tables, name: str, *, only_passed: bool) -> pd.DataFrame:
    """Returns the rows of a per-sample table that count: those of all samples, or of the ones answered right."""
    samples = tables["samples"]
    kept = samples[samples["has_needle"] & (samples["passed"] | (not only_passed))]["sample_id"]
    table = tables[name]
    return table[table["sample_id"].isin(kept)]


def echo_induction_means(measured: Tables) -> pd.DataFrame:
    """Returns echo and induction scores of every query head, averaged over draws, in layer-major order."""
    return (
        measured["echo_induction"]
        .groupby(["layer", "head", "kv_head"], as_index=False)[["echo", "induction"]]
        .mean()
        .sort_values(["layer", "head"], ignore_index=True)
    )


def ranked_heads(heads: Sequence[Head], scores: Array) -> list[Head]:
    """Returns heads in falling order of their score, equal scores in layer-major order."""
    return [heads[index] for index in top_indices(scores, len(heads))]


def summarise_head_scores(
    totals: Mapping[str, NeedleTotals], echo: pd.DataFrame, group_size: int, model: str, seed: int
) -> pd.DataFrame:
    """Returns `head_scores`: every detector's score of every head, with intervals over needles where it has them."""
    frames = []
    for definition, total in totals.items():
        low, high = _interval(total, seed)
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


def _interval(total: NeedleTotals, seed: int) -> tuple[Array, Array]:
    if len(total.needle_ids) < 2:
        nothing = np.full(len(total.heads), np.nan)
        return nothing, nothing
    return percentile_interval(total.bootstrap(seed))


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
        several = len(total.needle_ids) > 1
        low, high = (
            percentile_interval(bucket_shares(total.bootstrap(seed))) if several else np.full((2, len(shares)), np.nan)
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
