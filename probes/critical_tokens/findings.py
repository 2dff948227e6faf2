"""The findings of a critical-token report, with intervals and controls, and its warnings."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from interp.experiments.experiment import Finding
from interp.tables import Tables
from probes.critical_tokens.settings import Settings


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    return [
        *_levels(tables["levels"]),
        *_critical(settings, tables),
        *_replacement(tables["replacement"]),
        *_agreement(tables["agreement"]),
        *_cost(settings, tables["cost"]),
        *_audit(tables["audit"]),
        *_rereading(tables["spines"]),
        *_warnings(settings, tables),
    ]


def _levels(levels: pd.DataFrame) -> Iterator[Finding]:
    parts = [
        f"{row.level} {row.success:.0%} [{row.ci_low:.0%}, {row.ci_high:.0%}]{'' if row.usable else ' (not usable)'}"
        for row in levels.itertuples()
    ]
    fewest = int(levels["n_problems"].min())
    resampled = f" (95% interval over {fewest} or more problems)" if fewest > 1 else ""
    yield Finding(f"Answered right, by level{resampled}: {', '.join(parts)}.")


def _critical(settings: Settings, tables: Tables) -> Iterator[Finding]:
    critical, positions = tables["critical"], tables["positions"]
    n = positions["trajectory_id"].nunique()
    if not n:
        return
    for definition in settings.definitions:
        rows = critical[critical["definition"] == definition]
        with_one = rows["trajectory_id"].nunique()
        text = f"{definition}: {len(rows)} critical tokens in {with_one} of {n} wrong trajectories"
        known = rows[rows["first_error_position"] >= 0]
        if len(known):
            at = int((known["relative_to_error"] == 0).sum())
            before = int((known["relative_to_error"] < 0).sum())
            text += f"; {at} at the first wrong token, {before} before it, {len(known) - at - before} after it"
        yield Finding(f"{text}.")
    certified = positions["certified"].mean()
    yield Finding(
        f"{certified:.0%} of {len(positions)} tokens are certified: 1 − p is below {settings.effect:g}, so they cannot change V by "
        "that much."
    )


def _replacement(replacement: pd.DataFrame) -> Iterator[Finding]:
    first = replacement[replacement["k"] == 1]
    for definition, rows in first.groupby("definition", sort=False):
        words = {
            "kept": "kept",
            "forbidden": "forbidden",
            "random": "a random token forbidden",
            "entropy": "one of like entropy forbidden",
        }
        parts = [
            f"{words[str(row.condition)]} {row.pass_at_k:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"
            for row in rows.itertuples()
        ]
        yield Finding(
            f"Pass@1 on fresh draws, {definition} token of {int(rows['n_trajectories'].max())} trajectories: {', '.join(parts)}."
        )


def _agreement(agreement: pd.DataFrame) -> Iterator[Finding]:
    if not len(agreement):
        return
    parts = [
        f"{row.score} {row.auroc:.2f} [{row.auroc_ci_low:.2f}, {row.auroc_ci_high:.2f}] and {row.top1_hit:.0%}"
        for row in agreement.itertuples()
    ]
    first = agreement.iloc[0]
    yield Finding(
        f"Finding the {int(first['n_positive'])} confirmed cliffs among {int(first['n_tokens'])} tokens, AUROC and top-1 hit: "
        f"{'; '.join(parts)}."
    )


def _cost(settings: Settings, cost: pd.DataFrame) -> Iterator[Finding]:
    if not len(cost):
        return
    brute = cost.drop_duplicates("trajectory_id")["brute_tokens"].sum()
    stages = cost.groupby("stage", sort=False)["generated_tokens"].sum()
    search = stages.drop("causal test", errors="ignore").sum()
    parts = ", ".join(f"{stage} {tokens:,}" for stage, tokens in stages.items())
    yield Finding(
        f"Generated tokens: {parts}. {settings.rule_rollouts} rollouts at every position would generate about {brute:,.0f}, "
        f"{brute / search:.1f} times the {search:,} of the search."
    )


def _audit(audit: pd.DataFrame) -> Iterator[Finding]:
    passed = audit["passed"].sum()
    parts = ", ".join(f"{row.check} {row.value:.3g} ({row.expected})" for row in audit.itertuples())
    yield Finding(f"Audits passed: {passed} of {len(audit)}: {parts}.")
    for row in audit[~audit["passed"]].itertuples():
        yield Finding(
            f"Audit failed: {row.check} is {row.value:.3g}, expected {row.expected}: {row.meaning}.", "warning"
        )


def _rereading(spines: pd.DataFrame) -> Iterator[Finding]:
    """How far probabilities read again lie from those of the draws, where the p that counts is the draw's."""
    if not len(spines) or not (spines["p"] != spines["reread_probability"]).any():
        return
    known = spines[spines["reread_probability"] > 0]
    change = pd.Series(np.abs(np.log(known["reread_probability"]) - np.log(known["draw_probability"])))
    cut = len(spines) - len(known)
    yield Finding(
        f"p is the probability that each of {len(spines)} tokens was drawn with. Read again in one pass, log p differs by "
        f"{change.median():.2g} nats at the median and {change.max():.2g} at most, and {cut} tokens fall outside the policy's set.",
        "warning" if cut else "result",
    )


