"""Every detector's scores of all heads: added up by needle, which all statistics start from, and ranked, best head first."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.statistics import Array, cluster_weights, top_indices
from interp.tables import Tables

Head = tuple[int, int]
"""(layer, head)."""
DRAWS = 2000
COPY_DEFINITIONS = {"set": "set_score", "count": "count_score"}
CONTRIBUTION_DEFINITIONS = ("locos", "direct")


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


def rankings_of(measured: Tables, *, only_passed: bool) -> dict[str, list[Head]]:
    """Returns all heads in falling order of score, for every detector that has scores."""
    rankings = {
        name: ranked_heads(total.heads, total.means())
        for name, total in detection_totals(measured, only_passed=only_passed).items()
    }
    echo = echo_induction_means(measured)
    heads = [(int(layer), int(head)) for layer, head in zip(echo["layer"], echo["head"], strict=True)]
    for name in ("echo", "induction"):
        if heads:
            rankings[name] = ranked_heads(heads, echo[name].to_numpy())
    return rankings


def ranked_heads(heads: Sequence[Head], scores: Array) -> list[Head]:
    """Returns heads in falling order of their score, equal scores in layer-major order."""
    return [heads[index] for index in top_indices(scores, len(heads))]


def echo_induction_means(measured: Tables) -> pd.DataFrame:
    """Returns echo and induction scores of every query head, averaged over draws, in layer-major order."""
    return (
        measured["echo_induction"]
        .groupby(["layer", "head", "kv_head"], as_index=False)[["echo", "induction"]]
        .mean()
        .sort_values(["layer", "head"], ignore_index=True)
    )
