"""How fast the tokens of a class collect features: distinct features against the number of their occurrences."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.statistics import cluster_weights
from probes.function_tokens.chance import expected_features
from probes.function_tokens.graph import Z95, feature_counts_by_block

DRAWN = tuple(int(m * 10**power) for power in range(6) for m in (1, 2, 5))


def accumulate(
    pairs: pd.DataFrame,
    n_features: int,
    token_sets: Mapping[str, NDArray[np.int64]],
    *,
    draws: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Returns the expected distinct features in m random occurrences of any token of each set, exact, with intervals over blocks.

    d_m(S) = Σ_f [1 − C(n_S − n_Sf, m) / C(n_S, m)], n_S occurrences of the set's tokens, n_Sf those at which f is active. The
    set of all tokens is the null: m random positions. It asks of a class what rarefied degrees ask of a token, and does not
    saturate with the corpus.
    """
    blocks = np.sort(pairs["block"].unique())
    rows = []
    for name, token_ids in token_sets.items():
        own = pairs[pairs["token_id"].isin(token_ids)]
        present = np.searchsorted(blocks, np.sort(own["block"].unique()))
        active, occurrences = np.zeros((len(blocks), n_features)), np.zeros(len(blocks))
        active[present] = feature_counts_by_block(own, n_features)
        occurrences[present] = own.groupby("block")["occurrences"].sum()
        ms = np.array([m for m in DRAWN if m <= occurrences.sum()])
        found = expected_features(active.sum(axis=0), ms, float(occurrences.sum()))[0]
        resampled = []
        for weight in cluster_weights(len(blocks), draws, seed) if len(blocks) > 1 else ():
            total = float(weight @ occurrences)
            drawn = expected_features(weight @ active, np.minimum(ms, total), total)[0] if total else np.zeros(len(ms))
            resampled.append(np.where(ms <= total, drawn, np.nan))
        half = Z95 * np.nanstd(resampled, axis=0) if len(blocks) > 1 else np.full(len(ms), np.nan)
        frame = pd.DataFrame({"drawn": ms, "features": found, "ci_low": found - half, "ci_high": found + half})
        rows.append(frame.assign(token_set=name, set_tokens=own["token_id"].nunique()))
    return pd.concat(rows, ignore_index=True)
