"""The tables of the text-to-image flow experiment: one class per table, one attribute per column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack

PARTS = ["in_item", "inter_item", "repair"]


class _Verdict(TableSchema):
    """A judge's answer to one question about one picture; NaN where it failed, or does not look at that."""

    item_id: str
    asked: str = pa.Field(isin=["own", "leak"])
    """own: the item as it should look; leak: as it looks when something else got into it."""
    description: str
    visible: float = fraction(nullable=True)
    colour_right: float = fraction(nullable=True)
    shape_right: float = fraction(nullable=True)
    score: float = may_lack()
    failure: str
    """Why the judge gave no answer; empty when it did."""


class Variants(_Verdict):
    """One question about the picture of one variant of a prompt from one seed's noise."""

    prompt_id: str
    group: str
    part: str = pa.Field(isin=PARTS)
    variant: str
    token_role: str
    source_item: str
    """The item whose vectors are kept or pasted; empty where it is none's."""
    encoder: str
    kept_positions: str
    """Positions kept, taken away or pasted, as the variant says: "2 3"."""
    kept_tokens: str
    seed: int
    pixel_change: float = may_lack()
    """Mean absolute difference to the picture of the whole prompt from the same noise."""


class TokenVectors(TableSchema):
    """The vector of one token of an item that is encoded alone."""

    prompt_id: str
    item_id: str
    encoder: str
    position: int
    token: str
    token_role: str
    vector: Series[object]


class VectorChange(TableSchema):
    """How far an item's vectors move when the text after it is cut away, or when it is encoded alone."""

    prompt_id: str
    group: str
    item_id: str
    encoder: str
    without_after: float
    """Length of the change over the length of the vectors, when the text ends with the item."""
    alone: float
    """The same when the item is encoded by itself (which also moves it to another position)."""


class AttentionSeeds(TableSchema):
    """Share of cross-attention that the tokens of a word get in the picture of the whole prompt from one seed's noise."""

    prompt_id: str
    word_index: int
    word: str
    token_role: str
    positions: str
    seed: int
    mass: float = fraction()


class HeatMapRows(TableSchema):
    """The cross-attention map of a word beside the picture, row by row."""

    prompt_id: str
    word_index: int
    word: str
    seed: int
    height: int
    width: int
    attention: Series[object]


class Pictures(TableSchema):
    """A picture as a PNG file's bytes, of the prompts chosen for grids."""

    prompt_id: str
    part: str
    variant: str
    token_role: str
    source_item: str
    kept_positions: str
    kept_tokens: str
    seed: int
    png: Series[object]


class JudgeTruth(_Verdict):
    """A judge's answer to one question about a picture of which the truth is known."""

    picture_id: str
    truth: int = pa.Field(isin=[0, 1])
    """Whether what is described is in the picture."""


class Prompts(TableSchema):
    """One item of one prompt, and what it is to look like."""

    prompt_id: str
    group: str
    text: str
    item_id: str
    looks: str
    leaks: str
    alone_text: str


class InItem(TableSchema):
    """One subset of an item's tokens, kept by itself, and whether it shows the item."""

    prompt_id: str
    item_id: str
    encoder: str
    kept_positions: str
    kept_tokens: str
    token_role: str
    n_kept: int
    n_item_tokens: int
    visible_share: float = fraction(nullable=True)
    """Share of the seeds whose picture shows the item."""
    n_seeds: int
    shows: bool
    """Whether that share reaches the threshold."""
    minimal: bool
    """Whether it shows the item and no smaller subset does."""


class InterItem(TableSchema):
    """Flow from one item's vectors: what is seen when only they are kept, from the whole prompt or encoded alone."""

    prompt_id: str
    group: str
    kept_item: str
    kept_index: int
    asked_item: str
    asked_index: int
    asked: str = pa.Field(isin=["own", "leak"])
    from_prompt: float = fraction(nullable=True)
    """Share of seeds that show it with the vectors the kept item has in the prompt."""
    from_alone: float = fraction(nullable=True)
    """The same with the vectors it has when encoded alone."""
    in_full: float = fraction(nullable=True)
    """Share of seeds that show it in the picture of the whole prompt."""
    n_seeds: int


class Repair(TableSchema):
    """One item of one prompt under one way to repair it, seeds other than those it was chosen by."""

    prompt_id: str
    group: str
    item_id: str
    arm: str
    chosen: bool
    """Whether its flow said that it leaks."""
    leak_before: float = fraction(nullable=True)
    leak_after: float = fraction(nullable=True)
    own_before: float = fraction(nullable=True)
    own_after: float = fraction(nullable=True)
    others_before: float = fraction(nullable=True)
    """Share of seeds and other items of the prompt that are visible; NaN where there are none."""
    others_after: float = fraction(nullable=True)
    n_seeds: int


class AttentionMass(TableSchema):
    """A word's share of attention beside what it causes."""

    prompt_id: str
    group: str
    word_index: int
    word: str
    token_role: str
    n_tokens: int
    mass: float = fraction()
    """Share of cross-attention, mean over seeds."""
    effect_removed: float = may_lack()
    """Fall of the share of visible items when the word's vectors are clean padding."""
    effect_only: float = may_lack()
    """Share of items visible when the word's vectors are all that is kept, beyond that of nothing kept."""
    change_removed: float = may_lack()
    """Mean absolute change of the picture when the word's vectors are clean padding."""
    mass_rank: float
    """Rank of the mass within the prompt, the largest 1."""
    effect_rank: float = may_lack()
    """Rank of change_removed within the prompt, the largest 1."""


class JudgeCheck(TableSchema):
    """How often the judge is wrong where the truth is known, and how often it failed."""

    judge: str
    check: str
    n: int
    errors: int
    error_rate: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()


class Rates(TableSchema):
    """One quantity with its interval."""

    question: str = pa.Field(isin=["in_item", "inter_item", "repair", "attention"])
    quantity: str
    group: str
    level: str
    """What the quantity is of: a role, an arm, a pair of items; empty where there is only one."""
    encoder: str
    estimate: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """How many of what is resampled."""
    n_rows: int
    """Pictures, tokens or words behind it."""
    resampled: str


class Paired(TableSchema):
    """What a change of the text's vectors fixes and breaks, picture by picture from the same noise."""

    comparison: str
    group: str
    n: int
    right_before: int
    right_after: int
    fixed: int
    broken: int
    p_value: float = may_lack()
    """Exact McNemar test; it takes the seeds of one prompt as independent."""
    difference: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    """Interval of the difference of shares over prompts."""
    n_prompts: int


class Predictor(TableSchema):
    """How well representative tokens are told from their vectors alone, on items that were not fitted."""

    rule: str = pa.Field(isin=["linear", "last_token"])
    left_out: str = pa.Field(isin=["item", "last_word"])
    metric: str
    estimate: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_items: int
    n_tokens: int


SCHEMAS: Schemas = {
    "prompts": Prompts,
    "variants": Variants,
    "in_item": InItem,
    "inter_item": InterItem,
    "repair": Repair,
    "attention_mass": AttentionMass,
    "judge_check": JudgeCheck,
    "rates": Rates,
    "paired": Paired,
    "predictor": Predictor,
    "vector_change": VectorChange,
    "token_vectors": TokenVectors,
    "attention_seeds": AttentionSeeds,
    "heat_maps": HeatMapRows,
    "pictures": Pictures,
    "judge_truth": JudgeTruth,
}
