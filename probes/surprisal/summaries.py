"""The tables of the surprisal experiment, and what is said of all texts together."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from interp.estimates import estimates
from interp.tables import Schemas, TableSchema, may_lack


class Words(TableSchema):
    """Surprisal of one word of a text in one mode; a word is what stands between blanks."""

    text_id: str
    word_index: int
    """Place of the word in its text, from 0 on."""
    word: str
    token_ids: Series[object]
    """The word's tokens, the space before it included."""
    entropy_nats: float = may_lack()
    """Entropy of what the model expects where the word's first token stands."""
    rank: int
    """Place of the word's first token among all tokens by probability, the likeliest 1; -1 where nothing was scored."""
    mode: str = pa.Field(isin=["raw", "boundary", "exact"])
    surprisal_nats: float = may_lack()
    """−ln of the word's probability; NaN for a first word that nothing stands before."""
    left_out_share: float = may_lack()
    """Mode exact: an upper bound on the probability of spellings not followed, as a share of what was found."""


class Texts(TableSchema):
    """One text in one mode: the sum and the mean over its scored words."""

    text_id: str
    mode: str
    n_words: int
    """Scored words."""
    sum_nats: float
    mean_nats: float


class Means(TableSchema):
    """Mean surprisal of a word over all texts in one mode, with its bootstrap interval over texts."""

    mode: str
    mean_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """Texts."""
    n_words: int
    resampled: str


class Places(TableSchema):
    """Mean surprisal of the words at one place of their texts in one mode, with its bootstrap interval over texts."""

    mode: str
    word_index: int
    mean_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    resampled: str


SCHEMAS: Schemas = {"words": Words, "texts": Texts, "means": Means, "places": Places}


def summarise(words: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the tables texts, means and places."""
    scored = words[words["surprisal_nats"].notna()]
    by_text = scored.groupby(["text_id", "mode"], sort=False)["surprisal_nats"]
    return {
        "texts": by_text.agg(n_words="size", sum_nats="sum", mean_nats="mean").reset_index(),
        "means": _means(scored, ["mode"], seed).rename(columns={"n_rows": "n_words"}),
        "places": _means(scored, ["mode", "word_index"], seed).drop(columns="n_rows"),
    }


def _means(scored: pd.DataFrame, by: list[str], seed: int) -> pd.DataFrame:
    found = estimates(scored, by, value="surprisal_nats", over="text_id", limits=(0.0, np.inf), seed=seed)
    return found.rename(columns={"value": "mean_nats"}).assign(resampled="texts")
