"""Texts and features whose dependence is known, because it is drawn here; and a tokenizer of numbers."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_FEATURES = 64


def draw_events(
    tokens: NDArray[np.int64], probabilities: NDArray[np.float64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns (position, feature) of the active features: feature f is active at token t with probabilities[t, f]."""
    generator = np.random.default_rng(seed)
    active = generator.random((len(tokens), probabilities.shape[1])) < probabilities[tokens]
    return np.nonzero(active)


def block_pairs(tokens: NDArray[np.int64], events: tuple[Any, Any], block: NDArray[np.int64]) -> pd.DataFrame:
    """Returns the measured table that such events would give, each block one text; every activation is 1."""
    position, feature = events
    rows = []
    for index in np.unique(block):
        for token in np.unique(tokens[block == index]):
            here = (tokens == token) & (block == index)
            ids, counts = np.unique(feature[here[position]], return_counts=True)
            rows.append(
                {
                    "block": index,
                    "token_id": token,
                    "occurrences": int(here.sum()),
                    "feature_ids": ids.astype(np.int32),
                    "counts": counts.astype(np.int32),
                    "document_counts": np.ones(len(ids), dtype=np.int32),
                    "activation_sums_fixed": counts.astype(np.int64) << 20,
                    "activation_maxima": np.ones(len(ids), dtype=np.float32),
                }
            )
    return pd.DataFrame(rows)
