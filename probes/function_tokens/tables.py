"""The summaries of what causes what in the function-token experiment, and the schemas of all its tables."""

from interp.tables import Schemas, TableSchema, fraction, may_lack
from probes.function_tokens.graph_tables import (
    Accumulation,
    Coverage,
    DegreeFit,
    Edges,
    FeatureProfile,
    Sensitivity,
    ShuffledCoverage,
    TokenDegrees,
)
from probes.function_tokens.measured_tables import (
    BlockFirstRanks,
    BlockPairs,
    BlockPositions,
    Blocks,
    DictionaryCheck,
    FeatureContexts,
    OfDictionary,
    PairLossDocuments,
    ReactivationPrompts,
    SteeringPrompts,
    TokenClasses,
)


class PairLosses(TableSchema):
    """Loss of one pair of classes (current token, next token)."""

    threshold: float
    current_class: str
    next_class: str
    n: int
    n_documents: int
    mean_loss_nats: float
    mean_loss_nats_ci_low: float = may_lack()
    mean_loss_nats_ci_high: float = may_lack()
    bigram_nats: float
    """Mean loss of a bigram model counted in the texts that are not measured."""
    above_bigram_nats: float
    """Mean loss minus that of the bigram model: negative where the model knows more."""
    above_bigram_nats_ci_low: float = may_lack()
    above_bigram_nats_ci_high: float = may_lack()
    frequency: float = fraction()
    frequency_ci_low: float = may_lack()
    frequency_ci_high: float = may_lack()
    loss_share: float = fraction()
    """Share of the total loss."""
    loss_share_ci_low: float = may_lack()
    loss_share_ci_high: float = may_lack()


class Reactivation(OfDictionary):
    """Share of a feature's activation that is lost under knock-out, by class of the token it is at."""

    token_class: str
    n_prompts: int
    lost: float
    lost_ci_low: float = may_lack()
    lost_ci_high: float = may_lack()
    control_lost: float
    control_lost_ci_low: float = may_lack()
    control_lost_ci_high: float = may_lack()
    beyond_control: float
    beyond_control_ci_low: float = may_lack()
    beyond_control_ci_high: float = may_lack()
    silenced: float
    """Share of the prompts in which the feature is no longer active."""
    silenced_ci_low: float = may_lack()
    silenced_ci_high: float = may_lack()
    control_silenced: float
    control_silenced_ci_low: float = may_lack()
    control_silenced_ci_high: float = may_lack()


class Steering(OfDictionary):
    """What adding a feature does to the next token, by place and class of the token it is added at."""

    where: str
    token_class: str
    outcome: str
    """kl_nats, or promoted_gain_nats."""
    n_prompts: int
    feature: float
    feature_ci_low: float = may_lack()
    feature_ci_high: float = may_lack()
    random: float
    random_ci_low: float = may_lack()
    random_ci_high: float = may_lack()
    beyond_random: float
    beyond_random_ci_low: float = may_lack()
    beyond_random_ci_high: float = may_lack()


SCHEMAS: Schemas = {
    "token_classes": TokenClasses,
    "blocks": Blocks,
    "dictionary_check": DictionaryCheck,
    "block_pairs": BlockPairs,
    "block_first_ranks": BlockFirstRanks,
    "block_positions": BlockPositions,
    "feature_contexts": FeatureContexts,
    "pair_loss_documents": PairLossDocuments,
    "reactivation_prompts": ReactivationPrompts,
    "steering_prompts": SteeringPrompts,
    "edges": Edges,
    "token_degrees": TokenDegrees,
    "coverage": Coverage,
    "accumulation": Accumulation,
    "shuffled_coverage": ShuffledCoverage,
    "sensitivity": Sensitivity,
    "degree_fit": DegreeFit,
    "feature_profile": FeatureProfile,
    "pair_losses": PairLosses,
    "reactivation": Reactivation,
    "steering": Steering,
}
