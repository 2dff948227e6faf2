"""The sentences of the joins: what the runs say together, with intervals, controls, and what is not decided."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from interp.experiments.experiment import Finding
from interp.heads.given import sentences_on_ties
from interp.tables import Tables
from probes.joined.tables import STRONGEST, headline_change

FEW_CRITICAL = 30
"""Fewer critical tokens than this leave an interval too wide for small differences: the report says so."""
_PLACES = {("prose", "all"): "In prose", ("needle", "all"): "While answering", ("needle", "needle"): "Within needles"}
Row = Mapping[Any, Any]


# ---------------------------------------------------------------------- retrieval heads and memory


def find_memory(tables: Tables) -> list[Finding]:
    """Returns the sentences of `memory_change`."""
    change = tables["memory_change"]
    own = headline_change(change)
    rows = {(row["quantity"], row["heads"]): row for row in own.to_dict("records")}
    k, n = int(own["k"].iloc[0]), int(own["n_base_lists"].iloc[0])
    nats = {key: with_interval(row, "+.2f") for key, row in rows.items()}
    share = with_interval(rows["memory_lost_share", "top"], ".0%")
    findings = [
        Finding(
            f"{_memory_verdict(rows)} Silencing the top {k} retrieval heads while the second list is read changes the surprisal of a "
            f"repeated noun by {nats['repeat_change_nats', 'top']} nats; {k} random heads of the same layers change it by "
            f"{nats['repeat_change_nats', 'random']}, which makes {nats['repeat_change_nats', 'top − random']} between them, and "
            f"{nats['repeat_change_nats', STRONGEST]} against the draw that changes it most. A noun of "
            f"a novel list changes by {nats['novel_change_nats', 'top']}, so {nats['repeat_beyond_novel_nats', 'top']} is lost of memory "
            f"rather than of reading ({over(n, 'base list', 'base lists')})."
        ),
        Finding(
            "Memory is how much less surprising nouns are when they come back than in a novel list; without the top "
            f"{k} retrieval heads {share} of it is lost."
        ),
    ]
    others = change[
        (change["quantity"] == "memory_lost_share") & (change["k"] == k) & (change["head_set"] != "retrieval")
    ]
    if len(others):
        beside = ", ".join(f"{row['head_set']} {with_interval(row, '.0%')}" for row in others.to_dict("records"))
        findings.append(Finding(f"Without the top {k} heads of other rankings: {beside}."))
    return findings


def _memory_verdict(rows: Mapping[tuple[str, str], Row]) -> str:
    """All controls must say so: random heads of the same layers, each draw of them, and a list that was not there before."""
    signs = {
        sign_of(rows["repeat_change_nats", "top − random"]),
        sign_of(rows["repeat_beyond_novel_nats", "top"]),
    }
    if None in signs:
        return "Whether retrieval heads carry verbatim memory cannot be told from one base list."
    if signs == {1}:
        if sign_of(rows["repeat_change_nats", STRONGEST]) == 1:
            return "Retrieval heads carry verbatim memory."
        return "It is not decided whether retrieval heads carry verbatim memory: a draw of random heads changes it as much."
    if -1 in signs or signs == {0}:
        return "There is no sign that retrieval heads carry verbatim memory."
    return "It is not decided whether retrieval heads carry verbatim memory: one of the two controls may explain the change."


# ---------------------------------------------------------------------- critical and function tokens


def find_critical(tables: Tables) -> list[Finding]:
    """Returns the sentences of `critical_overlap`, for each definition of critical."""
    overlap = tables["critical_overlap"]
    if not len(overlap):
        return [
            Finding(
                "No token of the critical_tokens run was critical by any definition, so the question has no answer here: give that "
                "run more trajectories.",
                "warning",
            )
        ]
    findings = [
        finding
        for definition, part in overlap.groupby("definition", sort=False)
        for finding in _overlap(str(definition), part)
    ]
    matches = tables["critical_matches"].drop_duplicates(["definition", "trajectory_id", "position"])
    for definition, part in matches.groupby("definition", sort=False):
        shown = ", ".join(repr(token) for token in part["token"].head(8))
        findings.append(
            Finding(
                f"Of {len(part)} tokens that are critical by the definition {definition}, {part['is_number'].mean():.0%} are numbers; "
                f"the first are {shown}."
            )
        )
    most = int(overlap["n_critical"].max())
    if most < FEW_CRITICAL:
        findings.append(
            Finding(
                f"No definition has more than {most} critical tokens, so the intervals are wide: only a large difference could be seen.",
                "warning",
            )
        )
    return findings


def _overlap(definition: str, part: pd.DataFrame) -> Iterator[Finding]:
    rows = {(row["token_rule"], row["control"]): row for row in part.to_dict("records")}
    absent = [rule for rule in dict.fromkeys(part["token_rule"]) if _is_absent(part[part["token_rule"] == rule])]
    if absent:
        yield Finding(
            f"No token of the trajectories with critical tokens ({definition}) is a function token by {' or by '.join(absent)}: by that "
            "rule there is nothing to coincide with in these tasks."
        )
    for rule in dict.fromkeys(part["token_rule"]):
        if rule in absent:
            continue
        shuffled = rows[rule, "shuffled"]
        against = ", ".join(
            f"{control} {in_points(rows[rule, control], 'difference')}"
            for control in ("others", "nearby", "uncertain")
            if (rule, control) in rows
        )
        yield Finding(
            f"Critical tokens ({definition}) and function tokens ({rule}) {_overlap_verdict(rows.get((rule, 'others')))}: of "
            f"{shuffled['n_critical']} critical tokens {with_interval(shuffled, '.0%', 'share_critical')} are function tokens. Points "
            f"above their controls: {against}. At shuffled positions {with_interval(shuffled, '.0%', 'share_control')}, p = "
            f"{shuffled['p_value']:.3f} ({shuffled['n_trajectories']} trajectories)."
        )


def _is_absent(rows: pd.DataFrame) -> bool:
    """Whether neither critical tokens nor any others of their trajectories are function tokens by a rule."""
    return bool((rows["share_critical"] == 0).all() and (rows["share_control"] == 0).all())


def _overlap_verdict(others: Row | None) -> str:
    if others is None:
        return "have nothing to be held against"
    return {
        None: "cannot be compared from one trajectory",
        1: "coincide more than other tokens do",
        0: "show no difference from other tokens",
        -1: "coincide less than other tokens do",
    }[sign_of(others, "difference")]


# ---------------------------------------------------------------------- retrieval heads and function tokens


def find_attention(tables: Tables, k: int) -> list[Finding]:
    """Returns the sentences of `attention_lift`, one for each place, and a warning where the top k heads are no ranking's."""
    found = [
        _attention(_PLACES[str(context), str(region)], part, k)
        for (context, region), part in tables["attention_lift"].groupby(["context", "region"], sort=False)
    ]
    heads = tables["head_lift"].drop_duplicates(["layer", "head"])
    scores = heads["retrieval_score"].sort_values(ascending=False)
    return [*found, *(Finding(text, "warning") for text in sentences_on_ties(scores, (k,), "the retrieval heads"))]


