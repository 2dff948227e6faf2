"""The summary tables of a run: how strong every head is by every detector, what each needle asked, and what masking did."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd

from interp.estimates import beside, estimates
from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from interp.statistics import Array, Estimate, bootstrap_interval, bounded
from interp.tables import Tables, empty
from probes.retrieval_heads.rankings import (
    COPY_DEFINITIONS,
    NeedleTotals,
    detection_totals,
    echo_induction_means,
    summarise_agreement,
    summarise_convergence,
    summarise_reliability,
)
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.tables import SCHEMAS, HeadScores

BUCKETS = ("0", "0–0.1", "0.1–0.5", "≥0.5")
"""Ranges of score in the paper's Figure 5: zero, below 0.1, below 0.5, the rest."""
_CONDITION = ["condition", "ranking", "k", "mode", "phase"]
_OUTCOMES = {"recall": -1.0, "prose_surprisal_nats": 1.0}
"""Outcomes, and the sign that makes harm positive."""


def summarise_all(settings: Settings, facts: ModelFacts, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; those that have nothing to say are empty, with their columns."""
    assert facts.geometry is not None
    seed = settings.seed
    totals = detection_totals(measured, only_passed=settings.success_filter)
    echo = echo_induction_means(measured)
    scores = summarise_head_scores(totals, echo, facts.geometry.group_size, seed)
    k = min(settings.other_k, facts.geometry.n_heads_in_all)
    fixed = {detector: echo[detector].to_numpy() for detector in ("echo", "induction") if len(echo)}
    given = settings.given(facts)
    if given is not None and len(given) == facts.geometry.n_heads_in_all:
        fixed[GIVEN] = given.sort_values(["layer", "head"])["score"].to_numpy()
    tables = {
        "head_scores": scores,
        "sparsity": summarise_sparsity(totals, seed),
        "kv_head_scores": summarise_kv_heads(scores),
        "needle_recall": summarise_needles(measured["samples"]),
        "reliability": summarise_reliability(totals, seed),
        "convergence": summarise_convergence(totals, settings.until_stable or k, seed),
        "ablation_summary": summarise_ablation(measured["ablation"], seed),
        "agreement": summarise_agreement(totals, fixed, k=k, seed=seed),
        **({} if given is None else {GIVEN: given}),
    }
    return {name: table if len(table) else empty(SCHEMAS[name]) for name, table in tables.items()}


def summarise_head_scores(
    totals: Mapping[str, NeedleTotals], echo: pd.DataFrame, group_size: int, seed: int
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
        return empty(HeadScores)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(kv_head=table["head"] // group_size)


def _interval(total: NeedleTotals, seed: int, *, bounds: bool) -> tuple[Array, Array]:
    """Intervals of every head's mean score; `bounds`: of scores between 0 and 1."""
    n = len(total.needle_ids)
    limits = (0.0, 1.0) if bounds else (-np.inf, np.inf)
    low, high = bootstrap_interval(total.means(), total.bootstrap(seed), n, limits)
    return _bounded(total.means(), low, high, n) if bounds else (low, high)


def _bounded(values: Array, low: Array, high: Array, n: int) -> tuple[Array, Array]:
    """The bounds of several numbers between 0 and 1, by interp.statistics.bounded."""
    rows = zip(values, low, high, strict=True)
    found = [bounded(Estimate(float(value), float(a), float(b), n)) for value, a, b in rows]
    return np.array([one.ci_low for one in found]), np.array([one.ci_high for one in found])


def summarise_sparsity(totals: Mapping[str, NeedleTotals], seed: int) -> pd.DataFrame:
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
            _bounded(shares, *bootstrap_interval(shares, bucket_shares(total.bootstrap(seed)), n, (0.0, 1.0)), n)
            if n > 1
            else np.full((2, len(shares)), np.nan)
        )
        low[:2] = high[:2] = np.nan
        for index, bucket in enumerate(BUCKETS):
            row = {"definition": definition, "bucket": bucket, "n_heads": len(total.heads)}
            rows.append(row | {"share": shares[index], "ci_low": low[index], "ci_high": high[index]})
    return pd.DataFrame(rows)


