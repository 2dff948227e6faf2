"""The tables of the joins: one class per table, one attribute per column; and `answers`, the one form that an atlas gathers."""

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from interp.experiments.atlas_tables import Answers
from interp.experiments.join import ANSWERS
from interp.tables import Schemas, TableSchema, fraction, may_lack

MEMORY_QUANTITIES = (
    "repeat_change_nats",
    "novel_change_nats",
    "repeat_beyond_novel_nats",
    "memory_lost_share",
)
CONTROLS = ("others", "nearby", "uncertain", "shuffled")
TOKEN_RULES = ("frequency", "frequent words", "word list")
GROUPS = ("function", "function words", "function signs")
STRONGEST = "top − strongest random"
"""The top heads against the draw of random heads that changes repeated lists most."""


class MemoryChange(TableSchema):
    """What silencing a set of heads does to the second list, mean over its nouns but the first; the interval resamples base
    lists.
    """

    head_set: str
    """The ranking whose top is silenced: retrieval is that of the retrieval_heads run."""
    k: int
    quantity: str = pa.Field(isin=MEMORY_QUANTITIES)
    heads: str = pa.Field(isin=["top", "random", "top − random", STRONGEST])
    value: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_base_lists: int


class CriticalMatches(TableSchema):
    """One critical token beside one set of positions of its own trajectory, by one rule of what a function token is."""

    definition: str
    """Definition of critical: paper, cliff, pivot."""
    token_rule: str = pa.Field(isin=TOKEN_RULES)
    control: str = pa.Field(isin=CONTROLS[:3])
    trajectory_id: str
    position: int
    token: str
    is_number: bool
    is_function: bool
    control_share: float = fraction(nullable=True)
    """Share of function tokens at the positions it is held against; NaN where there are none."""
    n_control: int


class CriticalOverlap(TableSchema):
    """How often critical tokens are function tokens, against one control; the intervals resample trajectories."""

    definition: str
    token_rule: str = pa.Field(isin=TOKEN_RULES)
    control: str = pa.Field(isin=CONTROLS)
    share_critical: float = fraction()
    share_critical_ci_low: float = fraction(nullable=True)
    share_critical_ci_high: float = fraction(nullable=True)
    share_control: float = fraction()
    share_control_ci_low: float = fraction(nullable=True)
    share_control_ci_high: float = fraction(nullable=True)
    """For shuffled: 95% of the shuffles."""
    difference: float
    difference_ci_low: float = may_lack()
    difference_ci_high: float = may_lack()
    p_value: float = fraction(nullable=True)
    """For shuffled: share of shuffles at least as far from their mean, two-sided."""
    n_critical: int
    n_trajectories: int


class ClassMass(TableSchema):
    """Attention that one head gives to one class of earlier tokens in one text, summed over its queries.

    The first position, the query's own and special tokens are no earlier tokens here.
    """

    context: str = pa.Field(isin=["prose", "needle"])
    """prose: every query of a passage; needle: queries at the answer of a retrieval prompt."""
    region: str = pa.Field(isin=["all", "needle"])
    """Which earlier tokens: all, or those of the needle."""
    text_id: str
    layer: int
    head: int
    token_group: str = pa.Field(isin=["function words", "function signs", "content"])
    mass: float = pa.Field(ge=0.0)
    even_mass: float = pa.Field(ge=0.0)
    """What the class would get were the head's mass on the region spread evenly over its tokens."""
    first_mass: float = pa.Field(ge=0.0)
    """Mass on the first position, the same in every class's row."""
    n_queries: int


class AttentionLift(TableSchema):
    """How much more attention a class of tokens gets per token than evenly spread attention gives; intervals resample texts."""

    context: str = pa.Field(isin=["prose", "needle"])
    region: str = pa.Field(isin=["all", "needle"])
    token_group: str = pa.Field(isin=GROUPS)
    heads: str = pa.Field(isin=["top", "random", "top − random", "all"])
    lift: float = may_lack()
    """Share of the mass divided by the share it would have evenly spread: 1 is no preference."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    mass_share: float = fraction(nullable=True)
    even_share: float = fraction(nullable=True)
    first_share: float = fraction(nullable=True)
    """Share of all attention on the first position."""
    n_texts: int
    n_draws: int


class HeadLift(TableSchema):
    """The lift of function tokens for one head, beside its retrieval score."""

    context: str
    region: str
    layer: int
    head: int
    retrieval_score: float
    retrieval_rank: int
    lift: float = may_lack()
    mass_share: float = fraction(nullable=True)
    first_share: float = fraction(nullable=True)


MEMORY_SCHEMAS: Schemas = {"memory_change": MemoryChange, ANSWERS: Answers}
CRITICAL_SCHEMAS: Schemas = {
    "critical_matches": CriticalMatches,
    "critical_overlap": CriticalOverlap,
    ANSWERS: Answers,
}
ATTENTION_SCHEMAS: Schemas = {
    "class_mass": ClassMass,
    "attention_lift": AttentionLift,
    "head_lift": HeadLift,
    ANSWERS: Answers,
}


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
    STRONGEST: "retrieval − the random heads that change it most",
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
