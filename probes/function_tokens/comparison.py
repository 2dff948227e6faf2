"""Several runs side by side: pair losses of models and checkpoints, coverage, and how many edges two runs share."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd

from interp.tables import Tables


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `pair_losses` and `top10_coverage` by run, and `edge_overlap` for every two runs."""
    losses, coverage = [], []
    for run, tables in runs.items():
        thresholds = tables["token_classes"]["threshold"]
        table = tables["pair_losses"]
        if len(table):
            losses.append(table[table["threshold"] == thresholds.iloc[0]].assign(run=run))
        table = tables["coverage"]
        if len(table):
            plain = (table["chosen_by"] == "frequency") & (table["min_count"] == 1) & (table["k"] == 10)
            coverage.append(table[plain].assign(run=run))
    return {
        "pair_losses": pd.concat(losses, ignore_index=True) if losses else pd.DataFrame(),
        "top10_coverage": pd.concat(coverage, ignore_index=True) if coverage else pd.DataFrame(),
        "edge_overlap": edge_overlap({run: tables["edges"] for run, tables in runs.items()}),
    }


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
