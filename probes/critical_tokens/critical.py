"""From rollouts to curves of V, candidates and critical tokens: what a run found, from its measured tables alone; and preference data
for training, as JSON lines with the columns prompt, chosen and rejected that TRL's DPO trainer reads.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray as Nd

from interp.tables import Tables
from probes.critical_tokens.definitions import (
    Discovery,
    Evidence,
    critical_by_rule,
    discoveries,
    evidence,
    needed_right,
    screen,
    thresholds_of,
)
from probes.critical_tokens.settings import Settings

NO_ERROR = -999


def curve_draws(settings: Settings, measured: Tables, trajectory_id: str) -> pd.DataFrame:
    """Returns the draws behind a trajectory's curve of V: the same number from every position, whatever their outcome."""
    rows = measured["rollouts"]
    arm, n = ("brute", settings.rule_rollouts) if settings.method == "brute" else ("scan", settings.scan_rollouts)
    return rows[(rows["trajectory_id"] == trajectory_id) & (rows["arm"] == arm) & (rows["draw"] < n)]


def curve(settings: Settings, measured: Tables, trajectory_id: str) -> Float[Nd, " kept"]:
    """Returns the estimated V after 0, 1, … tokens."""
    draws = curve_draws(settings, measured, trajectory_id)
    return draws.groupby("kept")["right"].mean().sort_index().to_numpy()


def candidate_tokens(settings: Settings, measured: Tables, trajectory_id: str) -> tuple[int, ...]:
    """Returns the tokens of a trajectory that deserve fresh draws."""
    spine = measured["spines"]
    p = spine[spine["trajectory_id"] == trajectory_id]["p"].to_numpy()
    return tuple(screen(p, curve(settings, measured, trajectory_id), thresholds_of(settings)))


def _arm(rows: pd.DataFrame, arm: str, kept: int) -> Bool[Nd, " draw"]:
    chosen = rows[(rows["arm"] == arm) & (rows["kept"] == kept)].sort_values("draw")
    return chosen["right"].to_numpy(dtype=bool)


def tested(settings: Settings, measured: Tables, trajectory_id: str) -> list[Evidence]:
    """Returns the evidence of the fresh pairs on every candidate of a trajectory."""
    rows = measured["rollouts"]
    rows = rows[rows["trajectory_id"] == trajectory_id]
    spine = measured["spines"]
    p = spine[spine["trajectory_id"] == trajectory_id]["p"].to_numpy()
    tokens = sorted(int(kept) for kept in rows[rows["arm"] == "without"]["kept"].unique())
    return [
        evidence(
            token,
            p[token],
            _arm(rows, "without", token),
            _arm(rows, "after", token + 1),
            thresholds_of(settings),
            len(tokens),
        )
        for token in tokens
    ]


