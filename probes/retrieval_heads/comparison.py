"""Several runs, or files of other tools, side by side: scores of one kind by value, scores of different kinds by rank only."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from interp.agreement import pearson, spearman
from interp.errors import ArgumentError
from interp.heads.files import read_heads, read_json
from interp.heads.formats import (
    head_means,
    sample_scores,
    write_duo_pattern,
    write_locos_scores,
    write_public_scores,
    write_qrhead_set,
)
from interp.heads.given import expanded
from interp.heads.kinds import KINDS, PATTERN_FILE
from interp.tables import Tables
from probes.retrieval_heads.rankings import scored_rows
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
        """Whether every head of the model has a score; lists name only some heads."""
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
    """The share of the k best heads that both have; heads whose equal scores end the k best share the places that are left.

    So heads that score nothing on both sides are not counted as found by both.
    """
    first, second = (_places(scores, k) for scores in (a, b))
    return float((first * second.reindex(first.index, fill_value=0.0)).sum()) / k


def _places(scores: pd.Series, k: int) -> pd.Series:
    """How much of a place among the k best each head has: 1, 0, or its share where equal scores end them."""
    last = scores.nlargest(k).iloc[-1]
    above, tied = scores > last, scores == last
    return above + tied * ((k - above.sum()) / tied.sum())


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


READABLE = (".json", ".tsv", ".txt", ".yaml", ".yml")
"""Suffixes of files that `compare` looks into."""


def documents_of(tables: Tables, *, definition: str, only_passed: bool) -> dict[str, str]:
    """Returns a run's scores in other tools' formats, by path; tables without scores are left out."""
    scores = scored_rows(tables, "sample_head_scores", only_passed=only_passed)
    documents = {f"head_score_{name}.json": write_public_scores(scores, f"{name}_score") for name in ("set", "count")}
    heads, kv_heads = (tables.get(name, pd.DataFrame({"definition": []})) for name in ("head_scores", "kv_head_scores"))
    if definition in set(heads["definition"]):
        model = str(heads["model"].iloc[0])
        documents |= write_duo_pattern(kv_heads, definition, model)
        documents["qrhead.yaml"] = write_qrhead_set(heads, definition, model)
    if "locos" in set(heads["definition"]):
        contributions = scored_rows(tables, "logit_contribution", only_passed=only_passed)
        documents["locos_scores.json"] = write_locos_scores(contributions, str(heads["model"].iloc[0]))
    return documents


def read_public_scores(path: Path) -> pd.DataFrame:
    """Returns one row per head and sample of a public score file, {"layer-head": [score, …]}: layer, head, sample, score.

    Raises ArgumentError for a file that is not in that format, with what is wrong.
    """
    return sample_scores(path, read_json(path))


def public_head_scores(path: Path) -> pd.DataFrame:
    """Returns per head the mean score and activation frequency of a public file of copy scores: layer, head, score, …

    The scores are of the `count` definition; the file tells no needles, so there are no intervals.
    """
    return head_means(read_public_scores(path)).assign(definition="count")


def foreign_head_scores(place: Path) -> pd.DataFrame | None:
    """Returns the heads of a file of any known tool, or of a DuoAttention folder, as `head_scores` has them: layer, head, score,
    definition (the kind of score), and whether `head` counts key-value heads. None for files of other sorts.

    Raises ArgumentError for a file that should rank heads and does not.
    """
    if not (place / PATTERN_FILE).is_file() and (place.suffix not in READABLE or not place.is_file()):
        return None
    heads = read_heads(place)
    return heads.scores.assign(definition=heads.kind, per_kv_head=heads.per_kv_head, file_format=heads.format)
