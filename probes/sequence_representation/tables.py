"""The tables of the sequence_representation experiment."""

from interp.estimates import ESTIMATE
from interp.tables import Schemas, TableSchema, may_lack, schema_of


class Pairs(TableSchema):
    """One pair of texts in one arm: how similar their states are after one layer."""

    reader: str
    """The model, or the encoder."""
    arm: str
    """How it is read; encoder for the encoder's own way."""
    exit: int
    """Layer before which the slot is written last; 0 where nothing is written."""
    pool: str
    """last: the last token's state; first: the first token's (an encoder's [CLS]); mean: the mean over tokens."""
    layer: int
    pair_id: str
    cluster: str
    """Pairs that share a sentence."""
    kind: str
    grade: float
    word_overlap: float
    """Share of the words of both texts that both have."""
    length_difference: int
    """Characters."""
    cosine: float
    cosine_centred: float
    """After the mean state over all texts is taken off."""


class Spreads(TableSchema):
    """Anisotropy in one arm after one layer: how similar the states of different texts are."""

    reader: str
    arm: str
    exit: int
    pool: str
    layer: int
    n_layers: int
    anisotropy: float
    """Mean cosine of two different texts."""


class Texts(TableSchema):
    """One text as a reader's tokens."""

    reader: str
    text_id: int
    text: str
    n_tokens: int
    unread_characters: int
    """Characters that the tokenizer does not know."""


class Shifts(TableSchema):
    """How much the state of one token changes when a state is written into the slot before it."""

    arm: str
    layer: int
    position: int
    """Of the token among the text's own, from 0 on."""
    text_id: int
    relative_change: float
    """Norm of the difference from the state where nothing is written, over that state's norm."""


class Words(TableSchema):
    """One news sentence: how well its words are ranked from a pooled state, by a regression on other sentences."""

    reader: str
    layer: int
    n_layers: int
    pool: str
    half: str
    """Which words: all, or those of the sentence's first or second half."""
    sentence_id: int
    ndcg: float
    ndcg_frequency: float
    """By the words' frequency in the other sentences alone."""
    ndcg_shuffled: float = may_lack()
    """From another sentence's state; for the pool mean alone."""


class Tokens(TableSchema):
    """One token of a query: the rank of the right document's tokens among all documents' tokens, by cosine."""

    reader: str
    layer: int
    n_layers: int
    centred: bool
    """Whether the mean over all documents' tokens is taken off first."""
    query_id: str
    cluster: str
    kind: str
    position: int
    token: str
    token_class: str
    """function: among the most frequent tokens that make up 40% of all; content: the others."""
    gold_rank: int
    """Rank of the right document's best token."""
    finds_itself: bool
    """Whether the nearest token of all is the same token of the vocabulary."""
    is_in_gold: bool
    """Whether the right document holds the same token."""
    n_gold_tokens: int
    n_tokens: int
    """Tokens of all documents."""


class Documents(TableSchema):
    """One query and one score over all documents: the rank of the right one."""

    reader: str
    layer: int
    n_layers: int
    centred: bool
    query_id: str
    cluster: str
    kind: str
    scoring: str
    """one vector: cosine of mean states; all tokens: MaxSim; retrieved: MaxSim over the k nearest tokens, what is missing imputed or 0."""
    top_k: int
    """0 where all tokens count."""
    gold_rank: float
    reciprocal_rank: float
    is_first: bool
    n_documents: int


BY_WAY = {"reader": str, "arm": str, "exit": int, "pool": str, "layer": int}
Correlations = schema_of("Correlations", **BY_WAY, n_layers=int, pairs=str, measure=str, **ESTIMATE)
"""Spearman's correlation of a measure with the grade, over all pairs or those without traps."""
Gains = schema_of(
    "Gains", reader=str, arm=str, exit=int, against=str, layer=int, read_at=str, pairs=str, measure=str, **ESTIMATE
)
"""Difference of two arms' correlations on the same draws."""
Kinds = schema_of("Kinds", **BY_WAY, kind=str, **ESTIMATE)
"""Mean cosine by kind of pair, after the mean state is taken off."""
Orders = schema_of("Orders", **BY_WAY, kind=str, **ESTIMATE)
"""Share of sentences whose paraphrase is closer than what was made of them otherwise; chance is 0.5."""
Moved = schema_of("Moved", arm=str, layer=int, position=int, **ESTIMATE)
BagsOfWords = schema_of(
    "BagsOfWords", reader=str, layer=int, n_layers=int, pool=str, half=str, ndcg=float, ndcg_ci_low=float, ndcg_ci_high=float,
    gain=float, gain_ci_low=float, gain_ci_high=float, n=int, n_rows=int,
)  # fmt: skip
"""Mean nDCG, and how much it is above what frequency gives."""
Recalls = schema_of(
    "Recalls", reader=str, layer=int, n_layers=int, centred=bool, kind=str, token_class=str, k=int, **ESTIMATE, chance=float,
    same_token=float, same_token_ci_low=float, same_token_ci_high=float,
)  # fmt: skip
"""Share of query tokens with a token of the right document among their k nearest."""
Ranks = schema_of(
    "Ranks", reader=str, layer=int, n_layers=int, centred=bool, kind=str, scoring=str, top_k=int, **ESTIMATE, chance=float,
    first=float, first_ci_low=float, first_ci_high=float,
)  # fmt: skip
"""Mean reciprocal rank of the right document, and the share of queries for which it is first."""

SCHEMAS: Schemas = {
    "pairs": Pairs, "spreads": Spreads, "texts": Texts, "shifts": Shifts, "words": Words, "tokens": Tokens, "documents": Documents,
    "correlations": Correlations, "gains": Gains, "kinds": Kinds, "orders": Orders, "moved": Moved,
    "bags_of_words": BagsOfWords, "recalls": Recalls, "ranks": Ranks,
}  # fmt: skip
