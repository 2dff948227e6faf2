"""Which heads to mask, best first: by how they look at the lists, as a retrieval-heads run of the same model ranks them, or as a
file of another tool does.
"""

from pathlib import Path

import pandas as pd

from interp.errors import ArgumentError
from interp.heads.given import given_files, given_heads, ranking_run
from interp.heads.places import is_file_of_heads
from interp.models.head_sets import Head
from interp.models.identity import ModelFacts

RUN_TABLES = ("head_scores", "echo_induction")


def ranked_by_look(attention: pd.DataFrame, look: str) -> list[Head]:
    """Returns all heads in falling order of their mean mass over trials, from `list_attention` (see `looks`)."""
    return _ranked(attention.groupby(["layer", "head"])[look].mean())


def ranked_by_run(folder: Path) -> dict[str, list[Head]]:
    """Returns the rankings of a retrieval-heads run: `retrieval` by the paper's copy-paste score, `induction` by
    RazorAttention's induction score.
    """
    tables = ranking_run(folder).tables
    scores = tables["head_scores"]
    scores = scores[scores["definition"] == "set"].set_index(["layer", "head"])["score"]
    induction = tables["echo_induction"].groupby(["layer", "head"])["induction"].mean()
    return {"retrieval": _ranked(scores), "induction": _ranked(induction)}


def run_files(folder: Path) -> list[Path]:
    """Returns the files that the rankings are made of, of a retrieval-heads run or another tool's: they name a run that uses
    them.

    Raises ArgumentError when the folder is no finished retrieval-heads run.
    """
    if is_file_of_heads(folder):
        return given_files(folder)
    return [ranking_run(folder).folder / "tables" / f"{name}.parquet" for name in RUN_TABLES]


def check_same_model(folder: Path, facts: ModelFacts) -> None:
    """Raises ArgumentError when a retrieval-heads run was made with other weights than the model at hand, or a file names heads
    that it does not have (files do not tell the weights).
    """
    if is_file_of_heads(folder):
        given_heads(folder, facts)
        return
    identity = ranking_run(folder).description["model"]["identity"]
    if identity["revision"] != facts.identity.revision:
        raise ArgumentError(
            f"--heads-from {folder} ranks the heads of {identity['name']}, not of {facts.name}: run `python -m interp.experiments "
            f"retrieval_heads --model {facts.name}` and name its folder."
        )


def _ranked(scores: pd.Series) -> list[Head]:
    """Heads by falling score, equal ones by layer and head."""
    order = scores.sort_index().sort_values(ascending=False, kind="stable").index
    return [(int(layer), int(head)) for layer, head in order]