def _thoughts(settings: Settings, tables: Tables) -> Iterator[Finding]:
    thoughts = tables.get("thoughts")
    if thoughts is None or not len(thoughts):
        return
    yield Finding(
        f"Each response follows a thought of its own (median {thoughts['thinking_tokens'].median():g} tokens). Answers are read in what "
        "comes after the thought, and V and critical tokens are of those tokens, given the thought."
    )
    cut = int((~thoughts["closed"]).sum())
    if cut:
        yield Finding(
            f"{cut} of {len(thoughts)} thoughts were not closed within {settings.thinking_tokens} tokens and were closed for the model: "
            "fewer with more --thinking-tokens.",
            "warning",
        )


def _warnings(settings: Settings, tables: Tables) -> Iterator[Finding]:
    responses, positions = tables["trajectories"], tables["positions"]
    lost = responses[responses["outcome"] == "unextracted"]
    if len(lost):
        shown = ", ".join(repr(text) for text in lost["text"].head(3))
        yield Finding(
            f"{len(lost)} of {len(responses)} responses hold no answer that can be read (outcome `unextracted` in `trajectories`, such as "
            f"{shown}): not right, never analysed as wrong.",
            "warning",
        )
    asked = responses["own_sampling"].iloc[0]
    if asked:
        yield Finding(
            f"The model's own generation_config asks for {asked}; here responses are drawn with --temperature {settings.temperature:g} "
            f"--top-p {settings.top_p:g}{'' if settings.top_k is None else f' --top-k {settings.top_k}'}."
        )
    yield from _thoughts(settings, tables)
    branches = tables["branches"]
    unended = int((~responses["ended"]).sum() + (~branches["ended"]).sum())
    if unended:
        yield Finding(
            f"{unended} of {len(responses) + len(branches)} responses and rollouts were cut off at {settings.max_new_tokens} tokens.",
            "warning",
        )
    n = positions["trajectory_id"].nunique()
    if not settings.calibrate_only and n < settings.n_trajectories:
        yield Finding(
            f"Only {n} wrong trajectories with V_0 between 0.2 and 0.8 were found; more with --max-problems or other --levels.",
            "warning",
        )
    open_ = tables["candidates"]
    undecided = open_[(open_["n_pairs"] >= settings.max_pairs)]
    if len(undecided):
        needed = undecided["pairs_needed"]
        more = f"about {int(needed.max())} pairs (--max-pairs)" if (needed > 0).all() else "more pairs than can be told"
        yield Finding(
            f"{len(undecided)} of {len(open_)} candidate tokens were left undecided after {settings.max_pairs} pairs: a drop of "
            f"{settings.effect:g} at all of them would take {more}.",
            "warning",
        )
