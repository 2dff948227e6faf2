"""How many features sets of tokens reach, in order of frequency, greedily, at random or matched, with nulls and intervals."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from interp.statistics import cluster_weights, standard_errors
from probes.function_tokens.activations import NEVER
from probes.function_tokens.degrees import Array, expected_features, expected_often
from probes.function_tokens.graph import Counted, Graph, Ints, feature_counts_by_block

MIN_COUNTS = (1, 2, 5, 10)
GREEDY = 100
OFTEN = 100
"""Tokens up to which edges of several occurrences have a null."""
MATCHED_SIZES = (1, 2, 5, 10, 20, 50)
SENSITIVITY_SIZES = (1, 10, 100)
Row = dict[str, Any]


def coverage_rows(
    counted: Counted, rank: NDArray[np.int32], function_ids: NDArray[np.int64], *, random_sets: int, seed: int
) -> Iterator[Row]:
    """Yields rows of `coverage`, without intervals: every order and every number of occurrences that makes an edge."""
    graph = counted.graph
    mass = np.bincount(
        np.searchsorted(counted.token_ids, counted.run.split(counted.n_features)[0]),
        weights=counted.run.sum_fixed,
        minlength=len(counted.token_ids),
    )
    context = _Context(counted, graph, mass / max(mass.sum(), 1.0))
    by_rank = np.argsort(rank[graph.token_ids], kind="stable")
    ks = np.union1d(sizes(len(by_rank)), [np.isin(graph.token_ids, function_ids).sum()])
    ks = ks[ks > 0]
    for min_count in MIN_COUNTS:
        yield from context.in_order("frequency", graph.above(min_count), by_rank, ks, min_count)
    greedy = greedy_cover(graph, GREEDY)
    yield from context.in_order("greedy", graph, greedy, sizes(len(greedy)), 1)
    generator = np.random.default_rng([seed, 30])
    yield from context.random_order(ks, random_sets, generator)
    content = np.flatnonzero(~np.isin(graph.token_ids, function_ids))
    wanted = sorted({*MATCHED_SIZES, int(np.isin(graph.token_ids, function_ids).sum())} - {0})
    for k in wanted:
        if k <= len(by_rank):
            yield from context.matched(by_rank[:k], content, random_sets, generator)


class _Context:
    """What all rows of one dictionary are divided by and held against."""

    def __init__(self, counted: Counted, graph: Graph, mass: Array) -> None:
        self.counted, self.graph, self.mass = counted, graph, mass
        counts = graph.feature_counts
        self.active = counts[counts > 0]

    def row(self, order: str, min_count: int, k: int, occurrences: float, features: float, mass: float) -> Row:
        alive, width = max(len(self.active), 1), self.counted.n_features
        null = np.nan
        if min_count == 1:
            drawn = [round(occurrences)]
            null = expected_features(self.active, drawn, self.counted.n_positions)[0][0] / alive
        return {
            "chosen_by": order,
            "min_count": min_count,
            "k": int(k),
            "occurrence_share": occurrences / self.counted.n_positions,
            "features": float(features),
            "coverage_alive": features / alive,
            "coverage_width": features / width,
            "null_alive": null,
            "excess_alive": features / alive - null,
            "mass_share": mass,
        }

    def in_order(
        self, name: str, graph: Graph, order: NDArray[np.int64], ks: NDArray[np.int64], min_count: int
    ) -> Iterator[Row]:
        reached = covered_in_order(graph, order)
        occurrences, mass = np.cumsum(graph.occurrences[order]), np.cumsum(self.mass[order])
        often = (
            []
            if min_count == 1
            else expected_often(self.active, graph.occurrences[order[:OFTEN]], self.counted.n_positions, min_count)
        )
        for k in ks.tolist():
            at = k - 1
            row = self.row(name, min_count, k, float(occurrences[at]), float(reached[at]), float(mass[at]))
            if min_count > 1 and k <= OFTEN:
                row["null_alive"] = often[at] / max(len(self.active), 1)
                row["excess_alive"] = row["coverage_alive"] - row["null_alive"]
            yield row

    def random_order(self, ks: NDArray[np.int64], n_sets: int, generator: np.random.Generator) -> Iterator[Row]:
        orders = [generator.permutation(len(self.graph.token_ids)) for _ in range(n_sets)]
        reached = np.array([covered_in_order(self.graph, order) for order in orders])[:, ks - 1]
        occurrences = np.array([np.cumsum(self.graph.occurrences[order])[ks - 1] for order in orders])
        mass = np.array([np.cumsum(self.mass[order])[ks - 1] for order in orders])
        yield from (
            self.spread("random", k, occurrences[:, index], reached[:, index], mass[:, index])
            for index, k in enumerate(ks.tolist())
        )

    def matched(
        self, top: NDArray[np.int64], content: NDArray[np.int64], n_sets: int, generator: np.random.Generator
    ) -> Iterator[Row]:
        wanted = int(self.graph.occurrences[top].sum())
        if self.graph.occurrences[content].sum() < wanted:
            return  # fewer content tokens than the function tokens that they would have to match
        sets = [matched_rows(self.graph, content, wanted, generator) for _ in range(n_sets)]
        occurrences = np.array([self.graph.occurrences[rows].sum() for rows in sets])
        reached = np.array([n_covered(self.graph, rows) for rows in sets])
        mass = np.array([self.mass[rows].sum() for rows in sets])
        yield self.spread("content", len(top), occurrences, reached, mass)

    def spread(self, order: str, k: int, occurrences: NDArray[Any], reached: NDArray[Any], mass: Array) -> Row:
        row = self.row(order, 1, k, float(occurrences.mean()), float(reached.mean()), float(mass.mean()))
        low, high = np.percentile(reached, [2.5, 97.5]) / max(len(self.active), 1)
        return row | {"low_alive": low, "high_alive": high}


def frequency_intervals(
    pairs: pd.DataFrame,
    first_ranks: pd.DataFrame,
    rank: NDArray[np.int32],
    counted: Counted,
    ks: NDArray[np.int64],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Returns the half widths of 95% intervals over blocks of the coverage of the k most frequent tokens and of its excess.

    `first_ranks`: the observed rows of `block_first_ranks`, positions "kept". The null of a draw is that of its own blocks.
    """
    blocks = np.sort(pairs["block"].unique())
    if len(blocks) < 2:  # nothing can be resampled
        return pd.DataFrame({"k": ks, "coverage_half": np.nan, "excess_half": np.nan})
    weights = cluster_weights(len(blocks), draws, seed)
    active = feature_counts_by_block(pairs, counted.n_features)
    kth_rank = np.sort(rank[counted.token_ids])[ks - 1]
    first = np.stack(first_ranks.sort_values("block")["first_rank"].to_list())
    token_rank = rank[pairs["token_id"].to_numpy()]
    occurrences = np.zeros((len(blocks), len(ks)))
    place = np.searchsorted(blocks, pairs["block"].to_numpy())
    slot = np.searchsorted(kth_rank, token_rank)
    inside = slot < len(ks)
    np.add.at(occurrences, (place[inside], slot[inside]), pairs["occurrences"].to_numpy()[inside])
    occurrences = np.cumsum(occurrences, axis=1)
    positions = weights @ pairs.groupby("block")["occurrences"].sum().reindex(blocks).to_numpy()
    coverage, excess = np.zeros((draws, len(ks))), np.zeros((draws, len(ks)))
    for draw, weight in enumerate(weights):
        counts = weight @ active
        alive = counts > 0
        reached = np.sort(first[weight > 0].min(axis=0)[alive])
        coverage[draw] = np.searchsorted(reached, kth_rank, side="right") / alive.sum()
        expected = expected_features(counts[alive], weight @ occurrences, positions[draw])[0]
        excess[draw] = coverage[draw] - expected / alive.sum()
    errors = standard_errors(len(blocks))
    return pd.DataFrame(
        {"k": ks, "coverage_half": errors * coverage.std(axis=0), "excess_half": errors * excess.std(axis=0)}
    )


