"""The ranking that --heads-from names, another tool's file or a retrieval_heads run, matched to the model."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandera.pandas as pa

from interp.errors import ArgumentError
from interp.heads.files import HeadFile, read_heads
from interp.heads.formats import how_to_name
from interp.heads.kinds import KINDS, PATTERN_FILE, is_file_of_heads, pattern_in
from interp.tables import TableSchema, may_lack

if TYPE_CHECKING:
    import pandas as pd

    from interp.experiments.run import Run
    from interp.models.identity import ModelFacts

Head = tuple[int, int]
OTHER_WEIGHTS = " (other weights)"
"""Behind the name of a run's model whose weights are not those of the model at hand, whatever both are called."""


def ranking_run(place: Path) -> "Run":
    """Returns the finished retrieval_heads run in a folder, or with a hash that begins with the given digits.

    Raises ArgumentError for a place that is neither that nor a file.
    """
    from interp.experiments.run import open_run

    if place.is_dir() and not (place / "run.json").is_file():
        raise ArgumentError(
            f"{place} holds no run.json and no {PATTERN_FILE}: name the folder of a retrieval_heads run, or a file that ranks heads."
        )
    if place.suffix and not place.exists():
        raise ArgumentError(f"There is no file {place}: name a file that ranks heads, or a retrieval_heads run.")
    run = open_run(place)
    if run.experiment.name != "retrieval_heads":
        raise ArgumentError(
            f"--heads-from {place} is a run of {run.experiment.name}: name the folder of a retrieval_heads run."
        )
    return run


def given_files(place: Path) -> list[Path]:
    """Returns the file that a ranking is read from; its content is part of the hash of a run that uses it."""
    if is_file_of_heads(place):
        return [pattern_in(place)]
    return [ranking_run(place).folder / "tables" / "head_scores.parquet"]


def given_heads(place: Path, facts: "ModelFacts", definition: str = "set") -> "pd.DataFrame":
    """Returns the rows of the table `heads_from`: the heads that a file or a run ranks, best first, equal ones by layer and head.

    Of a run it is the ranking by `definition`. A score of a key-value head stands for all query heads that share it.
    Raises ArgumentError for heads that the model does not have, for scores of all heads of a model of another shape, and for a run
    that scored none.
    """
    geometry = facts.geometry
    assert geometry is not None
    heads = read_heads(place) if is_file_of_heads(place) else _of_run(ranking_run(place), definition, facts)
    if heads.kind == "gate" and geometry.only_in is not None:
        heads = _lines_as_layers(heads, geometry.layers)
    scores = heads.scores[["layer", "head", "score"]]
    shape = (geometry.n_layers, geometry.n_kv_heads)
    per_kv_head = heads.per_kv_head or (geometry.n_kv_heads < geometry.n_heads and covers(scores, fewest=1) == shape)
    check_fits(heads, facts, geometry.n_kv_heads if per_kv_head else geometry.n_heads)
    if per_kv_head:
        scores = expanded(scores, geometry.group_size)
    ranked = scores.sort_values(["layer", "head"]).sort_values("score", ascending=False, kind="stable")
    return ranked.assign(
        model=facts.name,
        rank=range(1, len(ranked) + 1),
        kv_head=ranked["head"] // geometry.group_size,
        kind=heads.kind,
        per_kv_head=per_kv_head,
        named_model=heads.model or "",
    ).reset_index(drop=True)


def scores_of_run(run: "Run", definition: str = "set") -> "pd.DataFrame":
    """Returns the rows of a retrieval_heads run's `head_scores` by one definition, best head first, equal ones by layer and head.

    Raises ArgumentError for a run in which no head has a score, so that none is first.
    """
    scores = run.tables["head_scores"]
    scores = scores[scores["definition"] == definition].dropna(subset=["score"])
    if not len(scores):
        raise ArgumentError(
            f"{run.folder} has no {definition} scores: no sample of that run was scored, so it ranks no heads; name another run."
        )
    return scores.sort_values(["layer", "head"]).sort_values("score", ascending=False, kind="stable")


