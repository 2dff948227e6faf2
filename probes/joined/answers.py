"""The numbers that answer each joined question, in the one form that an atlas gathers."""

from typing import Any

import numpy as np
import pandas as pd

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
    rows = headline_change(change)
    about = [_HEADS[heads].format(k=k) for heads, k in zip(rows["heads"], rows["k"], strict=True)]
    return _answers(rows, rows["quantity"].map(_MEMORY), about, "base lists", n="n_base_lists")


def critical_answers(overlap: pd.DataFrame) -> pd.DataFrame:
    """Returns `answers` from `critical_overlap`: both shares and their difference, for every definition, rule and control."""
    frames = []
    for name, about in (
        ("share_critical", "{n_critical} critical tokens ({definition}), held against {control}"),
        ("share_control", "{control} of critical tokens ({definition})"),
        ("difference", "critical ({definition}) − {control}"),
    ):
        own = {name: "value", f"{name}_ci_low": "ci_low", f"{name}_ci_high": "ci_high"}
        quantity = "share of function tokens (" + overlap["token_rule"] + ")"
        dealt = (overlap["control"] == "shuffled") & (name == "share_control")
        resampled = np.where(dealt, "shuffles", "trajectories")
        told = [about.format_map(row) for row in overlap.to_dict("records")]
        frames.append(_answers(overlap.rename(columns=own), quantity, told, resampled, n="n_trajectories"))
    return pd.concat(frames).sort_index(kind="stable", ignore_index=True)


def attention_answers(lift: pd.DataFrame, k: int) -> pd.DataFrame:
    """Returns `answers` from `attention_lift`."""
    heads = {"top": f"{k} retrieval heads", "random": "random heads of the same layers", "all": "all heads"}
    quantity = [
        f"lift of {_TOKENS[group]}, {_PLACES[context, region]}"
        for group, context, region in zip(lift["token_group"], lift["context"], lift["region"], strict=True)
    ]
    about = lift["heads"].map(heads).fillna("retrieval − random heads")
    return _answers(lift.rename(columns={"lift": "value"}), quantity, about, "texts", n="n_texts")


def _answers(rows: pd.DataFrame, quantity: Any, about: Any, resampled: Any, *, n: str) -> pd.DataFrame:
    found = rows[["value", "ci_low", "ci_high", n]].rename(columns={n: "n"}).reset_index(drop=True)
    return found.assign(quantity=list(quantity), about=list(about), resampled=resampled)
