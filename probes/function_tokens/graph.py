"""The bipartite graph of tokens and features, from the pairs of all blocks, with degrees, profiles and chance."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from interp.statistics import cluster_weights
from probes.function_tokens.chance import Array, expected_features, rarefied
from probes.function_tokens.counts import FIXED_POINT, Run, add_up
from probes.function_tokens.coverage import Graph

DEPTHS = (20, 100, 1000)
"""Numbers of occurrences at which degrees are rarefied."""
TOP_TOKENS = 30
"""Most frequent tokens that get intervals."""
DENSE, SINGLE_SHARE, SINGLE_FEWEST = 0.1, 0.9, 10
Z95 = 1.959964


class Counted(NamedTuple):
    """One dictionary's totals over all blocks."""

    run: Run
    n_features: int
    token_ids: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    """[token]."""

    @property
    def graph(self) -> Graph:
        """Rows are the tokens that occur."""
        token, feature = self.run.split(self.n_features)
        rows = np.searchsorted(self.token_ids, token)
        shape = (len(self.token_ids), self.n_features)
        matrix = sparse.csr_array((self.run.count, (rows, feature)), shape)
        matrix.sort_indices()
        return Graph(matrix, self.token_ids, self.occurrences)

    @property
    def n_positions(self) -> int:
        """Counted positions."""
        return int(self.occurrences.sum())


def total_counts(pairs: pd.DataFrame, n_features: int) -> Counted:
    """Returns the totals of one dictionary's `block_pairs`; exact, whatever the blocks and their order."""
    runs = []
    for _, block in pairs.groupby("block", sort=False):
        lengths = block["counts"].map(len).to_numpy()
        if not lengths.sum():
            continue
        token = np.repeat(block["token_id"].to_numpy(), lengths)
        names = ("feature_ids", "counts", "document_counts", "activation_sums_fixed", "activation_maxima")
        feature, count, documents, sums, maxima = (np.concatenate(block[name].to_list()) for name in names)
        order = np.lexsort((feature, token))
        pair = token.astype(np.int64) * n_features + feature
        run = Run(pair, count.astype(np.int64), documents.astype(np.int64), sums, maxima.astype(np.float32))
        runs.append(Run._make(column[order] for column in run))
    tokens = pairs.groupby("token_id")["occurrences"].sum()
    return Counted(add_up(runs), n_features, tokens.index.to_numpy(np.int64), tokens.to_numpy(np.int64))


def edge_table(counted: Counted) -> pd.DataFrame:
    """Returns the columns of `edges`."""
    token, feature = counted.run.split(counted.n_features)
    return pd.DataFrame(
        {
            "token_id": token.astype(np.int32),
            "feature_id": feature.astype(np.int32),
            "count": counted.run.count.astype(np.int32),
            "document_count": counted.run.documents.astype(np.int32),
            "activation_sum": counted.run.sum_fixed / FIXED_POINT,
            "activation_max": counted.run.maximum,
        }
    )


def degree_table(counted: Counted) -> pd.DataFrame:
    """Returns, per token, degrees raw, rarefied and in excess of the shuffle, without names and intervals."""
    graph = counted.graph
    degree = np.diff(graph.matrix.indptr)
    feature_counts = graph.feature_counts
    alive = feature_counts[feature_counts > 0]
    null, null_sd = expected_features(alive, counted.occurrences, counted.n_positions)
    reached_by = np.bincount(graph.matrix.indices, minlength=counted.n_features)
    rows = np.repeat(np.arange(len(degree)), degree)
    exclusive = np.bincount(rows[reached_by[graph.matrix.indices] == 1], minlength=len(degree))
    table = pd.DataFrame(
        {
            "token_id": counted.token_ids,
            "occurrences": counted.occurrences,
            "degree": degree,
            "exclusive": exclusive,
            "null_degree": null,
            "null_sd": null_sd,
            "excess": degree - null,
            "excess_z": np.divide(degree - null, null_sd, out=np.full(len(degree), np.nan), where=null_sd > 1e-9),
        }
    )
    for m in DEPTHS:
        table[f"rarefied_{m}"] = rarefied(graph.matrix.data, rows, counted.occurrences, m)
        depth = min(m, counted.n_positions)
        table[f"null_rarefied_{m}"] = expected_features(alive, [depth], counted.n_positions)[0][0]
    slopes = [
        np.log(table[f"rarefied_{deep}"] / table[f"rarefied_{shallow}"]) / np.log(deep / shallow)
        for shallow, deep in ((100, 1000), (20, 100))
    ]
    return table.assign(accumulation_exponent=slopes[0].fillna(slopes[1]))


