"""The summary tables of a run: how strong every head is by every detector, what each needle asked, and what masking did."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from interp.statistics import (
    Array,
    Estimate,
    bounded,
    mean_estimate,
    paired_difference,
    percentile_interval,
    share_difference,
    share_estimate,
)
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
    name, seed = facts.name, settings.seed
    totals = detection_totals(measured, only_passed=settings.success_filter)
    echo = echo_induction_means(measured)
    scores = summarise_head_scores(totals, echo, facts.geometry.group_size, name, seed)
    k = min(settings.other_k, facts.geometry.n_layers * facts.geometry.n_heads)
    fixed = {detector: echo[detector].to_numpy() for detector in ("echo", "induction") if len(echo)}
    given = settings.given(facts)
    if given is not None and len(given) == facts.geometry.n_layers * facts.geometry.n_heads:
        fixed[GIVEN] = given.sort_values(["layer", "head"])["score"].to_numpy()
    ablation = measured["ablation"]
    tables = {
        "head_scores": scores,
        "sparsity": summarise_sparsity(totals, name, seed),
        "kv_head_scores": summarise_kv_heads(scores),
        "needle_recall": summarise_needles(measured["samples"], name),
        "reliability": summarise_reliability(totals, name, seed),
        "convergence": summarise_convergence(totals, settings.until_stable or k, name, seed),
        "ablation_summary": summarise_ablation(ablation, name, seed),
        "agreement": summarise_agreement(totals, fixed, k=k, model=name, seed=seed),
        **({} if given is None else {GIVEN: given}),
    }
    return {name: table if len(table) else empty(SCHEMAS[name]) for name, table in tables.items()}


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
    return pd.DataFrame(
        [
            {
                "model": model,
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


def summarise_ablation(ablation: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    """Returns `ablation_summary`: every condition's means and paired differences, with intervals over needles.

    Random draws are averaged within each question first. Differences pair the same question (or passage): against no
    change, and against the random heads of the same k, mode and phase; the given ranking has random heads of its own layers.
    """
    rows = []
    for needles, table in _needle_sets(ablation):
        per_question = table.groupby([*_CONDITION, "sample_id", "needle_id"], as_index=False, sort=False).agg(
            recall=("recall", "mean"),
            prose_surprisal_nats=("prose_surprisal_nats", "mean"),
            n_draws=("draw", "nunique"),
        )
        unchanged = per_question[per_question["condition"] == "none"].set_index("sample_id")
        for names, group in per_question.groupby(_CONDITION, sort=False):
            condition = dict(zip(_CONDITION, names, strict=True))
            control = _random_control(per_question, condition)
            for outcome, sign in _OUTCOMES.items():
                rows.append(
                    {
                        "model": model,
                        **condition,
                        "needles": needles,
                        "outcome": outcome,
                        **_differences(group, unchanged, control, outcome, sign, seed),
                        "n_draws": int(group["n_draws"].max()),
                        "n_needles": group["needle_id"].nunique(),
                    }
                )
    return pd.DataFrame(rows)


def _needle_sets(ablation: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", ablation
    for literal, name in ((True, "literal"), (False, "non-literal")):
        part = ablation[ablation["literal"] == literal]
        if len(part):
            yield name, part


def _random_control(per_question: pd.DataFrame, condition: Mapping[str, Any]) -> pd.DataFrame | None:
    """The random draws a top set is held against; None where there are none."""
    if condition["condition"] != "top":
        return None
    same = (per_question["condition"] == "random") & (per_question["k"] == condition["k"])
    same &= (per_question["mode"] == condition["mode"]) & (per_question["phase"] == condition["phase"])
    same &= (per_question["ranking"] == GIVEN) == (condition["ranking"] == GIVEN)
    return per_question[same].set_index("sample_id") if bool(same.any()) else None


def _differences(
    group: pd.DataFrame, unchanged: pd.DataFrame, control: pd.DataFrame | None, outcome: str, sign: float, seed: int
) -> dict[str, float]:
    values, clusters = group[outcome].to_numpy(), group["needle_id"].to_numpy()
    mean = (share_estimate if outcome == "recall" else mean_estimate)(values, clusters, seed=seed)
    # The unchanged model against itself is 0 by definition, not by measurement.
    is_share = outcome == "recall" and not group["condition"].eq("none").all()
    differing = share_difference if is_share else paired_difference
    before = unchanged.loc[group["sample_id"], outcome].to_numpy()
    lost = differing(sign * values, sign * before, clusters, seed=seed)
    found = {
        "mean": mean.value,
        "ci_low": mean.ci_low,
        "ci_high": mean.ci_high,
        "lost": lost.value,
        "lost_ci_low": lost.ci_low,
        "lost_ci_high": lost.ci_high,
        "beyond_random": np.nan,
        "beyond_random_ci_low": np.nan,
        "beyond_random_ci_high": np.nan,
    }
    if control is not None:
        random = control.loc[group["sample_id"], outcome].to_numpy()
        beyond = differing(sign * values, sign * random, clusters, seed=seed)
        found["beyond_random"], found["beyond_random_ci_low"], found["beyond_random_ci_high"] = beyond[:3]
    return found
