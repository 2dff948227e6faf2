"""The measured tables of the function-token experiment, one part per unit of work: a class per table."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import TableSchema, fraction, may_lack


class TokenClasses(TableSchema):
    """One token id that occurs, most frequent first, in the texts that are not measured."""

    threshold: float
    """Share of occurrences that function tokens cover."""
    token_id: int
    token: str
    kind: str
    """word (begins with a space, or in a script without them), part of word, number, punctuation, whitespace, other."""
    rank: int
    count: int
    share: float = fraction()
    cumulative_share: float = pa.Field(ge=0.0, le=1.0000001)
    document_coverage: float = fraction()
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


class OfDictionary(TableSchema):
    """Rows that belong to one dictionary."""

    dictionary: str
    layer: int


class DictionaryCheck(OfDictionary):
    """One dictionary held against what its makers published."""

    architecture: str
    width: int
    l0: float
    """Active features per counted position, on the first windows of the corpus."""
    published_l0: float
    explained_variance: float
    published_explained_variance: float = may_lack()
    cross_entropy_recovered: float = may_lack()
    """As published on the card: (loss with zeros − loss reconstructed) / (loss with zeros − loss as it is)."""
    never_active_share: float = fraction()
    """Features never active in the check: few positions, so far more than are dead."""
    n_vectors: int
    norm_limit: float
    """Length of the residual stream above which a position is an attention sink and is not counted."""
    neuronpedia_id: str


class BlockPairs(OfDictionary):
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


class BlockFirstRanks(OfDictionary):
    """The smallest frequency rank among the tokens each feature was active at in one block, by way of labelling."""

    block: int
    labels: str
    """observed, or the stratum in which labels were shuffled: block, document, position."""
    positions: str
    """kept, or with positions that the settings leave out: early too, sinks too, all."""
    replicate: int
    first_rank: Series[object]


class BlockPositions(OfDictionary):
    """How many positions of one block were counted and left out."""

    block: int
    documents: int
    positions: int
    early_positions: int
    special_positions: int
    sink_positions: int


class FeatureContexts(OfDictionary):
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


class ReactivationPrompts(OfDictionary):
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


class SteeringPrompts(OfDictionary):
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
