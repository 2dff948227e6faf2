"""Every detector's scores of all heads: added up by needle, which all statistics start from, and ranked, best head first; and how
far they can be trusted: over halves of the needles, over more and more of them, resampled, and between detectors.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from interp.agreement import pearson, spearman, top_indices, top_overlap
from interp.statistics import Array, Estimate, bootstrap_interval, bounded, cluster_weights
from interp.tables import Tables

Head = tuple[int, int]
"""(layer, head)."""
BOOTSTRAP_DRAWS = 2000
COPY_DEFINITIONS = {"set": "set_score", "count": "count_score"}
CONTRIBUTION_DEFINITIONS = ("locos", "direct")
RANKINGS = (*COPY_DEFINITIONS, *CONTRIBUTION_DEFINITIONS, "echo", "induction")
"""Every ranking that a run makes."""


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

    def bootstrap(self, seed: int, draws: int = BOOTSTRAP_DRAWS) -> Array:
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


SPLITS = 200
STABILITY_DRAWS = 500
SCORING = 0.01
"""Heads below this over all needles are mostly tied at zero."""
FIRST_NEEDLES = 4
STEP_NEEDLES = 4


def summarise_reliability(totals: Mapping[str, NeedleTotals], seed: int) -> pd.DataFrame:
    """Returns `reliability`: over random splits of the needles into disjoint halves, how well their head scores agree."""
    frames = [pd.DataFrame()]
    for definition, total in totals.items():
        n = len(total.needle_ids)
        if n < 2:
            continue
        scoring = total.means() >= SCORING
        halves = _halves(n, seed)
        # One product for each half: a product of all of them rounds otherwise, and parts heads that are tied.
        a, b = (np.stack([total.means(half) for half in side]) for side in (halves, 1 - halves))
        frames.append(
            pd.DataFrame(
                {
                    "definition": definition,
                    "split": np.arange(len(halves)),
                    "n_needles_half": n // 2,
                    "pearson": pearson(a, b),
                    "spearman": spearman(a, b),
                    "spearman_scoring": spearman(a[:, scoring], b[:, scoring]) if scoring.sum() > 2 else np.nan,
                    "n_scoring_heads": int(scoring.sum()),
                    "top10_overlap": top_overlap(a, b, min(10, a.shape[1])),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _halves(n: int, seed: int) -> Array:
    """Random halves of n needles: [split, needle], 1 for those of the first half."""
    generator = np.random.default_rng([seed, 1])
    halves = np.zeros((SPLITS, n))
    for half in halves:
        half[generator.permutation(n)[: n // 2]] = 1
    return halves


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


def stability(total: NeedleTotals, n_needles: int, k: int, seed: int, draws: int = STABILITY_DRAWS) -> float:
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
    return float(np.mean(top_overlap(now, drawn, k) >= 0.9))


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
    draws = cluster_weights(len(ids), STABILITY_DRAWS, seed) if len(ids) > 1 else np.zeros((0, len(ids)))
    rows = []
    for first, second in combinations(names, 2):
        a, b = (_scores(name, totals, fixed) for name in (first, second))
        x, y = (_drawn(name, totals, fixed, ids, draws) for name in (first, second))
        scored = np.isfinite(x).all(axis=-1) & np.isfinite(y).all(axis=-1)
        x, y = x[scored], y[scored]
        varies = len(x) > 0 and (first in totals or second in totals)
        n = len(ids) if varies else 0
        rho = _estimate(float(spearman(a, b)), spearman(x, y), n, (-1.0, 1.0))
        overlap = bounded(_estimate(float(top_overlap(a, b, k)), top_overlap(x, y, k), n, (0.0, 1.0)))
        rows.append(
            {
                "first": first,
                "second": second,
                "k": k,
                **rho.columns("spearman"),
                **overlap.columns("top_k_overlap"),
                "n_needles": n,
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


def _estimate(value: float, drawn: Array | np.float64, n_needles: int, limits: tuple[float, float]) -> Estimate:
    """A number with its interval over so many needles; with none for two detectors that do not depend on needles."""
    if not n_needles:
        return Estimate(value, np.nan, np.nan, 0)
    low, high = bootstrap_interval(value, drawn, n_needles, limits)
    return Estimate(value, float(low), float(high), n_needles)