def _of_run(run: "Run", definition: str, facts: "ModelFacts") -> HeadFile:
    columns = ["layer", "head", "score", "activation_frequency", "n_samples"]
    scores, described = scores_of_run(run, definition)[columns], run.description["model"]
    identity, geometry = described["identity"], described.get("geometry") or {}
    others = "" if identity["revision"] == facts.identity.revision else OTHER_WEIGHTS
    known = {"num_layers": "n_layers", "num_heads": "n_heads", "num_kv_heads": "n_kv_heads"}
    counts = {name: geometry[own] for name, own in known.items() if own in geometry}
    return HeadFile(
        run.folder, "retrieval_heads run", definition, scores, model=f"{identity['name']}{others}", counts=counts
    )


def _lines_as_layers(heads: HeadFile, layers: Sequence[int]) -> HeadFile:
    """A pattern of as many lines as the model has layers with attention: its lines are those layers."""
    scores = heads.scores
    if scores["layer"].max() + 1 != len(layers):
        return heads
    return replace(heads, scores=scores.assign(layer=[layers[line] for line in scores["layer"]]))


def expanded(scores: "pd.DataFrame", group_size: int) -> "pd.DataFrame":
    """Returns scores of key-value heads (layer, head, …) for every query head that shares one."""
    repeated = scores.loc[scores.index.repeat(group_size)].reset_index(drop=True)
    within = repeated.groupby(["layer", "head"]).cumcount()
    return repeated.assign(head=repeated["head"] * group_size + within)


def covers(scores: "pd.DataFrame", fewest: int = 2) -> tuple[int, int] | None:
    """Returns the numbers of layers and heads if the ranking covers all heads of the model; None if it covers some of them.

    Fewer layers or heads than `fewest` are taken for some.
    """
    n_layers, n_heads = int(scores["layer"].max()) + 1, int(scores["head"].max()) + 1
    return (n_layers, n_heads) if len(scores) == n_layers * n_heads and min(n_layers, n_heads) >= fewest else None


def check_fits(heads: HeadFile, facts: "ModelFacts", n_heads: int) -> None:
    """Raises ArgumentError if heads do not exist in the model, which has `n_heads` of that kind (query or key-value) per layer."""
    geometry = facts.geometry
    assert geometry is not None
    scores, path = heads.scores, heads.path
    sort = "heads" if n_heads == geometry.n_heads else "key-value heads"
    has = f"{facts.name} has {geometry.n_layers} layers of {n_heads} {sort}"
    outside = scores[(scores["layer"] >= geometry.n_layers) | (scores["head"] >= n_heads)]
    whole = covers(scores)
    if heads.kind not in ("order", "members") and whole not in (None, (geometry.n_layers, n_heads)):
        raise ArgumentError(
            f"{path} scores {whole[0]} layers of {whole[1]} {sort} and {has}: name one of the same model."
        )
    counted = {"num_layers": geometry.n_layers, "num_heads": geometry.n_heads, "num_kv_heads": geometry.n_kv_heads}
    for name, n in counted.items():
        if heads.counts.get(name, n) != n:
            raise ArgumentError(
                f"{path} says {name}: {heads.counts[name]}, and {facts.name} has {n}: name one of the same model."
            )
    if heads.kind == "gate" and len(scores) != len(geometry.layers) * n_heads:
        raise ArgumentError(f"{path} has {len(scores)} gates and {has}: name a pattern of the same model.")
    silent = scores[~scores["layer"].isin(geometry.layers)]
    if len(silent) and not len(outside):
        first = silent.iloc[0]
        raise ArgumentError(
            f"{path} names the head {int(first['layer'])}-{int(first['head'])}, and of the layers of {facts.name} only "
            f"{', '.join(map(str, geometry.layers))} have attention heads: leave the others out."
        )
    if len(outside):
        first = outside.iloc[0]
        from_one = int(scores["layer"].min()) == 1 or int(scores["head"].min()) == 1
        counted = "; layers and heads are counted from 0, and this file seems to count from 1" if from_one else ""
        raise ArgumentError(
            f"{path} names the head {int(first['layer'])}-{int(first['head'])}, and {has}, counted from 0{counted}."
        )


