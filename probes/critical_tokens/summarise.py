"""From rollouts to curves, candidates and critical tokens: from the measured tables alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray as Nd

from interp.sequential import pairs_needed
from interp.statistics import share_estimate, wilson_interval
from interp.tables import Tables
from probes.critical_tokens.backward import critical_by_rule, needed_right
from probes.critical_tokens.confirm import Discovery, Evidence, Thresholds, discoveries, evidence, screen
from probes.critical_tokens.settings import CriticalTokensSettings
from probes.critical_tokens.spine import certified

NO_ERROR = -999


def _thresholds(settings: CriticalTokensSettings) -> Thresholds:
    return Thresholds(settings.effect, settings.margin, settings.alpha)


def curve_draws(settings: CriticalTokensSettings, measured: Tables, trajectory_id: str) -> pd.DataFrame:
    """Returns the draws that make a trajectory's curve of V: as many from every position, whatever they came out as."""
    rows = measured["rollouts"]
    arm, n = ("brute", settings.rule_rollouts) if settings.method == "brute" else ("scan", settings.scan_rollouts)
    return rows[(rows["trajectory_id"] == trajectory_id) & (rows["arm"] == arm) & (rows["draw"] < n)]


def curve(settings: CriticalTokensSettings, measured: Tables, trajectory_id: str) -> Float[Nd, " kept"]:
    """Returns the estimated V after 0, 1, … tokens."""
    draws = curve_draws(settings, measured, trajectory_id)
    return draws.groupby("kept")["right"].mean().sort_index().to_numpy()


def candidate_tokens(settings: CriticalTokensSettings, measured: Tables, trajectory_id: str) -> tuple[int, ...]:
    """Returns the tokens of a trajectory that deserve fresh draws."""
    spine = measured["spines"]
    p = spine[spine["trajectory_id"] == trajectory_id]["p"].to_numpy()
    return tuple(screen(p, curve(settings, measured, trajectory_id), _thresholds(settings)))


def _arm(rows: pd.DataFrame, arm: str, kept: int) -> Bool[Nd, " draw"]:
    chosen = rows[(rows["arm"] == arm) & (rows["kept"] == kept)].sort_values("draw")
    return chosen["right"].to_numpy(dtype=bool)


def tested(settings: CriticalTokensSettings, measured: Tables, trajectory_id: str) -> list[Evidence]:
    """Returns what the fresh pairs say about every candidate of a trajectory."""
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
            _thresholds(settings),
            len(tokens),
        )
        for token in tokens
    ]


# ---------------------------------------------------------------------- tables


def summarise_levels(responses: pd.DataFrame, usable: list[str], first: set[str], seed: int) -> pd.DataFrame:
    """Returns `levels`: success by level over its calibration problems."""
    rows = []
    for level, group in responses[responses["problem_id"].isin(first)].groupby("level", sort=False):
        success = share_estimate((group["outcome"] == "right").to_numpy(), group["problem_id"], seed=seed)
        rows.append(
            {
                "model": group["model"].iloc[0],
                "level": level,
                "n_problems": group["problem_id"].nunique(),
                "n_responses": len(group),
                "success": success.value,
                "ci_low": success.ci_low,
                "ci_high": success.ci_high,
                "share_unextracted": (group["outcome"] == "unextracted").mean(),
                **{f"n_{name}": int((group["outcome"] == name).sum()) for name in ("right", "wrong", "unextracted")},
                "share_unended": (~group["ended"]).mean(),
                "mean_tokens": group["n_tokens"].mean(),
                "usable": level in usable,
            }
        )
    return pd.DataFrame(rows)


