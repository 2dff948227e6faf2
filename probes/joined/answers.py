"""The numbers that answer each joined question, in the one form that an atlas gathers."""

from typing import Any

import pandas as pd

from interp.tables import empty
from probes.joined.tables import MEMORY_SCHEMAS

HEADLINE_K = 10
"""Silent heads that the answers speak of, where this size was measured; else the largest."""

_MEMORY = {
    "repeat_change_nats": "change of surprisal per noun of a repeated list, nats",
    "novel_change_nats": "change of surprisal per noun of a novel list, nats",
    "repeat_beyond_novel_nats": "change of a repeated list beyond that of a novel one, nats",
    "memory_lost_share": "share of memory lost",
}
_HEADS = {
    "top": "{k} retrieval heads silent",
    "random": "{k} random heads of the same layers silent",
    "top − random": "retrieval − random heads",
}

_TOKENS = {"function": "function tokens", "function words": "function words", "function signs": "function signs"}
_PLACES = {
    ("prose", "all"): "in prose",
    ("needle", "all"): "in retrieval prompts",
    ("needle", "needle"): "within needles",
}


def headline_change(change: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of `memory_change` about retrieval heads at the size that sentences speak of."""
    own = change[change["head_set"] == "retrieval"]
    k = HEADLINE_K if (own["k"] == HEADLINE_K).any() else own["k"].max()
    return own[own["k"] == k]


def memory_answers(change: pd.DataFrame) -> pd.DataFrame:
    """Returns `answers` from `memory_change`."""
    return _answers(
        [
            {
                "quantity": _MEMORY[row["quantity"]],
                "about": _HEADS[row["heads"]].format(k=row["k"]),
                "value": row["value"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "n": row["n_base_lists"],
                "resampled": "base lists",
            }
            for row in headline_change(change).to_dict("records")
        ]
    )


def critical_answers(overlap: pd.DataFrame) -> pd.DataFrame:
    """Returns `answers` from `critical_overlap`: both shares and their difference, for every definition, rule and control."""
    return _answers(
        [
            {
                "quantity": f"share of function tokens ({row['token_rule']})",
                "about": about.format_map(row),
                "value": row[column],
                "ci_low": row[f"{column}_ci_low"],
                "ci_high": row[f"{column}_ci_high"],
                "n": row["n_trajectories"],
                "resampled": "shuffles"
                if row["control"] == "shuffled" and column == "share_control"
                else "trajectories",
            }
            for row in overlap.to_dict("records")
            for column, about in (
                ("share_critical", "{n_critical} critical tokens ({definition}), held against {control}"),
                ("share_control", "{control} of critical tokens ({definition})"),
                ("difference", "critical ({definition}) − {control}"),
            )
        ]
    )


def attention_answers(lift: pd.DataFrame, k: int) -> pd.DataFrame:
    """Returns `answers` from `attention_lift`."""
    heads = {"top": f"{k} retrieval heads", "random": "random heads of the same layers", "all": "all heads"}
    return _answers(
        [
            {
                "quantity": f"lift of {_TOKENS[row['token_group']]}, {_PLACES[row['context'], row['region']]}",
                "about": heads.get(str(row["heads"]), "retrieval − random heads"),
                "value": row["lift"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "n": row["n_texts"],
                "resampled": "texts",
            }
            for row in lift.to_dict("records")
        ]
    )


def _answers(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows) if rows else empty(MEMORY_SCHEMAS["answers"])
