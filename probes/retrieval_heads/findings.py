"""The findings of a retrieval-head report, with intervals and controls, and its warnings."""

import math
from collections.abc import Iterator

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.heads.given import sentences_on, sentences_on_ties
from interp.heads.kinds import GIVEN
from interp.tables import Tables
from probes.retrieval_heads.settings import Settings

RETRIEVAL_SCORE = 0.1
"""A head that scores above this is a retrieval head (Wu et al. 2024, section 2)."""
TOP = 10
"""Of halves of the needles, the share of so many top heads is told that both have."""
STILL_FALLING = 0.05
"""Recall lost between the two largest k, above which the curve has not levelled off."""
FAR_FRACTION = 0.25
"""A needle this far from the depth it was asked at, as a share of the haystack, is one to tell of."""


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    return [
        *_heads(settings, tables),
        *_reliability(settings, tables),
        *_causality(settings, tables),
        *_given(settings, tables),
        *_warnings(settings, tables),
    ]


def _heads(settings: Settings, tables: Tables) -> Iterator[Finding]:
    scores = tables["head_scores"]
    scores = scores[scores["definition"] == settings.definition].sort_values("score", ascending=False, kind="stable")
    samples = tables["samples"]
    asked = samples[samples["has_needle"]]
    if not len(scores):
        yield Finding(
            f"No head was scored: none of the {len(asked)} samples was answered right, and --success-filter leaves out the others. "
            "Use shorter contexts, --prompt-format, or a model that answers.",
            "warning",
        )
        return
    found = scores[scores["score"] > RETRIEVAL_SCORE]
    first = scores.iloc[0]
    yield Finding(
        f"{len(found)} of {len(scores)} heads ({len(found) / len(scores):.1%}) have a {settings.definition} copy-paste score above "
        f"{RETRIEVAL_SCORE}, over {int(first['n_samples'])} samples of {int(first['n_needles'])} needles."
    )
    leaders = ", ".join(
        f"{row['layer']}-{row['head']} {row['score']:.2f}{_interval(row['ci_low'], row['ci_high'], '.2f')}"
        for row in scores.head(5).to_dict("records")
    )
    bracketed = "" if math.isnan(first["ci_low"]) else ", 95% interval over needles"
    yield Finding(f"Strongest heads (layer-head{bracketed}): {leaders}.")


def _reliability(settings: Settings, tables: Tables) -> Iterator[Finding]:
    splits = tables["reliability"]
    splits = splits[splits["definition"] == settings.definition]
    if len(splits):
        n_scoring = int(splits["n_scoring_heads"].iloc[0])
        in_common = f"{splits['top10_overlap'].mean():.0%} of the top 10 in common"
        if n_scoring < TOP:
            in_common = "with no top 10 to compare, as fewer heads score"
        yield Finding(
            f"Scores from two disjoint halves of the needles: Spearman {_median(splits['spearman'])} over all heads, "
            f"{_median(splits['spearman_scoring'])} over the {n_scoring} that score at least 0.01 "
            f"(the others are mostly tied at zero), Pearson {_median(splits['pearson'])}, {in_common} (over {len(splits)} splits)."
        )
    curve = tables["convergence"]
    curve = curve[curve["definition"] == settings.definition]
    if settings.until_stable is not None and len(curve):
        last = curve.iloc[-1]
        yield Finding(
            f"Detection stopped after {int(last['n_needles'])} needles ({int(last['n_samples'])} samples): {last['stability']:.0%} of "
            f"the bootstrap draws keep nine tenths of the top {settings.until_stable}."
        )
        scores = tables["head_scores"]
        n_above = int((scores.loc[scores["definition"] == settings.definition, "score"] > 0).sum())
        if n_above < settings.until_stable:
            yield Finding(
                f"Only {n_above} heads score above 0, so the top {settings.until_stable} is filled up with heads of the first layers and "
                "seems more stable than it is: use a smaller --until-stable.",
                "warning",
            )


def _median(values: pd.Series) -> str:
    """The median, undefined where no split has a correlation: all heads score alike."""
    return "undefined" if values.isna().all() else f"{values.median():.2f}"


def _causality(settings: Settings, tables: Tables) -> Iterator[Finding]:
    summary = tables["ablation_summary"]
    if not len(summary):
        return
    mode, phase = settings.ablation_modes[0], settings.ablation_phases[0]
    rows = summary[(summary["mode"] == mode) & (summary["phase"] == phase) & (summary["needles"] == "all")]
    top = rows[(rows["condition"] == "top") & (rows["ranking"] == settings.definition)]
    k = 10 if 10 in set(top["k"]) else int(top["k"].max())
    recall, prose = (_one(top[(top["k"] == k)], outcome) for outcome in ("recall", "prose_surprisal_nats"))
    unchanged = _one(summary[(summary["condition"] == "none") & (summary["needles"] == "all")], "recall")
    random = _one(rows[(rows["condition"] == "random") & (rows["k"] == k) & (rows["ranking"] != GIVEN)], "recall")
    draws = tables["ablation"]
    draws = draws[(draws["condition"] == "random") & (draws["ranking"] != GIVEN) & (draws["k"] == k)]
    draws = draws[(draws["mode"] == mode) & (draws["phase"] == phase)].groupby("draw")["recall"].mean()
    spread = f" ({draws.min():.2f} to {draws.max():.2f} by draw)" if len(draws) > 1 else ""
    yield Finding(
        f"Masking the top {k} heads ({mode}, {phase}) takes recall on {int(recall['n_needles'])} held-out needles from "
        f"{unchanged['mean']:.2f} to {recall['mean']:.2f}; as many random heads of the same layers leave {random['mean']:.2f}{spread}."
    )
    yield Finding(
        f"Recall lost beyond random masking: {_beyond(recall)}; prose surprisal "
        f"changes by {prose['lost']:.3f} nats{_interval(prose['lost_ci_low'], prose['lost_ci_high'], '.3f')}."
    )
    if draws.min() <= recall["mean"] and recall["beyond_random_ci_low"] > 0:
        yield Finding(
            f"One of the {len(draws)} random draws takes as much recall away as the top {k} heads: intervals resample needles, not draws "
            "of heads, so that these heads stand out is not shown. Use more --random-draws.",
            "warning",
        )
    n_heads = len(tables["head_scores"].drop_duplicates(["layer", "head"]))
    yield from _still_falling(top[top["outcome"] == "recall"], n_heads)
    scores = tables["head_scores"]
    scores = scores.loc[scores["definition"] == settings.definition, "score"].sort_values(ascending=False)
    for text in sentences_on_ties(scores, sorted(set(top["k"])), f"the {settings.definition} copy-paste score"):
        yield Finding(text, "warning")


