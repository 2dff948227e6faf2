"""Which heads to mask, best first: by how they look at the lists, or as a retrieval-heads run of the same model ranks them."""

from pathlib import Path

import pandas as pd

from interp.errors import ArgumentError
from interp.experiments.run import Run, open_run
from interp.models.head_sets import Head
from interp.models.identity import ModelFacts

RUN_SETS = ("retrieval", "induction")
RUN_TABLES = ("head_scores", "echo_induction")


def ranked_by_look(attention: pd.DataFrame, look: str) -> list[Head]:
    """Returns all heads in falling order of their mean mass over trials, from `list_attention` (see `looks`)."""
    return _ranked(attention.groupby(["layer", "head"])[look].mean())


def ranked_by_run(folder: Path) -> dict[str, list[Head]]:
    """Returns the rankings of a retrieval-heads run: `retrieval` by the paper's copy-paste score, `induction` by
    RazorAttention's induction score.
    """
    tables = _retrieval_run(folder).tables
    scores = tables["head_scores"]
    scores = scores[scores["definition"] == "set"].set_index(["layer", "head"])["score"]
    induction = tables["echo_induction"].groupby(["layer", "head"])["induction"].mean()
    return {"retrieval": _ranked(scores), "induction": _ranked(induction)}


def run_files(folder: Path) -> list[Path]:
    """Returns the files of a retrieval-heads run that the rankings are made of: they name a run that uses them.

    Raises ArgumentError when the folder is no finished retrieval-heads run.
    """
    return [_retrieval_run(folder).folder / "tables" / f"{name}.parquet" for name in RUN_TABLES]


def check_same_model(folder: Path, facts: ModelFacts) -> None:
    """Raises ArgumentError when a retrieval-heads run was made with other weights than the model at hand."""
    identity = _retrieval_run(folder).description["model"]["identity"]
    if identity["revision"] != facts.identity.revision:
        raise ArgumentError(
            f"--heads-from {folder} ranks the heads of {identity['name']}, not of {facts.name}: run `python -m interp.experiments "
            f"retrieval_heads --model {facts.name}` and name its folder."
        )


def _retrieval_run(folder: Path) -> Run:
    run = open_run(folder)
    if run.experiment.name != "retrieval_heads":
        raise ArgumentError(
            f"--heads-from {folder} is a run of {run.experiment.name}: name the folder of a retrieval_heads run."
        )
    return run


def _ranked(scores: pd.Series) -> list[Head]:
    """Heads by falling score, equal ones by layer and head."""
    order = scores.sort_index().sort_values(ascending=False, kind="stable").index
    return [(int(layer), int(head)) for layer, head in order]
