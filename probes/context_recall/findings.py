"""The sentences of a context_recall report: floors first, then recall, where questions fail, causes, lengths, order and prose."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.heads.given import sentences_on
from interp.heads.kinds import GIVEN
from interp.tables import Tables
from probes.context_recall.plan import AT_RANDOM, KEPT_BY, MOVED_BY
from probes.context_recall.prose_summaries import ALL
from probes.context_recall.settings import Settings

FEWEST_CONTEXTS = 5
"""Contexts of a cell below which a sentence says nothing on it."""


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    found = [
        *_floors(tables["recall"], tables["order"]), *_recall(tables["recall"]), *_stages(tables), *_causes(tables["causes"]),
        *find_kept(settings, tables),
        *_lengths(tables["effective"]), *_order(tables["order"]), *_prose(tables["slice_causes"]), *_heads(tables),
    ]  # fmt: skip
    if GIVEN in tables and len(tables["heads"]):
        n = int((tables["heads"]["role"] == "retrieval").mul(tables["heads"]["is_in_role"]).sum())
        found += [Finding(text, "warning" if warns else "result") for text, warns in sentences_on(tables[GIVEN], [n])]
    return found


def _interval(row: Any, name: str = "value") -> str:
    value = getattr(row, name)
    prefix = "" if name == "value" else f"{name}_"
    return f"{value:.0%} [{getattr(row, prefix + 'ci_low'):.0%}, {getattr(row, prefix + 'ci_high'):.0%}]"


def _floors(recall: pd.DataFrame, order: pd.DataFrame) -> Iterator[Finding]:
    """Order counts by its four presentations together: one by itself shows a bias for a label."""
    rows = recall[recall["is_floor"] & ~recall["is_length"]]
    if len(rows):
        above = rows[(rows["right_ci_low"] > rows["chance"]) & (rows["task"] != "order")]
        together = order[(order["distance"] == ALL) & (order["quantity"] == "right") & (order["ci_low"] > 0.5)]
        names = ", ".join(dict.fromkeys(rows["task"]))
        said = ", ".join(
            [
                *(
                    f"{row.task} {row.cell} {_interval(row, 'right')}, chance {row.chance:.0%}"
                    for row in above.itertuples()
                ),
                *(f"order, {row.text}, {_interval(row)}, chance 50%" for row in together.itertuples()),
            ]
        )
        yield Finding(
            f"Expected at chance in a model of about a hundred million parameters, before the run: {names}. "
            + (
                f"Above it (95% interval): {said}."
                if said
                else "All of them are at chance: they say nothing more about this model."
            ),
            "warning",
        )


def _recall(recall: pd.DataFrame) -> Iterator[Finding]:
    rows = recall[~recall["is_length"] & ~recall["is_floor"]]
    for task, part in rows.groupby("task", sort=False):
        cells: Any = part.itertuples()
        said = "; ".join(
            f"{' '.join(filter(None, (row.cell, row.kind if row.kind not in row.cell else '')))} {_interval(row, 'right')}, chance "
            f"{row.chance:.0%}, greedy {row.said:.0%}"
            for row in cells
        )
        yield Finding(f"{task}, the right value is the most likely of all values in the context: {said}.")


def _stages(tables: Tables) -> Iterator[Finding]:
    stages, found = tables["stages"], tables["found"]
    if not len(stages):
        if len(found):
            yield Finding(
                "This model has no heads that can be studied, so only bound and said are distinguished.", "warning"
            )
        return
    failed = stages[~stages["stage"].isin(["said", "right, not found"])]
    failed = failed[failed["value"] > 0].sort_values("value", ascending=False, kind="stable")
    worst = failed.groupby("task", sort=False).head(1)
    said = ", ".join(f"{row.task} {row.stage} {_interval(row)}" for row in worst.itertuples())
    if said:
        yield Finding(f"Where most questions of a task fail: {said}.")
    blind = stages[(stages["stage"] == "right, not found") & (stages["ci_low"] > 0)]
    if len(blind):
        said = ", ".join(f"{row.task} {_interval(row)}" for row in blind.itertuples())
        yield Finding(
            f"Right although retrieval heads attend more to another pair, so because of other heads or chance: {said}."
        )


def _causes(causes: pd.DataFrame) -> Iterator[Finding]:
    rows = causes[causes["quantity"] == "first_margin_nats"]
    moved = [name for name in rows["condition"].unique() if name.startswith(MOVED_BY)]
    for condition in ("without retrieval", "without induction", "cut to pair", "cut to others", "cut to sink", *moved):
        part = rows[rows["condition"] == condition]
        if not len(part):
            continue
        shown = part[(part["beyond_ci_low"] > 0) | (part["beyond_ci_high"] < 0)]
        said = ", ".join(
            f"{row.task} {row.beyond:+.2f} [{row.beyond_ci_low:.2f}, {row.beyond_ci_high:.2f}]"
            for row in shown.itertuples()
        )
        rest = [task for task in part["task"] if task not in set(shown["task"])]
        yield Finding(
            f"{_named(condition)}, nats: {said or 'none shown'}."
            + (f" Not shown (interval contains 0): {', '.join(rest)}." if rest and said else "")
        )


def _named(condition: str) -> str:
    if condition.startswith(MOVED_BY):
        return f"Question {condition} positions, text unchanged, margin lost (below 0: gained)"
    return f"{condition.capitalize()}, margin lost beyond its control"


def _lengths(effective: pd.DataFrame) -> Iterator[Finding]:
    rows: Any = effective[effective["unit"] == "tokens"].itertuples()
    for row in rows:
        if row.value == 0:
            yield Finding(
                f"Recall of passwords is below {row.threshold:.1%} at every length: no effective length is shown.",
                "warning",
            )
            continue
        at_least = "at least " if row.value >= row.longest else ""
        yield Finding(
            f"Recall of passwords stays at {row.threshold:.1%} or above up to {at_least}{row.value:.0f} tokens [{row.ci_low:.0f}, "
            f"{row.ci_high:.0f}]; the longest context measured has {row.longest:.0f}."
        )


def _order(order: pd.DataFrame) -> Iterator[Finding]:
    rows = order[order["distance"] == ALL]
    right, label = (rows[rows["quantity"] == name] for name in ("right", "label"))
    if len(right):
        said = ", ".join(f"{row.text} {_interval(row)}" for row in right.itertuples())
        yield Finding(f"Which part came first, over four presentations (chance 50%), by text: {said}.")
        said = ", ".join(
            f"{row.text} {row.value:+.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]" for row in label.itertuples()
        )
        yield Finding(f"Bias for the label A in single presentations, nats, by text: {said}.")


def _prose(causes: pd.DataFrame) -> Iterator[Finding]:
    rows: Any = causes.itertuples()
    for row in rows:
        yield Finding(
            f"In prose, {row.condition}, nats that repeated bigrams lose beyond the control ({row.control}): {row.value:+.2f} "
            f"[{row.ci_low:.2f}, {row.ci_high:.2f}]{unshown(row.ci_low, row.ci_high)}."
        )


def _heads(tables: Tables) -> Iterator[Finding]:
    heads = tables["heads"]
    if not len(heads):
        return
    role = {
        name: set(zip(rows["layer"], rows["head"], strict=True))
        for name, rows in heads[heads["is_in_role"]].groupby("role")
    }
    both = role["retrieval"] & role["induction"]
    yield Finding(
        f"Of the {len(role['retrieval'])} retrieval and {len(role['induction'])} induction heads that are ablated, {len(both)} are "
        f"the same{'; the effects of shared heads cannot be separated' if both else ''}."
    )
    if not len(tables["layer_margins"]):
        yield Finding(
            "The residual stream cannot be read through the unembedding, so there are no margins by layer.",
            "warning",
        )


def find_kept(settings: Settings, tables: Tables) -> Iterator[Finding]:
    """Yields a sentence for every policy, and one for each reason for which any could not act."""
    if not settings.policies:
        return
    if not len(tables["heads"]):
        yield Finding(
            "Retention policies act on the keys of attention heads, and this model has none that can be studied: they are not "
            "measured.",
            "warning",
        )
        return
    causes, left = tables["causes"], tables["survival"]
    for condition in dict.fromkeys(tables["kept"].loc[tables["kept"]["refusal"] == "", "condition"]):
        if condition != AT_RANDOM:
            yield Finding(
                f"{condition.capitalize()} ({settings.kept_share:.0%} of the context's keys): {_margins(causes, condition)} "
                f"{_left(left, condition)}"
            )
    yield from _refusals(tables["kept"])


def _margins(causes: pd.DataFrame, condition: str) -> str:
    """What a policy costs beyond random keys, tasks whose interval holds 0 by name alone."""
    rows = causes[(causes["condition"] == condition) & (causes["quantity"] == "first_margin_nats")]
    shown = rows[(rows["beyond_ci_low"] > 0) | (rows["beyond_ci_high"] < 0)]
    said = ", ".join(
        f"{row.task} {row.beyond:+.2f} [{row.beyond_ci_low:.2f}, {row.beyond_ci_high:.2f}]"
        for row in shown.itertuples()
    )
    rest = [task for task in rows["task"] if task not in set(shown["task"])]
    unshown = f" Not shown (interval contains 0): {', '.join(rest)}." if rest and said else ""
    return f"margin lost beyond keys kept at random, nats: {said or 'none shown'}.{unshown}"


def _left(left: pd.DataFrame, condition: str) -> str:
    """How much of the right pair is left, in the tasks where that differs from random keys."""
    rows = left[(left["condition"] == condition) & (left["quantity"] == "pair_kept")]
    shown = rows[(rows["beyond_ci_low"] > 0) | (rows["beyond_ci_high"] < 0)]
    said = ", ".join(
        f"{row['task']} {row['value']:.0%} against {row['random']:.0%}, {100 * row['beyond']:+.0f} points "
        f"[{100 * row['beyond_ci_low']:+.0f}, {100 * row['beyond_ci_high']:+.0f}]"
        for row in shown.to_dict("records")
    )
    rest = [task for task in rows["task"] if task not in set(shown["task"])]
    unshown = f" No difference from random keys is shown: {', '.join(rest)}." if rest and said else ""
    return (
        f"Share of the right pair's keys that it keeps, against random keys: {said or 'no difference shown'}.{unshown}"
    )


def _refusals(kept: pd.DataFrame) -> Iterator[Finding]:
    refused = kept[kept["refusal"] != ""]
    for reason, rows in refused.groupby("refusal", sort=False):
        names = ", ".join(dict.fromkeys(name.removeprefix(KEPT_BY) for name in rows["condition"]))
        tasks = ", ".join(dict.fromkeys(rows["task"]))
        yield Finding(f"Not measured, {tasks} kept by {names}: {reason}", "warning")
