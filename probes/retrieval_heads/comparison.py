"""Several runs, or public score files, side by side."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd

from interp.errors import ArgumentError
from interp.statistics import pearson, spearman, top_overlap
from interp.tables import Tables
from probes.retrieval_heads.summarise import BUCKETS, bucket_shares


def compare_all(runs: Mapping[str, Tables], definition: str, k: int) -> dict[str, pd.DataFrame]:
    """Returns `pairs` (correlations and top-k overlap), `sparsity` (share of heads per bucket) and `activation`.

    Runs are compared in the given definition where all have it, else in `count`, which public files hold. Correlations
    need models with the same layers and heads; other pairs have NaN.
    Raises ArgumentError when a run has no scores of that definition.
    """
    everywhere = all(definition in set(tables["head_scores"]["definition"]) for tables in runs.values())
    definition = definition if everywhere else "count"
    scores = {run: _scores(run, tables, definition) for run, tables in runs.items()}
    return {
        "pairs": _pairs(scores, definition, k),
        "sparsity": _sparsity(scores, definition),
        "activation": _activation(scores, definition),
    }


def _scores(run: str, tables: Tables, definition: str) -> pd.DataFrame:
    table = tables["head_scores"]
    table = table[table["definition"] == definition].dropna(subset=["score"])
    if not len(table):
        raise ArgumentError(f"{run} has no {definition} scores to compare.")
    return table.sort_values(["layer", "head"]).set_index(["layer", "head"])


def _pairs(scores: Mapping[str, pd.DataFrame], definition: str, k: int) -> pd.DataFrame:
    rows = []
    for first, second in combinations(scores, 2):
        a, b = scores[first]["score"], scores[second]["score"]
        same = a.index.equals(b.index)
        nothing = float("nan")
        rows.append(
            {
                "first": first,
                "second": second,
                "definition": definition,
                "same_shape": same,
                "pearson": pearson(a, b) if same else nothing,
                "spearman": spearman(a, b) if same else nothing,
                "k": k,
                "top_k_overlap": top_overlap(a, b, min(k, len(a))) if same else nothing,
            }
        )
    return pd.DataFrame(rows)


def _sparsity(scores: Mapping[str, pd.DataFrame], definition: str) -> pd.DataFrame:
    frames = []
    for run, table in scores.items():
        shares = bucket_shares(table["score"].to_numpy())
        frames.append(
            pd.DataFrame(
                {"run": run, "definition": definition, "bucket": BUCKETS, "share": shares, "n_heads": len(table)}
            )
        )
    return pd.concat(frames, ignore_index=True)


def _activation(scores: Mapping[str, pd.DataFrame], definition: str) -> pd.DataFrame:
    rows = []
    for run, table in scores.items():
        frequency = table["activation_frequency"]
        rows.append(
            {
                "run": run,
                "definition": definition,
                "n_samples": int(table["n_samples"].max()),
                "always_active": int((frequency >= 1).sum()),
                "active_on_nine_tenths": int((frequency >= 0.9).sum()),
                "never_active": int((frequency <= 0).sum()),
                "above_0_1": int((table["score"] > 0.1).sum()),
            }
        )
    return pd.DataFrame(rows)
