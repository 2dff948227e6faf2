"""What the tables of training_memory say, sentence by sentence."""

from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.tables import Tables
from probes.training_memory.plan import ROLES, random_name
from probes.training_memory.summaries import AGAINST_TWIN, AT_START, lost_without

NEAR_ALL = 0.9
"""Recognition or recall from which on it is called near the ceiling."""


def find(tables: Tables) -> list[Finding]:
    """Returns what is recognised, recalled and forgotten, what carries it, and which training was stopped."""
    return [
        *_of_study(tables["recognised"], tables["recalled"]),
        *_of_time(tables["lasting"]),
        *_of_layers(tables["carriers"]),
        *_of_values(tables["known_values"]),
        *_of_duplicates(tables["by_duplicates"], tables["duplicate_effects"]),
        *_of_stops(tables["updates"]),
    ]


def said(value: float, low: float, high: float) -> str:
    """Returns a number with its interval."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _estimate(row: Any) -> str:
    return said(row["value"], row["ci_low"], row["ci_high"])


def _one(table: pd.DataFrame, stem: str) -> str:
    row = table.iloc[0]
    return said(row[stem], row[f"{stem}_ci_low"], row[f"{stem}_ci_high"])


def _of_study(recognised: pd.DataFrame, recalled: pd.DataFrame) -> list[Finding]:
    found = []
    for (condition, rate), rows in recognised.groupby(["condition", "learning_rate"], sort=False):
        recall = recalled[(recalled["condition"] == condition) & (recalled["learning_rate"] == rate)]
        for exposures in (0, 1, int(rows["exposures"].max())):
            at = rows[rows["exposures"] == exposures]
            of = recall[recall["exposures"] == exposures]
            if not len(at):
                continue
            foils = [f"{foil} {_one(part, 'recognised')}" for foil, part in at.groupby("foil", sort=False)]
            found.append(
                Finding(
                    f"{condition} sentences, learning rate {rate:g}, {exposures} exposures: recognised against foils ({', '.join(foils)}); "
                    f"recall of the second half {_one(of, 'second')}, chance {_one(of, 'another')}. Scored as in the released code, with "
                    f"the given half in both texts, recall is {_one(of, 'released')}, with a floor of {of.iloc[0]['floor']:.2f}. "
                    f"n = {at.iloc[0]['n']}."
                )
            )
    return found


def _of_time(lasting: pd.DataFrame) -> list[Finding]:
    found = []
    for (rate, measure), rows in lasting.groupby(["learning_rate", "measure"], sort=False):
        at = rows.set_index("updates_since")
        if 0 not in at.index or at.index.max() <= 0:
            continue
        last = at.index.max()
        parts = [
            f"{name} {_estimate(at.loc[updates])}"
            for name, updates in (
                ("before training", -1),
                ("after it", 0),
                (f"{last} updates on other text later", last),
            )
        ]
        found.append(Finding(f"Learning rate {rate:g}, {measure}: {', '.join(parts)}."))
    return found


def _of_layers(carriers: pd.DataFrame) -> list[Finding]:
    found = []
    for (rate, measure), rows in carriers.groupby(["learning_rate", "measure"], sort=False):
        own, control = rows[~rows["control"]], rows[rows["control"]].set_index("taken_back")
        excess = own["value"] - own["taken_back"].map(control["value"])
        place: Any = excess.idxmax()
        most: Any = own.loc[place]
        beside: Any = control.loc[most["taken_back"]]
        verdict = "more" if most["ci_low"] > beside["ci_high"] else "not shown to be more"
        found.append(
            Finding(
                f"Learning rate {rate:g}, loss of {measure}: resetting {most['taken_back']} costs most for its size, {_estimate(most)}, "
                f"{verdict} than resetting random parameters with the same share of the squared change, {_estimate(beside)}."
            )
        )
    return found


def _of_values(known: pd.DataFrame) -> list[Finding]:
    found = []
    plain = known[known["instruction"] == "none"]
    for in_window, rows in plain.groupby("in_window", sort=False):
        at = rows.set_index("null")
        true: Any = at.loc["none"]
        over = [f"{name} {_estimate(at.loc[name])}" for name in at.index if name != "none"]
        highest = max(at.loc[name, "ci_high"] for name in at.index if name != "none")
        verdict = "known" if true["ci_low"] > max(highest, 0) else "not shown to be known"
        found.append(
            Finding(
                f"Annual values {'inside' if in_window else 'outside'} the training window: ln p of the true value is "
                f"{_estimate(true)} above that of nearby values; nulls: {', '.join(over)}. "
                f"They are {verdict} (n = {true['n']})."
            )
        )
    return found


def _of_duplicates(by_duplicates: pd.DataFrame, effects: pd.DataFrame) -> list[Finding]:
    found = []
    recall = by_duplicates[
        (by_duplicates["measure"] == "recall") & (by_duplicates["place"] == "start") & (by_duplicates["off"] == "none")
    ]
    effects = effects[effects["measure"] == "recall"]
    for checkpoint, rows in recall.groupby("checkpoint", sort=False):
        few, many = (
            rows.loc[rows["duplicates"] == end].iloc[0] for end in (rows["duplicates"].min(), rows["duplicates"].max())
        )
        twin = ", the twin that was trained without them," if many["is_twin"] else ""
        found.append(
            Finding(
                f"{checkpoint}{twin} recalls {_estimate(many)} of the second half of texts with {many['duplicates']} duplicates, and of "
                f"those with {few['duplicates']} {_estimate(few)} (n = {many['n']} and {few['n']})."
            )
        )
        most = effects[(effects["checkpoint"] == checkpoint) & (effects["duplicates"] == many["duplicates"])]
        found += _of_most(str(checkpoint), int(many["duplicates"]), most.set_index(["place", "effect"]))
    return found


def _of_most(checkpoint: str, duplicates: int, effects: pd.DataFrame) -> list[Finding]:
    """What is said of the texts with most duplicates: against the twin, at the start, and with heads switched off."""

    def told(place: str, effect: str) -> str:
        return _estimate(effects.loc[(place, effect)])

    texts = f"{checkpoint}, texts with {duplicates} duplicates"
    found = []
    for effect in (AGAINST_TWIN, AT_START):
        if ("start", effect) in effects.index:
            row: Any = effects.loc[("start", effect)]
            shown = unshown(row["ci_low"], row["ci_high"])
            found.append(Finding(f"{texts}: recall {effect} is {told('start', effect)}{shown}."))
    for role in ROLES:
        own, control = lost_without(role), lost_without(random_name(role))
        if ("start", own) in effects.index:
            parts = [
                f"{told(place, own)} {words}{unshown(*effects.loc[(place, own), ['ci_low', 'ci_high']])} "
                f"(random heads {told(place, control)})"
                for place, words in (
                    ("start", "at the start"),
                    ("copied", "if the window already contains the text"),
                )
            ]
            found.append(Finding(f"{texts}: with {role} heads ablated, recall loses {' and '.join(parts)}."))
    return found


def _of_stops(updates: pd.DataFrame) -> list[Finding]:
    stopped = updates[updates["stopped"] != ""]
    return [
        Finding(
            f"Training on {row.condition} sentences with learning rate {row.learning_rate:g} was stopped in exposure {row.exposure}, "
            f"because {row.stopped}: its tables end before that; use a smaller value of --learning-rates.",
            "warning",
        )
        for row in stopped.itertuples()
    ]
