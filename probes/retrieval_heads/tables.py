"""The tables of the retrieval-head experiment: one class per table, one attribute per column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack


class Samples(TableSchema):
    """One prompt and its answer. A control without needle has has_needle False and positions -1.

    With prompt_token_ids and answer_token_ids (what the model wrote, its stop token included) every score can be computed
    again with any attention implementation.
    """

    sample_id: str = pa.Field(unique=True)
    needle_id: str
    literal: bool
    has_needle: bool
    context_tokens: int
    depth_fraction: float = fraction(nullable=True)
    """Depth asked for."""
    reached_depth_fraction: float = fraction(nullable=True)
    """Haystack tokens before the needle over all of them: the needle stands at a boundary, which may lie far before."""
    prompt_format: str
    has_bos: bool
    prompt_token_ids: Series[object]
    needle_start: int
    needle_end: int
    gold_start: int
    gold_end: int
    answer_token_ids: Series[object]
    generated_text: str
    gold_text: str
    recall: float = fraction()
    passed: bool
    near_ties: int
    tokens_read: int
    """Prompt tokens the model really read for this sample: fewer than the prompt has, by what was shared."""


class Thoughts(TableSchema):
    """What came before one answer of a model that thinks; for prompts that may have no thoughts, there are no rows.

    The thought is the end of the prompt that scores are computed with. `closed`: the model ended it itself; otherwise the closing mark
    was written for it when the budget was spent. In the ablation, thoughts are written under the change too.
    """

    sample_id: str
    needle_id: str
    condition: str = pa.Field(isin=["none", "top", "random"])
    heads: str
    thinking_tokens: int = pa.Field(ge=0)
    """Marks included; 0 where the model began no thought."""
    closed: bool
    thought_text: str


class SampleHeadScores(TableSchema):
    """Copy-paste scores of one head on one sample, both definitions."""

    sample_id: str
    needle_id: str
    layer: int
    head: int
    kv_head: int
    set_score: float = fraction()
    count_score: float = pa.Field(ge=0.0)
    hits: int = pa.Field(ge=0)
    near_ties: int = pa.Field(ge=0)


class LogitContribution(TableSchema):
    """Logit-contribution score of one head on one sample: mean over the answer's n_steps steps; NaN without any."""

    sample_id: str
    needle_id: str
    layer: int
    head: int
    kv_head: int
    definition: str = pa.Field(isin=["locos", "direct"])
    score: float = may_lack()
    n_steps: int


class EchoInduction(TableSchema):
    """RazorAttention's two scores of one head on one sequence of repeated random tokens."""

    draw: int
    layer: int
    head: int
    kv_head: int
    echo: float = fraction()
    induction: float = fraction()
    block_tokens: int
    repeats: int


class Ablation(TableSchema):
    """One held-out question answered with one set of heads changed, and plain prose under the same change."""

    condition: str = pa.Field(isin=["none", "top", "random"])
    ranking: str
    k: int
    mode: str
    phase: str
    draw: int
    heads: str
    sample_id: str
    needle_id: str
    literal: bool
    context_tokens: int
    depth_fraction: float
    recall: float = fraction()
    generated_text: str
    prose_id: str
    prose_surprisal_nats: float


class HeadScores(TableSchema):
    """A head's mean score over samples with its bootstrap interval over needles."""

    layer: int
    head: int
    kv_head: int
    definition: str
    score: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    activation_frequency: float = may_lack()
    """Share of samples on which the head copied at least one token (NaN where the definition counts no copies)."""
    n_samples: int
    n_needles: int


class Sparsity(TableSchema):
    """Share of heads in each bucket of score; from 0.1 on with its bootstrap interval over needles."""

    definition: str
    bucket: str
    share: float = fraction()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n_heads: int


class KvHeadScores(TableSchema):
    """Scores of a key-value head: mean and maximum over the query heads that share it."""

    layer: int
    kv_head: int
    definition: str
    mean_score: float = may_lack()
    max_score: float = may_lack()
    best_head: int


class Reliability(TableSchema):
    """Agreement of head scores between two disjoint halves of the needles, one row per random split."""

    definition: str
    split: int
    n_needles_half: int
    pearson: float = may_lack()
    spearman: float = may_lack()
    spearman_scoring: float = may_lack()
    """Over the heads only whose score over all needles is at least 0.01: most others are tied at zero in one half."""
    n_scoring_heads: int
    top10_overlap: float


class Convergence(TableSchema):
    """How head scores settle as needles are added in the order they were measured."""

    definition: str
    n_needles: int
    n_samples: int
    k: int
    pearson_with_final: float = may_lack()
    top_k_overlap_with_final: float
    stability: float = may_lack()
    """Share of bootstrap draws over needles that keep at least nine tenths of the top k heads."""


class AblationSummary(TableSchema):
    """Mean recall and prose surprisal of one condition, over draws and held-out needles, intervals over needles."""

    condition: str
    ranking: str
    k: int
    mode: str
    phase: str
    needles: str = pa.Field(isin=["all", "literal", "non-literal"])
    outcome: str = pa.Field(isin=["recall", "prose_surprisal_nats"])
    mean: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    lost: float
    """Against no change at all, on the same questions: recall lost, or surprisal gained."""
    lost_ci_low: float = may_lack()
    lost_ci_high: float = may_lack()
    beyond_random: float = may_lack()
    """The same loss minus that of random heads at this k, mode and phase, on the same questions."""
    beyond_random_ci_low: float = may_lack()
    beyond_random_ci_high: float = may_lack()
    n_draws: int
    n_needles: int


class Agreement(TableSchema):
    """Two detectors on the same model: rank correlation over all heads and overlap of their top k."""

    first: str
    second: str
    k: int
    spearman: float = may_lack()
    spearman_ci_low: float = may_lack()
    spearman_ci_high: float = may_lack()
    top_k_overlap: float
    top_k_overlap_ci_low: float = may_lack()
    top_k_overlap_ci_high: float = may_lack()
    n_needles: int


class NeedleRecall(TableSchema):
    """Per needle: recall with it in the context and without it (what can be answered from memory or by luck)."""

    needle_id: str
    literal: bool
    n_samples: int
    recall: float
    share_passed: float
    recall_without_needle: float = may_lack()


SCHEMAS: Schemas = {
    "samples": Samples,
    "thoughts": Thoughts,
    "sample_head_scores": SampleHeadScores,
    "logit_contribution": LogitContribution,
    "echo_induction": EchoInduction,
    "ablation": Ablation,
    "head_scores": HeadScores,
    "sparsity": Sparsity,
    "kv_head_scores": KvHeadScores,
    "needle_recall": NeedleRecall,
    "reliability": Reliability,
    "convergence": Convergence,
    "ablation_summary": AblationSummary,
    "agreement": Agreement,
}
