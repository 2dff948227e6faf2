"""The sentences on retention policies: what they cost beyond random keys, what they leave of the right pair, and where none acted."""

from collections.abc import Iterator

import pandas as pd

from interp.experiments.experiment import Finding
from interp.tables import Tables
from probes.context_recall.plan import KEPT_BY
from probes.context_recall.settings import Settings
from probes.context_recall.survival import AT_RANDOM


def find_kept(settings: Settings, tables: Tables) -> Iterator[Finding]:
    """Yields a sentence for every policy, and one for each reason for which any could not act."""
    if not settings.policies:
        return
    if not len(tables["heads"]):
        yield Finding(
            "Retention policies act on the keys of attention heads and this model has none that can be looked at: nothing is "
            "said of them.",
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
    unshown = f" Not shown (interval holds 0): {', '.join(rest)}." if rest and said else ""
    return f"margin lost beyond keys kept at random, nats: {said or 'none shown'}.{unshown}"


def _left(left: pd.DataFrame, condition: str) -> str:
    """How much of the right pair is left, in the tasks where that differs from random keys."""
    rows = left[(left["condition"] == condition) & (left["quantity"] == "pair_kept")]
    shown = rows[(rows["beyond_ci_low"] > 0) | (rows["beyond_ci_high"] < 0)]
    said = ", ".join(
        f"{row.task} {row.value:.0%} [{row.ci_low:.0%}, {row.ci_high:.0%}] against {row.random:.0%}"
        for row in shown.itertuples()
    )
    rest = [task for task in rows["task"] if task not in set(shown["task"])]
    unshown = f" No difference from random keys is shown: {', '.join(rest)}." if rest and said else ""
    return (
        f"Share of the right pair's keys that it leaves, against random keys: {said or 'no difference shown'}.{unshown}"
    )


def _refusals(kept: pd.DataFrame) -> Iterator[Finding]:
    refused = kept[kept["refusal"] != ""]
    for reason, rows in refused.groupby("refusal", sort=False):
        names = ", ".join(dict.fromkeys(name.removeprefix(KEPT_BY) for name in rows["condition"]))
        tasks = ", ".join(dict.fromkeys(rows["task"]))
        yield Finding(f"Not measured, {tasks} kept by {names}: {reason}", "warning")