def critical_tokens(settings: Settings, measured: Tables) -> pd.DataFrame:
    """Returns `critical`: every critical token by each requested definition."""
    spines = measured["spines"]
    errors = measured["trajectories"].set_index("trajectory_id")["first_error_position"]
    rows = []
    for id, spine in spines.groupby("trajectory_id", sort=False):
        error = int(errors[id])
        for found in _found(settings, measured, str(id)):
            token = spine.iloc[found["position"]]
            relative = found["position"] - error if error >= 0 else NO_ERROR
            shared = {name: token[name] for name in ("token_id", "token", "token_class", "p", "entropy_nats")}
            rows.append(
                shared | {"trajectory_id": id, "first_error_position": error, "relative_to_error": relative} | found
            )
    columns = ["trajectory_id", "definition", "position", "first_error_position", "relative_to_error"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def first_tokens(critical: pd.DataFrame) -> pd.DataFrame:
    """Returns the first critical token of every trajectory by the paper's rule and by cliffs: those of the causal test."""
    tested_causally = critical[critical["definition"].isin(["paper", "cliff"])]
    return tested_causally.drop_duplicates(["trajectory_id", "definition"])


def _found(settings: Settings, measured: Tables, id: str) -> Iterator[dict[str, Any]]:
    if "paper" in settings.definitions:
        yield from _by_rule(settings, measured, id)
    if settings.method == "brute":
        return
    spine = measured["spines"]
    p = spine[spine["trajectory_id"] == id]["p"].to_numpy()
    found = tested(settings, measured, id)
    for definition in ("cliff", "pivot"):
        if definition in settings.definitions and found:
            for one in discoveries(found, p, thresholds_of(settings), both_signs=definition == "pivot"):
                yield _discovered(definition, one)


def _by_rule(settings: Settings, measured: Tables, id: str) -> Iterator[dict[str, Any]]:
    if settings.method == "brute":
        right = curve_draws(settings, measured, id).groupby("kept")["right"].sum().sort_index().to_numpy()[1:]
        position = critical_by_rule(right.tolist(), settings.rule_rollouts)
        alive = np.flatnonzero(right >= needed_right(settings.rule_rollouts))
        first, last = (int(alive[-1]) + 1 if len(alive) else 0), position
    else:
        scans = measured["scans"]
        scan = scans[scans["trajectory_id"] == id].iloc[0]
        position, first, last = (int(scan[name]) for name in ("critical_position", "set_first", "set_last"))
        position = None if position < 0 else position
    if position is not None and last is not None:
        yield {
            "definition": "paper",
            "position": position,
            "drop": np.nan,
            "ci_low": np.nan,
            "ci_high": np.nan,
            "log_e_value": np.nan,
            "n_pairs": 0,
            "set_first": min(first, position),
            "set_last": max(last, position),
            "set_positions": list(range(min(first, position), max(last, position) + 1)),
        }


def _discovered(definition: str, one: Discovery) -> dict[str, Any]:
    return {
        "definition": definition,
        "position": one.evidence.token,
        "drop": one.evidence.drop,
        "ci_low": one.evidence.drop_low,
        "ci_high": one.evidence.drop_high,
        "log_e_value": one.evidence.log_e_drop if one.sign == 1 else one.evidence.log_e_rise,
        "n_pairs": one.evidence.n_pairs,
        "set_first": one.set_first,
        "set_last": one.set_last,
        "set_positions": list(one.set_tokens),
    }


# ---------------------------------------------------------------------- causal test


def causal_counts(measured: Tables, critical: pd.DataFrame) -> pd.DataFrame:
    """Returns right rollouts and all rollouts by definition, trajectory and condition of the causal test.

    Arms are named condition-position after the critical token that they test; two definitions may share one.
    """
    rollouts = measured["rollouts"]
    named = rollouts["arm"].str.extract(r"^(?P<condition>kept|forbidden|random|entropy)-(?P<position>\d+)$")
    rows = rollouts.assign(condition=named["condition"], position=named["position"]).dropna(subset=["condition"])
    rows["position"] = rows["position"].astype(int)
    tokens = first_tokens(critical)[["trajectory_id", "definition", "position"]]
    both = tokens.merge(rows, on=["trajectory_id", "position"])
    grouped = both.groupby(["definition", "condition", "trajectory_id"], sort=False)["right"]
    return grouped.agg(n_right="sum", n="size").reset_index()


def preference_documents(tables: Tables) -> Mapping[str, str]:
    """Returns two files: whole responses with a weight for every rejected token (cDPO), and single tokens."""
    return {
        "preferences_responses.jsonl": _lines(response_pairs(tables)),
        "preferences_tokens.jsonl": _lines(token_pairs(tables)),
    }


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def response_pairs(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yields for every analysed trajectory the first right response to its problem and itself.

    `rejected_token_ids` and `rejected_weights` (1 − s, the weights of cDPO) belong to its tokens; TRL ignores further columns. A
    thought is part of what is chosen or rejected; its tokens are not scored, and their weight is 0.
    """
    responses = tables["trajectories"]
    scores = tables["contrastive"]
    for id in tables["spines"]["trajectory_id"].unique():
        own = responses[responses["trajectory_id"] == id].iloc[0]
        right = responses[(responses["problem_id"] == own["problem_id"]) & (responses["outcome"] == "right")]
        if not len(right):
            continue
        best = right.iloc[0]
        row = {
            "prompt": own["prompt"],
            "chosen": _thought(tables, best["trajectory_id"])[0] + best["text"],
            "rejected": _thought(tables, id)[0] + own["text"],
        }
        weights = scores[scores["trajectory_id"] == id].sort_values("position")["score"]
        if len(weights):
            before = _thought(tables, id)[1]
            row["rejected_token_ids"] = [*before, *(int(token) for token in own["token_ids"])]
            row["rejected_weights"] = [*[0.0] * len(before), *(round(1 - float(score), 6) for score in weights)]
        yield row


def token_pairs(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yields for every cliff the token itself against the replacement that came out right most often, on fresh draws."""
    critical, branches = tables["critical"], tables["branches"]
    prompts = tables["trajectories"].set_index("trajectory_id")["prompt"]
    cliffs = critical[critical["definition"] == "cliff"]
    for id, position, token in zip(cliffs["trajectory_id"], cliffs["position"], cliffs["token"], strict=True):
        at = branches[
            (branches["trajectory_id"] == id)
            & (branches["arm"] == "without")
            & (branches["kept"] == position)
            & (branches["outcome"] == "right")
        ]
        spine = tables["spines"]
        before = spine[(spine["trajectory_id"] == id) & (spine["position"] < position)]
        if len(at):
            yield {
                "prompt": str(prompts.loc[id])
                + _thought(tables, str(id))[0]
                + "".join(before.sort_values("position")["token"]),
                "chosen": _most_common(at["token"]),
                "rejected": str(token),
            }


def _thought(tables: Tables, trajectory_id: str) -> tuple[str, list[int]]:
    """The text and the tokens of the thought before a response; nothing for a model that may not think."""
    thoughts = tables.get("thoughts")
    if thoughts is None:
        return "", []
    own = thoughts[thoughts["trajectory_id"] == trajectory_id].iloc[0]
    return str(own["thought_text"]), [int(token) for token in own["token_ids"]]


def _most_common(tokens: pd.Series) -> str:
    return str(tokens.value_counts(sort=True).index[0])
