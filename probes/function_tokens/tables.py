"""The summary tables of the function-token experiment, a class per table, and the schemas of all its tables."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack
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


class Edges(OfDictionary):
    """One pair of token and feature: the feature was active at the token at least once."""

    token_id: Series[pa.Int32]
    feature_id: Series[pa.Int32]
    count: Series[pa.Int32]
    document_count: Series[pa.Int32]
    activation_sum: float
    activation_max: Series[pa.Float32]


class TokenDegrees(OfDictionary):
    """One token of the graph: how many features it reaches, and how many chance gives it."""

    token_id: int
    token: str
    kind: str
    token_class: str
    rank: int
    occurrences: int
    degree: int
    exclusive: int
    """Features that only this token reaches."""
    null_degree: float
    """Expected degree with labels shuffled over all positions: Σ_f 1 − C(N−n_f, n_t)/C(N, n_t)."""
    null_sd: float
    """Standard deviation of the null degree, features taken to be independent."""
    excess: float
    """Degree minus null degree."""
    excess_z: float = may_lack()
    excess_ci_low: float = may_lack()
    excess_ci_high: float = may_lack()
    rarefied_20: float = may_lack()
    """Expected distinct features in 20 random occurrences, exact."""
    rarefied_20_ci_low: float = may_lack()
    rarefied_20_ci_high: float = may_lack()
    rarefied_100: float = may_lack()
    rarefied_1000: float = may_lack()
    null_rarefied_20: float
    """The same for random positions of any token: equal for all tokens."""
    null_rarefied_100: float
    null_rarefied_1000: float
    accumulation_exponent: float = may_lack()
    """Slope of log distinct features over log occurrences between 100 and 1000 occurrences (20 and 100 for rarer tokens)."""


class Coverage(OfDictionary):
    """Features reached by a set of k tokens."""

    chosen_by: str
    """frequency, greedy (each the token that adds most), random, or content (random content tokens with as many occurrences)."""
    min_count: int
    """Occurrences that make an edge."""
    k: int
    """Tokens in the set; chosen by content, those of the frequency order that it is matched to."""
    occurrence_share: float = pa.Field(ge=0.0, le=1.0000001)
    features: float
    """Distinct features reached (mean over the random sets)."""
    coverage_alive: float = may_lack()
    """Divided by the features that are active anywhere in the measured texts."""
    coverage_width: float
    """Divided by all features of the dictionary."""
    low_alive: float = may_lack()
    """2.5th percentile over random sets, as a share of the features alive."""
    high_alive: float = may_lack()
    null_alive: float = may_lack()
    """Expectation with labels shuffled, for as many occurrences: exact where an edge is one occurrence, else up to 100 tokens."""
    excess_alive: float = may_lack()
    coverage_ci_low: float = may_lack()
    """Coverage ± 1.96 standard deviations over bootstrap draws of blocks of texts."""
    coverage_ci_high: float = may_lack()
    excess_ci_low: float = may_lack()
    excess_ci_high: float = may_lack()
    mass_share: float = may_lack()
    """Share of the sum of all activations that falls on the set's tokens."""


class Accumulation(OfDictionary):
    """Distinct features in m random occurrences of any token of a set."""

    token_set: str
    """ten most frequent, function, content, or all (random positions: the null)."""
    set_tokens: int
    """Tokens of the set that occur."""
    drawn: int
    """Occurrences (m)."""
    features: float
    """Expected distinct features, exact: Σ_f 1 − C(n_S−n_Sf, m)/C(n_S, m)."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()


class ShuffledCoverage(OfDictionary):
    """Features reached by the k most frequent tokens when labels are shuffled: one simulated shuffle."""

    labels: str
    replicate: int
    k: int
    coverage_alive: float


class Sensitivity(OfDictionary):
    """Coverage by the most frequent tokens when positions that the settings leave out are counted too."""

    positions: str
    k: int
    features: int
    coverage_width: float


class DegreeFit(OfDictionary):
    """A power law against one other distribution, in the tail of the degrees."""

    side: str
    """Degrees of tokens, or of features."""
    alternative: str
    xmin: float
    exponent: float
    n_tail: int
    likelihood_ratio: float
    """Normalised log likelihood ratio: positive favours the power law, negative the alternative."""
    p: float
    """Of the sign of the ratio (Vuong); above 0.1 the data do not tell."""


class FeatureProfile(OfDictionary):
    """One feature that was active."""

    feature_id: int
    occurrences: int
    density: float = fraction()
    """Share of the counted positions at which it is active."""
    degree: int
    token_entropy_nats: float
    """Entropy of the token given that the feature is active."""
    effective_tokens: float
    """exp of the entropy."""
    top_token_id: int
    top_token: str
    top_token_share: float = fraction()
    function_share: float = fraction()
    """Share of its occurrences at function tokens."""
    function_mass_share: float = fraction()
    """The same of its activation."""
    dense: bool
    """Active at more than a tenth of the positions."""
    single_token: bool
    """At least ten occurrences, nine tenths of them at one token."""
    page: str
    """Its page on Neuronpedia, where the release has one."""


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
