"""The tables of a text-to-image flow run: its summaries, one class per table, one attribute per column; all in a reader's order."""

import pandera.pandas as pa

from interp.tables import Schemas, TableSchema, fraction, may_lack
from probes.t2i_flow.measured_tables import MEASURED


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

    question: str = pa.Field(isin=["in_item", "inter_item", "repair", "attention", "lens"])
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


class LensRates(TableSchema):
    """Share of pictures that show an item when only what an encoder has after one of its layers is there."""

    group: str
    encoder: str
    layer: int
    n_layers: int
    depth_fraction: float = fraction()
    """layer / n_layers."""
    token_role: str
    """What is kept: `full`, `item` or `last_token`."""
    asked: str = pa.Field(isin=["own", "leak"])
    estimate: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """How many of what is resampled."""
    n_rows: int
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
    """Exact over prompts, whose pictures change together: each prompt's sum of fixed less broken has either sign by chance."""
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


SUMMARIES: Schemas = {
    "prompts": Prompts,
    "in_item": InItem,
    "inter_item": InterItem,
    "repair": Repair,
    "attention_mass": AttentionMass,
    "judge_check": JudgeCheck,
    "rates": Rates,
    "lens_rates": LensRates,
    "paired": Paired,
    "predictor": Predictor,
}

SCHEMAS: Schemas = {"prompts": SUMMARIES["prompts"], "variants": MEASURED["variants"], **SUMMARIES, **MEASURED}
