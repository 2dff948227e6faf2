"""What a text-to-image flow run measures: one class per table, one attribute per column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack

PARTS = ["in_item", "inter_item", "repair"]
LENS_ROLES = ["full", "item", "last_token"]


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


class Lens(_Verdict):
    """One question about the picture that an encoder's states after one of its layers make from one seed's noise."""

    prompt_id: str
    group: str
    encoder: str
    layer: int
    """How many layers the text has gone through; 0 is its embeddings."""
    n_layers: int
    depth_fraction: float = fraction()
    """layer / n_layers."""
    token_role: str = pa.Field(isin=LENS_ROLES)
    """What is kept: the whole text, the item's tokens, or its last one; all else is clean padding."""
    source_item: str
    """The item whose vectors are kept; empty for the whole text."""
    seed: int


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


MEASURED: Schemas = {
    "variants": Variants,
    "lens": Lens,
    "vector_change": VectorChange,
    "token_vectors": TokenVectors,
    "attention_seeds": AttentionSeeds,
    "heat_maps": HeatMapRows,
    "pictures": Pictures,
    "judge_truth": JudgeTruth,
}