def degree_intervals(
    pairs: pd.DataFrame, counted: Counted, token_ids: list[int], draws: int, seed: int
) -> pd.DataFrame:
    """Returns intervals of the excess and of the rarefied degree of some tokens, blocks of texts resampled.

    A draw leaves blocks out, so distinct features are fewer in it: its own null is subtracted from it, and the interval is the
    estimate ± 1.96 standard deviations of the draws.
    """
    blocks = np.sort(pairs["block"].unique())
    if len(blocks) < 2:  # nothing can be resampled
        return pd.DataFrame({"token_id": token_ids, "excess_sd": np.nan, "rarefied_sd": np.nan})
    weights = cluster_weights(len(blocks), draws, seed)
    active = feature_counts_by_block(pairs, counted.n_features)
    alive = active.sum(axis=0) > 0
    drawn_active = weights @ active[:, alive]
    positions = weights @ pairs.groupby("block")["occurrences"].sum().reindex(blocks).to_numpy()
    degrees, thinned, sizes = np.zeros((3, len(token_ids), draws))
    for row, token_id in enumerate(token_ids):
        own = pairs[pairs["token_id"] == token_id]
        place = np.searchsorted(blocks, own["block"].to_numpy())
        occurrences = np.zeros(len(blocks))
        occurrences[place] = own["occurrences"]
        features = np.unique(np.concatenate(own["feature_ids"].to_list()))
        counts = np.zeros((len(blocks), len(features)))
        for block, ids, values in zip(place, own["feature_ids"], own["counts"], strict=True):
            counts[block, np.searchsorted(features, ids)] = values
        drawn, sizes[row] = weights @ counts, weights @ occurrences
        degrees[row] = (drawn > 0).sum(axis=1)
        thinned[row] = rarefied(drawn.ravel(), np.repeat(np.arange(draws), len(features)), sizes[row], DEPTHS[0])
    expected = [expected_features(drawn_active[draw], sizes[:, draw], positions[draw])[0] for draw in range(draws)]
    excess_sd = (degrees - np.transpose(expected)).std(axis=1)
    rarefied_sd = [np.nanstd(one) if np.isfinite(one).sum() > 1 else np.nan for one in thinned]
    return pd.DataFrame({"token_id": token_ids, "excess_sd": excess_sd, "rarefied_sd": rarefied_sd})


def feature_counts_by_block(pairs: pd.DataFrame, n_features: int) -> Array:
    """Returns at how many positions each feature is active in each block: [block, feature], blocks in order."""
    found = []
    for _, block in pairs.groupby("block"):
        feature, count = (np.concatenate(block[name].to_list()) for name in ("feature_ids", "counts"))
        found.append(np.bincount(feature, weights=count, minlength=n_features))
    return np.array(found, dtype=float)  # of no features at all bincount gives integers


def profile_table(counted: Counted, function_ids: NDArray[np.int64]) -> pd.DataFrame:
    """Returns, per active feature, what tokens it is active at."""
    token, feature = counted.run.split(counted.n_features)
    frame = pd.DataFrame(
        {"feature_id": feature, "token_id": token, "count": counted.run.count, "mass": counted.run.sum_fixed}
    )
    frame["function"] = np.isin(token, function_ids)
    totals = frame.groupby("feature_id")[["count", "mass"]].sum()
    share = frame["count"] / totals["count"].reindex(frame["feature_id"]).to_numpy()
    frame["entropy"] = -share * np.log(share)
    frame["share"] = share
    top = frame.sort_values(["feature_id", "count"], ascending=[True, False], kind="stable").drop_duplicates(
        "feature_id"
    )
    top = top.set_index("feature_id")
    grouped = frame.groupby("feature_id")
    at_function = frame[frame["function"]].groupby("feature_id")[["count", "mass"]].sum()
    at_function = at_function.reindex(totals.index, fill_value=0)
    entropy = grouped["entropy"].sum().clip(lower=0)
    table = pd.DataFrame(
        {
            "occurrences": totals["count"],
            "density": totals["count"] / counted.n_positions,
            "degree": grouped.size(),
            "token_entropy_nats": entropy,
            "effective_tokens": np.exp(entropy),
            "top_token_id": top["token_id"],
            "top_token_share": top["share"],
            "function_share": at_function["count"] / totals["count"],
            "function_mass_share": at_function["mass"] / totals["mass"],
        }
    )
    table["dense"] = table["density"] > DENSE
    table["single_token"] = (table["occurrences"] >= SINGLE_FEWEST) & (table["top_token_share"] >= SINGLE_SHARE)
    return table.reset_index()