def heads_of(given: "pd.DataFrame") -> list[Head]:
    """Returns the heads of a table `heads_from`, best first."""
    return [(int(layer), int(head)) for layer, head in zip(given["layer"], given["head"], strict=True)]


def sizes_for(given: "pd.DataFrame", ks: Sequence[int]) -> tuple[int, ...]:
    """Returns how many of the given heads to edit: sizes for which there are enough heads; all heads if there are fewer, or no order."""
    n_heads = len(given)
    if given["kind"].iloc[0] == "members":
        return (n_heads,)
    return tuple(sorted({k for k in ks if 0 < k <= n_heads})) or (n_heads,)


def sentences_on(given: "pd.DataFrame", ks: Sequence[int]) -> list[tuple[str, bool]]:
    """Returns notes for the report of a run with such heads, each with whether it is a warning."""
    if not len(given):
        return []
    kind = str(given["kind"].iloc[0])
    expansion = (
        ", each key-value head's score standing for all query heads that share it"
        if given["per_kv_head"].iloc[0]
        else ""
    )
    first = ", ".join(f"{layer}-{head}" for layer, head in heads_of(given.head(5)))
    said = [
        (
            f"--heads-from ranks {len(given)} heads by {KINDS[kind].text}{expansion}; first: {first}.{how_to_name(kind)}",
            False,
        )
    ]
    named, model = str(given["named_model"].iloc[0]), str(given["model"].iloc[0])
    if named.endswith(OTHER_WEIGHTS):
        of = named.removesuffix(OTHER_WEIGHTS)
        said.append((f"The run of --heads-from ranks the heads of {of}, other weights than those of {model}.", True))
    elif named and not _same_name(named, model):
        said.append((f"The file of --heads-from names the model {named}, and this run is of {model}.", True))
    said += [(text, True) for text in sentences_on_ties(given["score"], sizes_for(given, ks), "--heads-from")]
    return said


def sentences_on_ties(scores: "pd.Series", ks: Sequence[int], ranking: str) -> list[str]:
    """Returns a sentence for every size at which a ranking, whose scores are given best first, is no order."""
    found = []
    for k in (k for k in ks if 0 < k < len(scores)):
        last = scores.iloc[k - 1]
        if scores.iloc[k] == last:
            found.append(
                f"The top {k} of {ranking} ends among {int((scores == last).sum())} heads with the same score, {last:.3g}: those of the "
                "first layers were taken."
            )
    return found


def _same_name(first: str, second: str) -> bool:
    """Whether two names may be one model's: Qwen/Qwen2.5-7B-Instruct and qwen2.5-7b."""
    a, b = (re.sub(r"[^a-z0-9]", "", name.lower().rpartition("/")[2]) for name in (first, second))
    return a.startswith(b) or b.startswith(a)


class HeadsFrom(TableSchema):
    """The heads of --heads-from, best first; empty without that setting."""

    rank: int = pa.Field(ge=1)
    layer: int = pa.Field(ge=0)
    head: int = pa.Field(ge=0)
    kv_head: int = pa.Field(ge=0)
    score: float = may_lack()
    kind: str
    """What the score is: a key of interp.heads.kinds.KINDS."""
    per_kv_head: bool
    """Whether the file scores key-value heads, each standing for the query heads that share it."""
    named_model: str
    """The model that the file names, "" where it names none; a run's, with OTHER_WEIGHTS behind it where it has other weights."""