def _still_falling(recall: pd.DataFrame, n_heads: int) -> Iterator[Finding]:
    """A warning when the last step of the grid of k still takes recall away: more heads matter than were masked."""
    curve = recall.sort_values("k")
    if len(curve) < 2:
        return
    before, last = (curve.iloc[index] for index in (-2, -1))
    if before["mean"] - last["mean"] > STILL_FALLING:
        yield Finding(
            f"Recall has not levelled off at the largest k: {before['mean']:.2f} with {int(before['k'])} heads masked, {last['mean']:.2f} "
            f"with {int(last['k'])} of {n_heads}. Add larger values to --k before saying how many heads the model needs.",
            "warning",
        )


def _given(settings: Settings, tables: Tables) -> Iterator[Finding]:
    """The ranking of --heads-from beside the own one: what it is, and what masking it does."""
    given, summary = tables.get(GIVEN), tables["ablation_summary"]
    if given is None or not len(given):
        return
    top = summary[(summary["ranking"] == GIVEN) & (summary["needles"] == "all") & (summary["condition"] == "top")]
    for text, is_warning in sentences_on(given, sorted(set(top["k"]))):
        yield Finding(text, "warning" if is_warning else "result")
    mode, phase = settings.ablation_modes[0], settings.ablation_phases[0]
    rows = top[(top["mode"] == mode) & (top["phase"] == phase) & (top["outcome"] == "recall")]
    if not len(rows):
        return
    row = rows[rows["k"] == (10 if 10 in set(rows["k"]) else rows["k"].max())].iloc[0]
    yield Finding(
        f"Masking the first {int(row['k'])} heads of --heads-from ({mode}, {phase}) leaves a recall of {row['mean']:.2f} on the same "
        f"needles; lost beyond random heads of the same layers: {_beyond(row)}."
    )


def _beyond(row: pd.Series) -> str:
    """Points of recall that are lost beyond random masking, and whether that is shown."""
    value, low, high = (100 * row[f"beyond_random{end}"] for end in ("", "_ci_low", "_ci_high"))
    return f"{value:+.0f} points{_interval(low, high, '+.0f')}{unshown(low, high)}"


def _interval(low: float, high: float, form: str) -> str:
    """The interval in brackets; nothing where a single needle gave none."""
    return "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"


def _one(rows: pd.DataFrame, outcome: str) -> pd.Series:
    return rows[rows["outcome"] == outcome].iloc[0]


def _warnings(settings: Settings, tables: Tables) -> Iterator[Finding]:
    samples = tables["samples"]
    asked = samples[samples["has_needle"]]
    failed = int((~asked["passed"]).sum())
    if failed:
        fate = "left out of the scores" if settings.success_filter else "scored like the others"
        yield Finding(
            f"{failed} of {len(asked)} samples were answered wrong; they are in the table and {fate}.", "warning"
        )
    yield from _depths(asked)
    thoughts = int(asked["generated_text"].str.match(r"<think(?:ing)?>|\[THINK\]").sum())
    if thoughts:
        yield Finding(
            f"{thoughts} of {len(asked)} answers begin with a thought, which is read as the answer: if the chat template has a switch, "
            "use --template-args enable_thinking=false.",
            "warning",
        )
    known = tables["needle_recall"]
    known = known[known["recall_without_needle"] > 0.5]
    if len(known):
        yield Finding(f"Answered without the needle in the context: {', '.join(known['needle_id'])}.", "warning")
    ties = int(asked["near_ties"].sum())
    if ties:
        yield Finding(
            f"{ties} attention rows are near-ties (one bfloat16 step) between a copy and another position; in half precision "
            "their scores may differ.",
            "warning",
        )


def _depths(asked: pd.DataFrame) -> Iterator[Finding]:
    """Needles stand between sentences; where these are long for the prompt, or a text has none, that is not where asked."""
    distance = (asked["reached_depth_fraction"] - asked["depth_fraction"]).abs()
    far = int((distance > FAR_FRACTION).to_numpy().sum())
    if far:
        place = int(distance.to_numpy().argmax())
        reached, wanted = (float(asked[name].iloc[place]) for name in ("reached_depth_fraction", "depth_fraction"))
        yield Finding(
            f"In {far} of {len(asked)} samples the needle stands more than {FAR_FRACTION} of the haystack from where it was asked to be "
            f"(at worst at {reached:.2f} for {wanted:.2f}), since it goes between sentences: "
            "see reached_depth_fraction, and use longer prompts or a text with more sentence ends.",
            "warning",
        )