def bucket_shares(scores: Array) -> Array:
    """Returns the share of heads with a score of 0, above 0, from 0.1 and from 0.5 on: [..., head] to [..., bucket]."""
    bucket = (scores > 0).astype(int) + (scores >= 0.1) + (scores >= 0.5)
    return np.stack([(bucket == index).mean(axis=-1) for index in range(len(BUCKETS))], axis=-1)


def summarise_kv_heads(head_scores: pd.DataFrame) -> pd.DataFrame:
    """Returns `kv_head_scores`: mean and maximum over the query heads that share a key-value head."""
    keys = ["definition", "layer", "kv_head"]
    best = head_scores.sort_values("score", ascending=False, kind="stable").drop_duplicates(keys)
    grouped = head_scores.groupby(keys, as_index=False)["score"].agg(mean_score="mean", max_score="max")
    return grouped.merge(best[[*keys, "head"]].rename(columns={"head": "best_head"}), on=keys)


def summarise_needles(samples: pd.DataFrame) -> pd.DataFrame:
    """Returns `needle_recall`: per needle, recall with the needle in the context and without it."""
    return pd.DataFrame(
        [
            {
                "needle_id": needle_id,
                "literal": bool(group["literal"].iloc[0]),
                "n_samples": int(group["has_needle"].sum()),
                "recall": group.loc[group["has_needle"], "recall"].mean(),
                "share_passed": group.loc[group["has_needle"], "passed"].mean(),
                "recall_without_needle": group.loc[~group["has_needle"], "recall"].mean(),
            }
            for needle_id, group in samples.groupby("needle_id", sort=False)
        ]
    )


def summarise_ablation(ablation: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `ablation_summary`: every condition's means and paired differences, with intervals over needles.

    Random draws are averaged within each question first. Differences pair the same question (or passage): against no
    change, and against the random heads of the same k, mode and phase; the given ranking has random heads of its own layers.
    """
    tables = [_by_condition(table, seed).assign(needles=needles) for needles, table in _needle_sets(ablation)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _needle_sets(ablation: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if len(ablation):
        yield "all", ablation
    for literal, name in ((True, "literal"), (False, "non-literal")):
        part = ablation[ablation["literal"] == literal]
        if len(part):
            yield name, part


def _by_condition(ablation: pd.DataFrame, seed: int) -> pd.DataFrame:
    questions = ablation.groupby([*_CONDITION, "sample_id", "needle_id"], as_index=False, sort=False).agg(
        recall=("recall", "mean"), prose_surprisal_nats=("prose_surprisal_nats", "mean"), n_draws=("draw", "nunique")
    )
    questions["given"] = questions["ranking"] == GIVEN
    pair = ["k", "mode", "phase", "given", "sample_id"]
    unchanged, random = (questions[questions["condition"] == name] for name in ("none", "random"))
    by, frames = [*_CONDITION, "outcome"], []
    for outcome, sign in _OUTCOMES.items():
        before = unchanged.set_index("sample_id")[outcome].loc[questions["sample_id"]].to_numpy()
        rows = questions.assign(outcome=outcome, harm=sign * questions[outcome], before=sign * before)
        estimate = partial(
            estimates, by=by, over="needle_id", kind="share" if outcome == "recall" else "mean", seed=seed
        )
        lost = estimate(rows, value="harm", minus="before", name="lost")
        # The unchanged model against itself is 0 by definition, not by measurement.
        itself = (lost["condition"] == "none") & lost["lost_ci_low"].notna()
        lost.loc[itself, ["lost_ci_low", "lost_ci_high"]] = 0.0
        control = random[pair].assign(random=sign * random[outcome])
        top = rows[rows["condition"] == "top"].merge(control, on=pair)
        beyond = estimate(top, value="harm", minus="random", name="beyond_random")
        frames.append(beside(by, estimate(rows, value=outcome), lost, beyond))
    table = pd.concat(frames).sort_index(kind="stable", ignore_index=True)
    table = table.join(questions.groupby(_CONDITION)["n_draws"].max(), on=_CONDITION)
    return table.rename(columns={"value": "mean", "n": "n_needles"}).drop(columns="n_rows")
