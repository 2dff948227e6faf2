"""The tables of the function-token experiment: one class per table, one attribute per column."""

from typing import Any

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema


def _share(*, nullable: bool = False) -> Any:
    """A column of numbers between 0 and 1."""
    return pa.Field(ge=0.0, le=1.0, nullable=nullable)


def _may_lack() -> Any:
    """A column that may be NaN. Each column needs a field of its own: pandera writes the column's name into it."""
    return pa.Field(nullable=True)


class TokenClasses(TableSchema):
    """One token id that occurs, most frequent first, in the texts that are not measured."""

    threshold: float
    """Share of occurrences that function tokens cover."""
    token_id: int
    token: str
    kind: str
    """word (begins with a space), part of word, number, punctuation, whitespace, other."""
    rank: int
    count: int
    share: float = _share()
    cumulative_share: float = pa.Field(ge=0.0, le=1.0000001)
    document_coverage: float = _share()
    """Share of the texts that contain it; not part of the rule."""
    dispersion: float = pa.Field(ge=-1e-9, le=1.0)
    """Deviation of proportions (Gries 2008): 0 is spread as evenly as the texts are long. Not part of the rule."""
    token_class: str


class Blocks(TableSchema):
    """One block of measured texts: a unit of work, and what is resampled."""

    block: int
    documents: int
    windows: int
    tokens: int
    classes_in_sample: bool
    """Whether token classes were counted in the measured texts, because there were no others."""
    texts_left_out: int
    """Texts of the corpus left out because a dictionary was trained on them."""


class _OfDictionary(TableSchema):
    dictionary: str
    layer: int


class DictionaryCheck(_OfDictionary):
    """One dictionary held against what its makers published."""

    architecture: str
    width: int
    l0: float
    """Active features per counted position, on the first windows of the corpus."""
    published_l0: float
    explained_variance: float
    published_explained_variance: float = _may_lack()
    cross_entropy_recovered: float = _may_lack()
    """As published on the card: (loss with zeros − loss reconstructed) / (loss with zeros − loss as it is)."""
    never_active_share: float = _share()
    """Features never active in the check: few positions, so far more than are dead."""
    n_vectors: int
    norm_limit: float
    """Length of the residual stream above which a position is an attention sink and is not counted."""
    neuronpedia_id: str


class BlockPairs(_OfDictionary):
    """One token in one block, with the features active at it as lists of equal length."""

    block: int
    token_id: int
    occurrences: int
    feature_ids: Series[object]
    counts: Series[object]
    document_counts: Series[object]
    activation_sums_fixed: Series[object]
    """Sums of activations in multiples of 2⁻²⁰: integers, so that adding up is exact."""
    activation_maxima: Series[object]


class BlockFirstRanks(_OfDictionary):
    """The smallest frequency rank among the tokens each feature was active at in one block, by way of labelling."""

    block: int
    labels: str
    """observed, or the stratum in which labels were shuffled: block, document, position."""
    positions: str
    """kept, or with positions that the settings leave out: early too, sinks too, all."""
    replicate: int
    first_rank: Series[object]


class BlockPositions(_OfDictionary):
    """How many positions of one block were counted and left out."""

    block: int
    documents: int
    positions: int
    early_positions: int
    special_positions: int
    sink_positions: int


class FeatureContexts(_OfDictionary):
    """One of the highest activations of a feature picked at random, with the words around its token."""

    block: int
    feature_id: int
    activation: float
    before: str
    token: str
    after: str


class PairLossDocuments(TableSchema):
    """Sums over the predictions of one text by class of the current and of the next token."""

    block: int
    document: int
    threshold: float
    current_class: str
    next_class: str
    n: int
    loss_sum_nats: float
    bigram_sum_nats: float


class ReactivationPrompts(_OfDictionary):
    """One feature at one token of one prompt, and its activation under knock-out of attention."""

    prompt: int
    token_class: str
    position: int
    token_id: int
    feature_id: int
    n_sources: int
    """Earlier positions where the feature was active, which are knocked out together."""
    nearest_distance: int
    control_nearest_distance: int
    activation: float
    activation_sources_out: float
    activation_controls_out: float


class SteeringPrompts(_OfDictionary):
    """One steering of one prompt."""

    prompt: int
    feature_id: int
    where: str
    """last, or earlier than the last token."""
    token_class: str
    direction: str
    """feature, or a random direction of the same length."""
    distance: int
    vector_norm: float
    kl_nats: float
    promoted_gain_nats: float


class Edges(_OfDictionary):
    """One pair of token and feature: the feature was active at the token at least once."""

    token_id: Series[pa.Int32]
    feature_id: Series[pa.Int32]
    count: Series[pa.Int32]
    document_count: Series[pa.Int32]
    activation_sum: float
    activation_max: Series[pa.Float32]


