"""Several runs, or files of other tools, side by side: scores of one kind by value, scores of different kinds by rank only."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from interp.errors import ArgumentError
from interp.heads.given import expanded
from interp.heads.kinds import KINDS
from interp.statistics import pearson, spearman
from interp.tables import Tables
from probes.retrieval_heads.summaries import BUCKETS, bucket_shares

LISTS = ("order", "members")
"""Kinds of which a side names some heads and scores none."""


@dataclass(frozen=True)
class _Side:
    """One run or file in one definition: scores by layer and head, in layer-major order."""

    scores: pd.DataFrame
    definition: str
    per_kv_head: bool
    n_layers: int
    n_heads: int

    @property
    def whole(self) -> bool:
        """Whether every head of the model has a score: lists name some."""
        return self.definition not in LISTS and len(self.scores) == self.n_layers * self.n_heads


def compare_all(runs: Mapping[str, Tables], definition: str, k: int) -> dict[str, pd.DataFrame]:
    """Returns `sides` (what each side's scores are), `pairs` (correlations and top-k overlap), `sparsity` (share of heads per
    bucket) and `activation`; the last two have copy scores only.

    Sides are compared in the given definition where all have it; else copy scores in `count`, which public files hold; else in
    a definition that all have; else each in its own, by rank. Pearson's correlation is of scores of one kind only.
    Correlations need models with the same layers and heads, all of them scored; other pairs have NaN.
    Raises ArgumentError when a run has no scores of that definition.
    """
    chosen = _definitions(
        {run: list(tables["head_scores"]["definition"].unique()) for run, tables in runs.items()}, definition
    )
    sides = {run: _side(run, tables, chosen[run]) for run, tables in runs.items()}
    copies = {run: side for run, side in sides.items() if KINDS[side.definition].copies}
    return {
        "sides": _described(sides),
        "pairs": _pairs(sides, k),
        "sparsity": _sparsity(copies),
        "activation": _activation(copies),
    }


def _definitions(there: Mapping[str, list[str]], wanted: str) -> dict[str, str]:
    """The definition to compare every side in."""
    if all(wanted in names for names in there.values()):
        return dict.fromkeys(there, wanted)
    if all(any(KINDS[name].copies for name in names if name in KINDS) or not names for names in there.values()):
        return dict.fromkeys(there, "count")
    common = [name for name in next(iter(there.values())) if all(name in names for names in there.values())]
    if common:
        return dict.fromkeys(there, common[0])
    return {run: wanted if wanted in names or not names else names[0] for run, names in there.items()}


def _side(run: str, tables: Tables, definition: str) -> _Side:
    table = tables["head_scores"]
    table = table[table["definition"] == definition].dropna(subset=["score"])
    if not len(table):
        raise ArgumentError(f"{run} has no {definition} scores to compare.")
    per_kv_head = bool(table["per_kv_head"].iloc[0]) if "per_kv_head" in table else False
    return _Side(
        table.sort_values(["layer", "head"]).set_index(["layer", "head"]),
        definition,
        per_kv_head,
        int(table["layer"].max()) + 1,
        int(table["head"].max()) + 1,
    )


def _described(sides: Mapping[str, _Side]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": run,
                "definition": side.definition,
                "scores": KINDS[side.definition].text,
                "n_heads": len(side.scores),
                "per_kv_head": side.per_kv_head,
            }
            for run, side in sides.items()
        ]
    )


def _pairs(sides: Mapping[str, _Side], k: int) -> pd.DataFrame:
    rows = []
    for first, second in combinations(sides, 2):
        one, two = _in_query_heads(sides[first], sides[second])
        a, b = one.scores["score"], two.scores["score"]
        same = a.index.equals(b.index)
        alike = one.definition == two.definition
        ordered = "members" not in (one.definition, two.definition)
        nothing = float("nan")
        fits = same or (not (one.whole and two.whole) and _within(one, two))
        top_k = min(k, len(a), len(b))
        rows.append(
            {
                "first": first,
                "second": second,
                "definition": one.definition if alike else f"{one.definition} and {two.definition}, by rank",
                "same_shape": same,
                "pearson": pearson(a, b) if same and alike else nothing,
                "spearman": spearman(a, b) if same and ordered else nothing,
                "k": top_k,
                "top_k_overlap": _overlap(a, b, top_k) if fits else nothing,
            }
        )
    return pd.DataFrame(rows)


def _in_query_heads(one: _Side, two: _Side) -> tuple[_Side, _Side]:
    """Both sides over query heads, where one scores the key-value heads of as many layers and the other their query heads."""
    if one.per_kv_head == two.per_kv_head or one.n_layers != two.n_layers:
        return one, two
    narrow, wide = (one, two) if one.per_kv_head else (two, one)
    if wide.n_heads % narrow.n_heads:
        return one, two
    scores = expanded(narrow.scores.reset_index(), wide.n_heads // narrow.n_heads).set_index(["layer", "head"])
    spread = _Side(scores, narrow.definition, False, narrow.n_layers, wide.n_heads)
    return (spread, wide) if one.per_kv_head else (wide, spread)


def _within(one: _Side, two: _Side) -> bool:
    """Whether some heads of a model on one side can be heads of the model on the other, which has scores of all."""
    if one.whole:
        one, two = two, one
    return not two.whole or (one.n_layers <= two.n_layers and one.n_heads <= two.n_heads)


def _overlap(a: pd.Series, b: pd.Series, k: int) -> float:
    """The share of the k best heads that both have, equal scores in layer-major order."""
    first, second = (set(scores.sort_values(ascending=False, kind="stable").index[:k]) for scores in (a, b))
    return len(first & second) / k


def _sparsity(sides: Mapping[str, _Side]) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "run": run,
                "definition": side.definition,
                "bucket": BUCKETS,
                "share": bucket_shares(side.scores["score"].to_numpy()),
                "n_heads": len(side.scores),
            }
        )
        for run, side in sides.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _activation(sides: Mapping[str, _Side]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": run,
                "definition": side.definition,
                "n_samples": int(side.scores["n_samples"].max()),
                "always_active": int((side.scores["activation_frequency"] >= 1).sum()),
                "active_on_nine_tenths": int((side.scores["activation_frequency"] >= 0.9).sum()),
                "never_active": int((side.scores["activation_frequency"] <= 0).sum()),
                "above_0_1": int((side.scores["score"] > 0.1).sum()),
            }
            for run, side in sides.items()
        ]
    )