def summarise_positions(settings: CriticalTokensSettings, measured: Tables) -> pd.DataFrame:
    """Returns `positions`: V before and after every token of every analysed trajectory."""
    parts = []
    for id, spine in measured["spines"].groupby("trajectory_id", sort=False):
        draws = curve_draws(settings, measured, str(id))
        by_kept = draws.groupby("kept")
        right, n = by_kept["right"].sum(), by_kept.size()
        recycled = (draws["branched_at"] > draws["kept"]).groupby(draws["kept"]).sum()
        after = np.arange(1, len(spine) + 1)
        intervals = [
            wilson_interval(int(right[k]), int(n[k]), 1 - settings.alpha) if k < len(spine) else None for k in after
        ]
        parts.append(
            spine[
                ["model", "trajectory_id", "position", "token_id", "token", "token_class", "p", "entropy_nats"]
            ].assign(
                value_before=(right / n).to_numpy()[:-1],
                value=(right / n).to_numpy()[1:],
                # Behind the last token the outcome is known, not estimated.
                ci_low=[0.0 if one is None else one.ci_low for one in intervals],
                ci_high=[0.0 if one is None else one.ci_high for one in intervals],
                n_rollouts=(n - recycled).to_numpy()[1:],
                n_recycled=recycled.to_numpy()[1:],
                certified=certified(spine["p"].to_numpy(), settings.effect),
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def summarise_candidates(settings: CriticalTokensSettings, measured: Tables) -> pd.DataFrame:
    """Returns `candidates`: what fresh pairs say about every token that was tried."""
    rows = []
    for id, spine in measured["spines"].groupby("trajectory_id", sort=False):
        found = tested(settings, measured, str(id))
        p = spine["p"].to_numpy()
        for one in found:
            sought, null = settings.effect / (1 - p[one.token]), settings.margin / (1 - p[one.token])
            needed = pairs_needed(min(sought, 0.999), null, settings.alpha / (2 * len(found)))
            rows.append(
                {
                    "model": spine["model"].iloc[0],
                    "trajectory_id": id,
                    "position": one.token,
                    "p": p[one.token],
                    "n_pairs": one.n_pairs,
                    "value_without": one.without,
                    "value_after": one.after,
                    "drop": one.drop,
                    "ci_low": one.drop_low,
                    "ci_high": one.drop_high,
                    "log_e_drop": one.log_e_drop,
                    "log_e_rise": one.log_e_rise,
                    "pairs_needed": -1 if needed is None else needed,
                }
            )
    return pd.DataFrame(rows)


def critical_tokens(settings: CriticalTokensSettings, measured: Tables) -> pd.DataFrame:
    """Returns `critical`: every critical token by every definition asked for."""
    spines = measured["spines"]
    errors = measured["trajectories"].set_index("trajectory_id")["first_error_position"]
    rows = []
    for id, spine in spines.groupby("trajectory_id", sort=False):
        error = int(errors[id])
        for found in _found(settings, measured, str(id)):
            token = spine.iloc[found["position"]]
            relative = found["position"] - error if error >= 0 else NO_ERROR
            shared = {name: token[name] for name in ("model", "token_id", "token", "token_class", "p", "entropy_nats")}
            rows.append(
                shared | {"trajectory_id": id, "first_error_position": error, "relative_to_error": relative} | found
            )
    columns = ["trajectory_id", "definition", "position", "first_error_position", "relative_to_error"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def first_tokens(critical: pd.DataFrame) -> pd.DataFrame:
    """Returns the first critical token of every trajectory by the paper's rule and by cliffs: those of the causal test."""
    tested_causally = critical[critical["definition"].isin(["paper", "cliff"])]
    return tested_causally.drop_duplicates(["trajectory_id", "definition"])


def _found(settings: CriticalTokensSettings, measured: Tables, id: str) -> Iterator[dict[str, Any]]:
    if "paper" in settings.definitions:
        yield from _by_rule(settings, measured, id)
    if settings.method == "brute":
        return
    spine = measured["spines"]
    p = spine[spine["trajectory_id"] == id]["p"].to_numpy()
    found = tested(settings, measured, id)
    for definition in ("cliff", "pivot"):
        if definition in settings.definitions and found:
            for one in discoveries(found, p, _thresholds(settings), both_signs=definition == "pivot"):
                yield _discovered(definition, one)


def _by_rule(settings: CriticalTokensSettings, measured: Tables, id: str) -> Iterator[dict[str, Any]]:
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