class TokenDegrees(_OfDictionary):
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
    excess_z: float = _may_lack()
    excess_ci_low: float = _may_lack()
    excess_ci_high: float = _may_lack()
    rarefied_20: float = _may_lack()
    """Expected distinct features in 20 random occurrences, exact."""
    rarefied_20_ci_low: float = _may_lack()
    rarefied_20_ci_high: float = _may_lack()
    rarefied_100: float = _may_lack()
    rarefied_1000: float = _may_lack()
    null_rarefied_20: float
    """The same for random positions of any token: equal for all tokens."""
    null_rarefied_100: float
    null_rarefied_1000: float
    accumulation_exponent: float = _may_lack()
    """Slope of log distinct features over log occurrences between 100 and 1000 occurrences (20 and 100 for rarer tokens)."""


class Coverage(_OfDictionary):
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
    coverage_alive: float = _may_lack()
    """Divided by the features that are active anywhere in the measured texts."""
    coverage_width: float
    """Divided by all features of the dictionary."""
    low_alive: float = _may_lack()
    """2.5th percentile over random sets, as a share of the features alive."""
    high_alive: float = _may_lack()
    null_alive: float = _may_lack()
    """Expectation with labels shuffled, for as many occurrences: exact where an edge is one occurrence, else up to 100 tokens."""
    excess_alive: float = _may_lack()
    coverage_ci_low: float = _may_lack()
    """Coverage ± 1.96 standard deviations over bootstrap draws of blocks of texts."""
    coverage_ci_high: float = _may_lack()
    excess_ci_low: float = _may_lack()
    excess_ci_high: float = _may_lack()
    mass_share: float = _may_lack()
    """Share of the sum of all activations that falls on the set's tokens."""


class Accumulation(_OfDictionary):
    """Distinct features in m random occurrences of any token of a set."""

    token_set: str
    """ten most frequent, function, content, or all (random positions: the null)."""
    set_tokens: int
    """Tokens of the set that occur."""
    drawn: int
    """Occurrences (m)."""
    features: float
    """Expected distinct features, exact: Σ_f 1 − C(n_S−n_Sf, m)/C(n_S, m)."""
    ci_low: float = _may_lack()
    ci_high: float = _may_lack()


class ShuffledCoverage(_OfDictionary):
    """Features reached by the k most frequent tokens when labels are shuffled: one simulated shuffle."""

    labels: str
    replicate: int
    k: int
    coverage_alive: float


class Sensitivity(_OfDictionary):
    """Coverage by the most frequent tokens when positions that the settings leave out are counted too."""

    positions: str
    k: int
    features: int
    coverage_width: float


class DegreeFit(_OfDictionary):
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


class FeatureProfile(_OfDictionary):
    """One feature that was active."""

    feature_id: int
    occurrences: int
    density: float = _share()
    """Share of the counted positions at which it is active."""
    degree: int
    token_entropy_nats: float
    """Entropy of the token given that the feature is active."""
    effective_tokens: float
    """exp of the entropy."""
    top_token_id: int
    top_token: str
    top_token_share: float = _share()
    function_share: float = _share()
    """Share of its occurrences at function tokens."""
    function_mass_share: float = _share()
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
    mean_loss_nats_ci_low: float = _may_lack()
    mean_loss_nats_ci_high: float = _may_lack()
    bigram_nats: float
    """Mean loss of a bigram model counted in the texts that are not measured."""
    above_bigram_nats: float
    """Mean loss minus that of the bigram model: negative where the model knows more."""
    above_bigram_nats_ci_low: float = _may_lack()
    above_bigram_nats_ci_high: float = _may_lack()
    frequency: float = _share()
    frequency_ci_low: float = _may_lack()
    frequency_ci_high: float = _may_lack()
    loss_share: float = _share()
    """Share of the total loss."""
    loss_share_ci_low: float = _may_lack()
    loss_share_ci_high: float = _may_lack()


class Reactivation(_OfDictionary):
    """Share of a feature's activation that is lost under knock-out, by class of the token it is at."""

    token_class: str
    n_prompts: int
    lost: float
    lost_ci_low: float = _may_lack()
    lost_ci_high: float = _may_lack()
    control_lost: float
    control_lost_ci_low: float = _may_lack()
    control_lost_ci_high: float = _may_lack()
    beyond_control: float
    beyond_control_ci_low: float = _may_lack()
    beyond_control_ci_high: float = _may_lack()
    silenced: float
    """Share of the prompts in which the feature is no longer active."""
    silenced_ci_low: float = _may_lack()
    silenced_ci_high: float = _may_lack()
    control_silenced: float
    control_silenced_ci_low: float = _may_lack()
    control_silenced_ci_high: float = _may_lack()


class Steering(_OfDictionary):
    """What adding a feature does to the next token, by place and class of the token it is added at."""

    where: str
    token_class: str
    outcome: str
    """kl_nats, or promoted_gain_nats."""
    n_prompts: int
    feature: float
    feature_ci_low: float = _may_lack()
    feature_ci_high: float = _may_lack()
    random: float
    random_ci_low: float = _may_lack()
    random_ci_high: float = _may_lack()
    beyond_random: float
    beyond_random_ci_low: float = _may_lack()
    beyond_random_ci_high: float = _may_lack()


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
