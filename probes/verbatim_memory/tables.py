"""The tables of the verbatim-memory experiment: one class per table, one attribute per column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, may_lack

CONDITIONS_AND_FIRST = ["first", "repeat", "permute", "permute_strict", "novel"]
ESTIMATORS = ["ratio", "first_noun", "all_positions", "drop_2024", "over_novel"]


class TokenSurprisals(TableSchema):
    """Surprisal of one word: a noun of a list, or one of the last words before the second list (list_index 0).

    Rows of the first list (condition "first") hold for every second list and every intervening text of their trial.
    """

    variant: str
    """What was done to the model: "none", a null model's name, "revision NAME", or "float32" (beside half precision)."""
    trial_id: str
    pool: str
    base_list: int
    rotation: int
    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST)
    list_length: int
    context_type: str
    intervening: int
    """Paragraphs between the lists; 0 for the first list and for the short context."""
    intervening_tokens: int
    list_index: int = pa.Field(isin=[0, 1, 2])
    position: int
    """Place in the list from 0 on; -1 and below count back from the second list."""
    noun: str
    token_ids: Series[object]
    mode: str = pa.Field(isin=["raw", "boundary", "exact"])
    surprisal_nats: float
    left_out_share: float = may_lack()
    """Mode exact: an upper bound on the probability of spellings not followed, as a share of what was found."""


class _Cell(TableSchema):
    """What the summary tables have one row of numbers for."""

    variant: str
    """What was done to the model: "none", a null model's name, "revision NAME", or "float32" (beside half precision)."""
    pool: str
    list_length: int
    context_type: str
    intervening: int
    """Paragraphs between the lists; 0 for the first list and for the short context."""
    intervening_tokens: int


class RepeatSurprisal(_Cell):
    """One estimator in one cell, with its bootstrap interval over base lists."""

    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST[1:])
    mode: str
    estimator: str = pa.Field(isin=ESTIMATORS)
    value: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_base_lists: int
    n_trials: int


class PositionCurve(_Cell):
    """Median surprisal by position around the second list, with its bootstrap interval over base lists."""

    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST)
    list_index: int
    position: int
    median_surprisal_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_base_lists: int


class ListAttention(TableSchema):
    """Attention of a head from the token before a noun of a repeated list: mean over the nouns of one trial, without the first."""

    trial_id: str
    base_list: int
    layer: int
    head: int
    matching: float
    """Attention mass on the token before the same noun in the first list."""
    postmatch: float
    """On that noun's first token: what an induction head does."""
    recent: float
    """On the three tokens before."""


class Masking(TableSchema):
    """Raw surprisal of one noun, read with some heads masked."""

    head_set: str
    """The ranking whose top is silenced, or that random heads are matched to; "none": no mask."""
    control: str = pa.Field(isin=["none", "top", "random"])
    k: int
    draw: int
    heads: str
    """Silent heads as "layer-head layer-head …"."""
    trial_id: str
    base_list: int
    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST[1:])
    list_length: int
    intervening_tokens: int
    list_index: int = pa.Field(isin=[1, 2])
    position: int
    noun: str
    surprisal_nats: float


class MaskingSummary(TableSchema):
    """Repeat surprisal with the top k heads of a ranking masked, or with random heads from the same layers masked."""

    head_set: str
    control: str = pa.Field(isin=["none", "top", "random"])
    k: int
    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST[1:])
    value: float
    """Repeat surprisal in per cent: median over trials of the mean over draws."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    beyond_random: float = may_lack()
    """Top minus random, percentage points; the interval resamples base lists, both sides together."""
    beyond_random_ci_low: float = may_lack()
    beyond_random_ci_high: float = may_lack()
    n_base_lists: int
    n_draws: int


class Checkpoints(TableSchema):
    """One estimator at one checkpoint, shortest text between."""

    revision: str
    step: float = may_lack()
    """Training step in the revision's name, if there is one."""
    pool: str
    list_length: int
    intervening_tokens: int
    condition: str = pa.Field(isin=CONDITIONS_AND_FIRST[1:])
    estimator: str = pa.Field(isin=ESTIMATORS)
    value: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_base_lists: int


class StimulusAudit(TableSchema):
    """Properties of the lists of one cell under this model's tokenizer."""

    pool: str
    list_length: int
    condition: str
    n_trials: int
    n_base_lists: int
    shared_nouns_share: float
    """Nouns of the second list that are in the first."""
    same_position_share: float
    """Nouns that stand at the same place in both lists."""
    surviving_pairs_share: float
    """Pairs of neighbours of the first list that are neighbours in the second too."""
    tokens_per_noun: float
    multi_token_share: float


class InterveningAudit(TableSchema):
    """Length of the text between the lists under this model's tokenizer, prompt included."""

    context_type: str
    intervening: int
    intervening_tokens: int
    text: str


SCHEMAS: Schemas = {
    "token_surprisals": TokenSurprisals,
    "list_attention": ListAttention,
    "masking": Masking,
    "repeat_surprisal": RepeatSurprisal,
    "position_curve": PositionCurve,
    "masking_summary": MaskingSummary,
    "checkpoints": Checkpoints,
    "stimulus_audit": StimulusAudit,
    "intervening_audit": InterveningAudit,
}
