"""The tables of a kv_policies run, with a word on each column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack, schema_of


class HeadScores(TableSchema):
    """One head's score for one role, on one text."""

    unit: str
    text_id: str
    layer: int
    head: int
    kv_head: int
    role: str
    """retrieval: share of an answer's tokens whose top key is that very token of the needle; induction, echo: attention mass."""
    score: float = fraction()


class Condition(TableSchema):
    """What every row of a condition on a text has."""

    material: str
    scope: str
    """context_only: the cache is cut before the question is read; context_and_question: after it."""
    text_id: str
    policy: str
    protection: str
    budget: float = fraction()
    """Share of the prompt's keys that each key-value head keeps."""
    head_set: str
    """Heads that keep the whole prompt: none, retrieval (a policy's own), best or random (the curve)."""
    k: int
    """Number of these key-value heads."""
    draw: int


class TokenLosses(Condition):
    """One scored token of a text under one condition."""

    step: int
    token_id: int
    surprisal_nats: float
    is_top: bool
    """Whether it is the most likely token: greedy decoding writes a text exactly if all its tokens are."""


class Kept(Condition):
    """How much of the cache one condition keeps on one text."""

    mean_kept: float
    """Keys that a head reads at a scored step, over heads and layers."""
    peak_kept: float
    """Keys that a layer's heads read at most, mean over layers."""
    n_keys: int
    """Tokens of the prompt and of what follows."""
    source_kept: float = fraction(nullable=True)
    """Share of heads and layers that read the tokens which the scored ones copy; NaN in prose."""
    lost_everywhere: float = fraction(nullable=True)
    """Share of layers (and of these tokens) in which no head reads them."""


class HeadLosses(Condition):
    """What one head loses on one text under one condition, over up to six scored steps."""

    layer: int
    head: int
    mass_recovered: float = fraction()
    """Share of the head's full attention that lies on the keys it may read."""
    output_change: float
    """|o' - o| / |o|, what the head writes with the kept keys against all keys, from the same queries, keys and values."""
    oracle_overlap: float = fraction()
    """At the last scored step: share of the kept keys that are among as many best ones."""
    stand_in_ratio: float = may_lack()
    """Mass of stand-ins over that of the keys they stand for (at most 1 for RazorAttention's); NaN where none stand in."""


class KeptClasses(Condition):
    """How much of one class of the prompt's tokens is kept."""

    token_class: str
    n_tokens: int
    kept_share: float = pa.Field(ge=0.0, le=1.0001)
    """Share of heads and layers that read a token of the class."""


class KeptDepths(Condition):
    """How much of one fifth of the prompt is kept."""

    depth_fraction: float
    """Where the fifth begins: 0, 0.2, 0.4, 0.6 or 0.8 of the prompt."""
    kept_share: float = pa.Field(ge=0.0, le=1.0001)
    """Share of heads and layers that read a token of it."""


class KeptTokens(Condition):
    """How much of the cache keeps each token of one text."""

    position: int
    token: str
    kept_share: float = fraction()


class Stale(TableSchema):
    """How much of a later row's attention lies on the keys that an earlier row read most: prose, full attention."""

    text_id: str
    layer: int
    head: int
    lag: int
    """Rows between the two."""
    mass_stale: float = fraction()
    """On the best keys of the earlier row, and on every key since."""
    mass_recent: float = fraction()
    """On as many keys: four sinks and the most recent."""
    mass_oracle: float = fraction()
    """On as many best keys of the later row itself."""


class Recurrence(TableSchema):
    """How tokens of a text become active again in one key-value head: prose, full attention."""

    text_id: str
    layer: int
    kv_head: int
    threshold: str
    """Weight from which a key is active: 1e-4 (LazyEviction's), 1/n (uniform), q95 (of this head's weights)."""
    threshold_times_n: float
    """The threshold over the uniform weight: far below 1 nearly every key is active nearly always."""
    active_share: float = fraction()
    """Share of the weights that reach the threshold."""
    recur_share: float = fraction()
    """Share of tokens that are active again after 16 steps or more without being so."""
    recur_share_null: float = fraction()
    """The same with each token's own activations in random order."""
    gap: float
    """Mean over tokens of the largest number of steps between activations."""
    gap_null: float
    gap_predicts: float = may_lack()
    """Rank correlation, over tokens of the first half, of the largest gap there with the wait until the next activation after it."""
    weight_predicts: float = may_lack()
    """The same for minus the accumulated weight."""
    age_predicts: float = may_lack()
    """The same for the steps since the last activation."""


