"""Whether retrieval heads look at function tokens more than their number explains: sums over texts, no model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.statistics import Array, cluster_weights, percentile_interval
from probes.joined.tables import GROUPS

DRAWS = 2000
Head = tuple[int, int]
_PARTS = {"function": [0, 1], "function words": [0], "function signs": [1]}
"""Which of the stored classes (in the order of class_mass.TOKEN_GROUPS) a group is made of."""
_STORED = ("function words", "function signs", "content")


def heads_of(rows: pd.DataFrame) -> list[Head]:
    """Returns the head of each row."""
    return [(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True)]


class Masses:
    """The table `class_mass` of one context and region as arrays: [text, head, class]."""

    def __init__(self, rows: pd.DataFrame) -> None:
        ordered = rows.assign(part=rows["token_group"].map(_STORED.index)).sort_values(
            ["text_id", "layer", "head", "part"], ignore_index=True
        )
        heads = ordered[["layer", "head"]].drop_duplicates()
        self.heads: list[Head] = heads_of(heads)
        self.n_texts = ordered["text_id"].nunique()
        shape = (self.n_texts, len(self.heads), len(_STORED))
        self.mass, self.even, self.first = (
            ordered[name].to_numpy(dtype=float).reshape(shape) for name in ("mass", "even_mass", "first_mass")
        )
        self.n_queries = ordered["n_queries"].to_numpy(dtype=float).reshape(shape)

    def of(self, heads: Sequence[Head], group: str) -> "Sums":
        """Returns a group's sums per text over some heads; a head that is named twice counts twice."""
        index = [self.heads.index(head) for head in heads]
        parts = _PARTS[group]
        return Sums(
            self.mass[:, index][..., parts].sum(axis=(1, 2)),
            self.even[:, index][..., parts].sum(axis=(1, 2)),
            self.mass[:, index].sum(axis=(1, 2)),
            self.first[:, index, 0].sum(axis=1),
            self.n_queries[:, index, 0].sum(axis=1),
        )


class Sums:
    """Sums per text: mass and even mass on a group, mass on all classes and on the first position, and all attention."""

    def __init__(self, mass: Array, even: Array, total: Array, first: Array, attention: Array) -> None:
        self.mass, self.even, self.total, self.first, self.attention = mass, even, total, first, attention

    def lift(self, weights: Array) -> Array:
        """Returns mass / even mass for each row of text weights [draw, text]; NaN where nothing is there to look at."""
        even = weights @ self.even
        return np.divide(weights @ self.mass, even, out=np.full(len(weights), np.nan), where=even > 0)


def summarise_lift(
    class_mass: pd.DataFrame, top: Sequence[Head], random: Sequence[Sequence[Head]], seed: int
) -> pd.DataFrame:
    """Returns `attention_lift`: the lift of each group for the top heads, random heads (all draws together) and all heads.

    Lift = Σ mass on the group / Σ mass it would get evenly spread, over texts, queries and heads: a head counts as much as
    it looks back at all. Top and random are resampled together, so their difference has an interval of its own.
    """
    rows = []
    for (context, region), part in class_mass.groupby(["context", "region"], sort=False):
        masses = Masses(part)
        sets = {"top": list(top), "random": [head for draw in random for head in draw], "all": masses.heads}
        for group in GROUPS:
            for row in _rows({name: masses.of(heads, group) for name, heads in sets.items()}, masses.n_texts, seed):
                named = {"context": context, "region": region, "token_group": group}
                rows.append({**named, **row, "n_draws": len(random) if row["heads"] != "all" else 0})
    return pd.DataFrame(rows).assign(model=class_mass["model"].iloc[0])


def _rows(sums: Mapping[str, Sums], n_texts: int, seed: int) -> Iterator[dict[str, Any]]:
    once, drawn = np.ones((1, n_texts)), cluster_weights(n_texts, DRAWS, seed)
    lifts = {name: (own.lift(once), own.lift(drawn)) for name, own in sums.items()}
    lifts["top − random"] = tuple(a - b for a, b in zip(lifts["top"], lifts["random"], strict=True))  # type: ignore[assignment]
    for name, (value, draws) in lifts.items():
        low, high = percentile_interval(draws)
        own = sums.get(name)
        yield {
            "heads": name,
            "lift": float(value[0]),
            "ci_low": float(low),
            "ci_high": float(high),
            "mass_share": _share(own.mass, own.total) if own else float("nan"),
            "even_share": _share(own.even, own.total) if own else float("nan"),
            "first_share": _share(own.first, own.attention) if own else float("nan"),
            "n_texts": n_texts,
        }


def _share(part: Array, whole: Array) -> float:
    return float(min(1.0, part.sum() / whole.sum())) if whole.sum() > 0 else float("nan")


def summarise_heads(class_mass: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Returns `head_lift`: every head's lift of function tokens beside its score; `scores` has layer, head, score."""
    ranked = scores.sort_values(["layer", "head"]).sort_values("score", ascending=False, kind="stable")
    rank = {
        head: (index, float(score))
        for index, (head, score) in enumerate(zip(heads_of(ranked), ranked["score"], strict=True), start=1)
    }
    rows = []
    for (context, region), part in class_mass.groupby(["context", "region"], sort=False):
        masses = Masses(part)
        for layer, head in masses.heads:
            own = masses.of([(layer, head)], "function")
            rows.append(
                {
                    "model": class_mass["model"].iloc[0],
                    "context": context,
                    "region": region,
                    "layer": layer,
                    "head": head,
                    "retrieval_score": rank[layer, head][1],
                    "retrieval_rank": rank[layer, head][0],
                    "lift": float(own.lift(np.ones((1, masses.n_texts)))[0]),
                    "mass_share": _share(own.mass, own.total),
                    "first_share": _share(own.first, own.attention),
                }
            )
    return pd.DataFrame(rows)
