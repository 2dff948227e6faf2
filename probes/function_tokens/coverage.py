"""How many features sets of tokens reach: in a given order, chosen greedily, drawn at random, matched on occurrences."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

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


def covered_in_order(graph: Graph, order: Ints) -> Ints:
    """Returns the number of distinct features reached by the first 1, 2, … rows of the order."""
    place = np.full(graph.matrix.shape[0], len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    first = first_places(graph, place, len(order))
    return np.cumsum(np.bincount(first[first < len(order)], minlength=len(order)))


def first_places(graph: Graph, place: Ints, never: int) -> Ints:
    """Returns per feature the smallest place among the rows that reach it, or `never`."""
    first = np.full(graph.matrix.shape[1], never, dtype=np.int64)
    rows = np.repeat(np.arange(graph.matrix.shape[0]), np.diff(graph.matrix.indptr))
    np.minimum.at(first, graph.matrix.indices, place[rows])
    return first


def greedy_cover(graph: Graph, k: int) -> Ints:
    """Returns up to k rows, each the one that reaches most features not reached before (the first of equals).

    Within 1 − 1/e of the best set of that size (Nemhauser, Wolsey, Fisher 1978); stops when all features are reached.
    """
    reaches = sparse.csr_array(
        (np.ones(graph.matrix.nnz), graph.matrix.indices, graph.matrix.indptr), graph.matrix.shape
    )
    left = np.ones(graph.matrix.shape[1])
    chosen: list[int] = []
    for _ in range(min(k, graph.matrix.shape[0])):
        gain = reaches @ left
        best = int(np.argmax(gain))
        if gain[best] == 0:
            break
        chosen.append(best)
        left[graph.matrix.indices[graph.matrix.indptr[best] : graph.matrix.indptr[best + 1]]] = 0
    return np.array(chosen, dtype=np.int64)


def matched_rows(graph: Graph, candidates: Ints, occurrences: int, generator: np.random.Generator) -> Ints:
    """Returns random candidates whose occurrences add up to `occurrences`, as nearly as leaving out too frequent ones allows."""
    order = generator.permutation(candidates)
    counts = graph.occurrences[order]
    chosen, total = [], 0
    for row, count in zip(order.tolist(), counts.tolist(), strict=True):
        if total + count <= occurrences:
            chosen.append(row)
            total += count
        if total == occurrences:
            break
    return np.array(chosen, dtype=np.int64)


def n_covered(graph: Graph, rows: Ints) -> int:
    """Returns the number of distinct features that the rows reach."""
    return len(np.unique(graph.matrix[rows].indices)) if len(rows) else 0


def sizes(largest: int, first: Sequence[int] = tuple(range(1, 11))) -> Ints:
    """Returns the set sizes that are reported: the first ten, then about twelve per factor of ten, up to `largest`."""
    spaced = np.unique(
        np.round(np.geomspace(1, max(1, largest), 1 + int(12 * np.log10(max(2, largest))))).astype(np.int64)
    )
    wanted = np.union1d(np.asarray(first, dtype=np.int64), spaced)
    return wanted[wanted <= largest]