def with_intervals(coverage: pd.DataFrame, spread: pd.DataFrame) -> pd.DataFrame:
    """Returns the coverage table with the intervals of the frequency order.

    None where no draw differs from the others: the set of all tokens reaches all features that are active, whatever is drawn.
    """
    table = coverage.merge(spread, on="k", how="left")
    plain = (table["chosen_by"] == "frequency") & (table["min_count"] == 1)
    for value, name in (("coverage_alive", "coverage"), ("excess_alive", "excess")):
        half = table[f"{name}_half"].where(plain & (table[f"{name}_half"] > 0))
        table[f"{name}_ci_low"], table[f"{name}_ci_high"] = table[value] - half, table[value] + half
    table["coverage_ci_low"], table["coverage_ci_high"] = (
        table["coverage_ci_low"].clip(0),
        table["coverage_ci_high"].clip(upper=1),
    )
    return table.drop(columns=["coverage_half", "excess_half"])


def shuffled_coverage(counted: Counted, rank: NDArray[np.int32], first_ranks: pd.DataFrame) -> pd.DataFrame:
    """Returns `shuffled_coverage`: coverage in frequency order by shuffled labels: the same features and tokens, other company."""
    shuffled = first_ranks[first_ranks["labels"] != "observed"]
    kth = np.sort(rank[counted.token_ids])
    ks = sizes(len(kth))
    rows = []
    for (labels, replicate), first in ranks_over_blocks(shuffled, ["labels", "replicate"]).items():
        reached = np.searchsorted(np.sort(first[first < NEVER]), kth[ks - 1], side="right")
        alive = max(1, int((first < NEVER).sum()))
        rows += [
            {"labels": labels, "replicate": replicate, "k": int(k), "coverage_alive": n / alive}
            for k, n in zip(ks, reached, strict=True)
        ]
    return pd.DataFrame(rows)


def sensitivity(first_ranks: pd.DataFrame, n_features: int) -> pd.DataFrame:
    """Returns `sensitivity`: coverage by the most frequent tokens, by which positions are counted."""
    observed = first_ranks[first_ranks["labels"] == "observed"]
    found = ranks_over_blocks(observed, ["positions"])
    rows = [(positions, k, int((first <= k).sum())) for (positions,), first in found.items() for k in SENSITIVITY_SIZES]
    table = pd.DataFrame(rows, columns=["positions", "k", "features"])
    return table.assign(coverage_width=table["features"] / n_features)


def ranks_over_blocks(first_ranks: pd.DataFrame, keys: list[str]) -> dict[Any, NDArray[np.int32]]:
    """Returns per value of the keys each feature's smallest rank over all blocks."""
    return {
        key: np.stack(group["first_rank"].to_list()).min(axis=0) for key, group in first_ranks.groupby(keys, sort=False)
    }


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