def _attention(place: str, part: pd.DataFrame, k: int) -> Finding:
    rows = {(row["token_group"], row["heads"]): row for row in part.to_dict("records")}
    lift = {key: with_interval(row, ".2f", "lift") for key, row in rows.items()}
    top = rows["function", "top"]
    difference = with_interval(rows["function", "top − random"], "+.2f", "lift")
    return Finding(
        f"{place}, retrieval heads {_lift_verdict(rows)}: {top['mass_share']:.0%} of what the top {k} look back at are function tokens, "
        f"which are {top['even_share']:.0%} of the tokens there, a lift of {lift['function', 'top']}. Random heads of the same layers: "
        f"{lift['function', 'random']} (difference {difference}). Function words alone: {lift['function words', 'top']}; signs: "
        f"{lift['function signs', 'top']}. {top['first_share']:.0%} of all their attention rests on the first position and is left "
        f"out ({over(int(top['n_texts']), 'text', 'texts')})."
    )


def _lift_verdict(rows: Mapping[tuple[str, str], Row]) -> str:
    own, beside = rows["function", "top"], sign_of(rows["function", "top − random"])
    if beside is None:
        return "cannot be said to prefer or avoid function tokens, since there is no interval to tell by"
    if own["ci_low"] > 1:
        preference = "look at function tokens more than their number explains"
    elif own["ci_high"] < 1:
        preference = "look at function tokens less than their number explains"
    else:
        preference = "neither prefer nor avoid function tokens"
    held = "less than" if beside < 0 else "more than" if beside > 0 else "no differently from"
    return f"{preference}, and {held} random heads on average"


# ---------------------------------------------------------------------- numbers in sentences


def with_interval(row: Row, format: str, value: str = "value") -> str:
    """Returns "0.12 [0.10, 0.15]": a column of the row with its interval, or the number alone where it has none."""
    low, high = _bounds(row, value)
    shown = f"{row[value]:{format}}"
    return shown if math.isnan(low) else f"{shown} [{low:{format}}, {high:{format}}]"


def in_points(row: Row, value: str) -> str:
    """Returns a difference of shares with its interval in percentage points: "+12 [-3, +20]"."""
    scaled = {name: 100 * number for name, number in row.items() if name.startswith(value)}
    return with_interval(scaled, "+.0f", value)


def sign_of(row: Row, value: str = "value") -> int | None:
    """Returns 1 or -1 where the whole interval lies on that side of 0, 0 where it holds 0, None where there is none."""
    low, high = _bounds(row, value)
    return None if math.isnan(low) else int(low > 0) - int(high < 0)


def over(n: int, one: str, several: str) -> str:
    """Returns what intervals resample, as "95% intervals over 12 texts": of one there are none."""
    return f"one {one}, so no intervals" if n == 1 else f"95% intervals over {n} {several}"


def _bounds(row: Row, value: str) -> tuple[float, float]:
    """The interval of a column: in columns that begin with its name, or of the row's only one."""
    prefix = f"{value}_ci" if f"{value}_ci_low" in row else "ci"
    return float(row[f"{prefix}_low"]), float(row[f"{prefix}_high"])