class Forgetting(TableSchema):
    """How much of the attention of later queries lies on the first half's keys that A2SF keeps with one alpha, in one key-value head."""

    text_id: str
    layer: int
    kv_head: int
    alpha: float
    mass_recovered: float = fraction()
    """Share of the second half's attention to the first half that lies on kept keys."""
    age_bias: float = may_lack()
    """Rank correlation of score and age: above 0 old keys are preferred."""


class Texts(TableSchema):
    """One text as token ids."""

    material: str
    scope: str
    text_id: str
    prompt_token_ids: Series[object]
    continuation_token_ids: Series[object]
    """What is read after the prompt; its first token is not scored."""
    n_scored: int
    source_start: int
    """The prompt's tokens that the scored ones copy; 0 and 0 in prose."""
    source_end: int


class Policies(TableSchema):
    """One policy under one budget and protection on one material, against the full cache on the same texts."""

    material: str
    scope: str
    policy: str
    protection: str
    budget: float
    semantics: str
    event: str
    budget_rule: str
    """Who keeps the number of keys asked for: each_list; mean_of_layers, heads_together, heads_not_spared, half_as_stand_ins or none."""
    granularity: str
    group_reduction: str
    positions: str
    change_nats: float
    """Mean surprisal of a scored token minus that with the full cache."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """Texts."""
    recall: float = may_lack()
    """Share of scored tokens that are the most likely one: where it is 1, greedy decoding writes exactly these tokens."""
    recall_ci_low: float = may_lack()
    recall_ci_high: float = may_lack()
    mass_recovered: float
    output_change: float
    oracle_overlap: float
    mean_kept: float
    peak_kept: float
    bytes_share: float
    """Keys and values that must be stored, stand-ins too, over the full cache's: all of them for a policy that drops nothing."""
    source_kept: float = may_lack()
    lost_everywhere: float = may_lack()
    n_layers: int
    """Layers that it acts on: those with a window drop keys by themselves."""
    resampled: str


Roles = schema_of(
    "Roles", material=str, scope=str, policy=str, budget=float, role=str, quantity=str, value=float, ci_low=float, ci_high=float,
    random=float, difference=float, difference_ci_low=float, difference_ci_high=float, n=int, n_heads=int,
)  # fmt: skip
Restored = schema_of(
    "Restored", head_set=str, k=int, quantity=str, value=float, ci_low=float, ci_high=float, n=int, n_rows=int
)
Factors = schema_of(
    "Factors", material=str, scope=str, factor=str, share=float, ci_low=float, ci_high=float, n=int, budget=float
)
Classes = schema_of(
    "Classes",
    material=str,
    policy=str,
    budget=float,
    token_class=str,
    value=float,
    ci_low=float,
    ci_high=float,
    n=int,
    n_rows=int,
)
Depths = schema_of(
    "Depths",
    material=str,
    policy=str,
    budget=float,
    depth_fraction=float,
    value=float,
    ci_low=float,
    ci_high=float,
    n=int,
    n_rows=int,
)
Variants = schema_of(
    "Variants", material=str, scope=str, budget=float, policy=str, against=str, choice=str, quantity=str, value=float, ci_low=float,
    ci_high=float, n=int, n_rows=int,
)  # fmt: skip
StaleMass = schema_of(
    "StaleMass", role=str, lag=int, quantity=str, value=float, ci_low=float, ci_high=float, n=int, n_rows=int
)
Recurring = schema_of(
    "Recurring", threshold=str, quantity=str, value=float, ci_low=float, ci_high=float, null=float, difference=float,
    difference_ci_low=float, difference_ci_high=float, n=int, n_rows=int,
)  # fmt: skip
BestAlpha = schema_of("BestAlpha", layer=int, depth=float, value=float, ci_low=float, ci_high=float, n=int, n_rows=int)
HeadMap = schema_of(
    "HeadMap", material=str, policy=str, layer=int, head=int, output_change=float, mass_recovered=float, n=int
)

SCHEMAS: Schemas = {
    "head_scores": HeadScores,
    "texts": Texts,
    "token_losses": TokenLosses,
    "kept": Kept,
    "head_losses": HeadLosses,
    "kept_classes": KeptClasses,
    "kept_depths": KeptDepths,
    "kept_tokens": KeptTokens,
    "stale": Stale,
    "recurrence": Recurrence,
    "forgetting": Forgetting,
    "policies": Policies,
    "roles": Roles,
    "restored": Restored,
    "factors": Factors,
    "classes": Classes,
    "depths": Depths,
    "variants": Variants,
    "head_map": HeadMap,
    "stale_mass": StaleMass,
    "recurring": Recurring,
    "best_alpha": BestAlpha,
}
