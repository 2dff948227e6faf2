"""The bipartite graph of tokens and features: totals over all blocks, its edges, features and GraphML, and what two graphs share."""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from interp.errors import RunError
from interp.tables import Tables
from probes.function_tokens.counts import Run, add_up

if TYPE_CHECKING:
    import networkx as nx

DENSE, SINGLE_SHARE, SINGLE_FEWEST = 0.1, 0.9, 10
MOST_EDGES = 1_000_000
"""networkx keeps some hundreds of bytes per edge."""
Ints = NDArray[np.int64]


class Graph(NamedTuple):
    """Pairs with counts, as a matrix: rows are the distinct tokens (token_ids), columns all features of the dictionary."""

    matrix: Any
    """A scipy.sparse.csr_array [token, feature]."""
    token_ids: Ints
    occurrences: Ints
    """Counted positions of each token."""

    @property
    def feature_counts(self) -> Ints:
        """Counted positions at which each feature is active."""
        return np.asarray(self.matrix.sum(axis=0), dtype=np.int64)

    def above(self, min_count: int) -> "Graph":
        """Returns the graph of the pairs that occur at least that often."""
        if min_count <= 1:
            return self
        kept = self.matrix.copy()
        kept.data = np.where(kept.data >= min_count, kept.data, 0)
        kept.eliminate_zeros()
        return self._replace(matrix=kept)


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


def feature_counts_by_block(pairs: pd.DataFrame, n_features: int) -> NDArray[np.float64]:
    """Returns at how many positions each feature is active in each block: [block, feature], blocks in order."""
    found = []
    for _, block in pairs.groupby("block"):
        feature, count = (np.concatenate(block[name].to_list()) for name in ("feature_ids", "counts"))
        found.append(np.bincount(feature, weights=count, minlength=n_features))
    return np.array(found, dtype=float)  # of no features at all bincount gives integers


def edge_table(counted: Counted) -> pd.DataFrame:
    """Returns the columns of `edges`."""
    token, feature = counted.run.split(counted.n_features)
    return pd.DataFrame(
        {
            "token_id": token.astype(np.int32),
            "feature_id": feature.astype(np.int32),
            "count": counted.run.count.astype(np.int32),
            "document_count": counted.run.documents.astype(np.int32),
            "activation_sum": counted.run.activation_sum,
            "activation_max": counted.run.maximum,
        }
    )


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


def edge_overlap(edges: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns, per dictionary that two runs share, the Jaccard index of their edges: |both| / |either|.

    The same texts in two precisions tell how many edges hang on a rounding error.
    """
    rows = []
    for (first, a), (second, b) in combinations(edges.items(), 2):
        for dictionary in sorted(set(a["dictionary"]) & set(b["dictionary"])):
            pairs = [
                pd.MultiIndex.from_frame(table.loc[table["dictionary"] == dictionary, ["token_id", "feature_id"]])
                for table in (a, b)
            ]
            both = len(pairs[0].intersection(pairs[1]))
            either = len(pairs[0]) + len(pairs[1]) - both
            rows.append(
                (
                    first,
                    second,
                    dictionary,
                    len(pairs[0]),
                    len(pairs[1]),
                    both,
                    both / either if either else float("nan"),
                )
            )
    columns = ["first", "second", "dictionary", "first_edges", "second_edges", "both", "jaccard"]
    return pd.DataFrame(rows, columns=columns)


def graphml_files(tables: Tables) -> dict[str, str]:
    """Returns one GraphML text per dictionary, by file name."""
    import networkx as nx

    return {
        f"graph_{name.replace(':', '_').replace('/', '_')}.graphml": "\n".join(
            nx.generate_graphml(build_graph(tables, name))
        )
        for name in tables["edges"]["dictionary"].unique()
    }


def build_graph(tables: Tables, dictionary: str) -> "nx.Graph[Any]":
    """Returns the bipartite graph of one dictionary: nodes t<token_id> and f<feature_id>, edges with their counts.

    Raises RunError above a million edges.
    """
    import networkx as nx

    edges = tables["edges"]
    edges = edges[edges["dictionary"] == dictionary]
    if len(edges) > MOST_EDGES:
        raise RunError(
            f"The graph of {dictionary} has {len(edges):,} edges, too many for GraphML: leave out --graphml and read tables/edges.parquet."
        )
    graph: nx.Graph[Any] = nx.Graph(dictionary=dictionary)
    degrees, profile = (_own(tables[name], dictionary) for name in ("token_degrees", "feature_profile"))
    rows: Any = degrees.itertuples()
    for row in rows:
        attributes = {"token": _legal(row.token), "token_class": row.token_class, "occurrences": row.occurrences}
        graph.add_node(f"t{row.token_id}", bipartite=0, **attributes)
    rows = profile.itertuples()
    for row in rows:
        graph.add_node(f"f{row.feature_id}", bipartite=1, occurrences=row.occurrences, density=row.density)
    names = ("token_id", "feature_id", "count", "activation_sum")
    for token, feature, count, mass in zip(*(edges[name].tolist() for name in names), strict=True):
        graph.add_edge(f"t{token}", f"f{feature}", count=count, activation_sum=mass)
    return graph


def _own(table: pd.DataFrame, dictionary: str) -> pd.DataFrame:
    return table[table["dictionary"] == dictionary]


def _legal(text: str) -> str:
    """The text without the control signs that XML does not know."""
    return "".join(sign if sign >= " " or sign in "\t\n\r" else "\ufffd" for sign in text)
