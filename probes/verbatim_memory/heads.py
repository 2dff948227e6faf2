"""Heads that retrieve a repeated list: their attention, which are masked, and the second list read without them.

After the code of Armeni et al. (2024 line, GPT-2 only): from the token before a noun of the second list, `matching` is the
weight on the token before the same noun in the first list, `postmatch` that on the noun itself (what induction heads do),
`recent` that on the three tokens before. Theirs is taken at the first noun; here the mean over the others, which are the
ones that repeat surprisal counts.

Masked heads have their output set to zero, either while the second list is read, which leaves the memory of the first list
intact and tests which heads retrieve it, or from the first token on. Every mask is a row of one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.heads.given import given_files, given_heads, heads_of, ranking_run, scores_of_run
from interp.heads.kinds import is_file_of_heads
from interp.heads.sets import Edit, Head, editing_rows, heads_as_text, matched_draws
from interp.models.identity import ModelFacts
from interp.models.language.architecture import head_geometry
from interp.models.language.model import LanguageModel
from interp.models.language.out_of_memory import halving_on_out_of_memory
from interp.models.language.recording import WeightAt
from probes.verbatim_memory.trials import Trial

Look = Literal["matching", "postmatch", "recent"]
N_RECENT = 3
RUN_TABLES = ("head_scores", "echo_induction")
MaskPhase = Literal["second_list", "everything"]
ROWS_AT_ONCE = 64
WITHOUT_MASKS = "--mask-sets with nothing behind it, and no --heads-from"


# ---------------------------------------------------------------------- where heads look


def looks_of(trial: Trial) -> tuple[Int[Tensor, " query"], Int[Tensor, "query five"]]:
    """Returns, for a trial whose lists are alike, the queries and the keys of each: matching, postmatch, then the recent.

    A query is the position before a noun of the second list, from the second noun on. Positions count from the trial's start.
    """
    first, second = trial.noun_starts(1)[1:], trial.noun_starts(2)[1:]
    queries = second - 1
    recent = queries[:, None] - torch.arange(1, N_RECENT + 1)
    return queries, torch.cat([(first - 1)[:, None], first[:, None], recent], dim=1)


def look_masses(weights: Float[Tensor, "*axes five"]) -> dict[Look, Float[Tensor, "*axes"]]:
    """Returns the attention masses by name, from the weights on the keys of `looks_of`."""
    return {"matching": weights[..., 0], "postmatch": weights[..., 1], "recent": weights[..., 2:].sum(dim=-1)}


def measure_looks(model: LanguageModel, trials: Sequence[Trial]) -> pd.DataFrame:
    """Returns the rows of `list_attention`: each head's masses in each trial, means over the nouns but the first."""
    queries, keys = zip(*(looks_of(trial) for trial in trials), strict=True)
    rows = model.rows(len(trials), max(len(trial.ids) for trial in trials))
    with model.record(torch.stack(queries), WeightAt(torch.stack(keys))) as recording:
        model.extend(rows, [list(trial.ids) for trial in trials], logits="none")
    weights = recording["weight_at"].double()  # [layer, trial, head, query, key]
    layers, n_heads = torch.tensor(model.geometry.layers), weights.shape[2]
    frames = []
    for index, trial in enumerate(trials):
        masses = look_masses(weights[layers, index].mean(dim=2))
        frames.append(
            pd.DataFrame(
                {
                    "trial_id": trial.first.id,
                    "base_list": trial.first.base_list,
                    "layer": layers.repeat_interleave(n_heads).numpy(),
                    "head": torch.arange(n_heads).repeat(len(layers)).numpy(),
                    **{look: mass.flatten().clamp(0, 1).numpy() for look, mass in masses.items()},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


# ---------------------------------------------------------------------- which heads come first


def ranked_by_look(attention: pd.DataFrame, look: str) -> list[Head]:
    """Returns all heads in falling order of their mean mass over trials, from `list_attention`."""
    return _ranked(attention.groupby(["layer", "head"])[look].mean())


def ranked_by_run(folder: Path) -> dict[str, list[Head]]:
    """Returns the rankings of a retrieval-heads run: `retrieval` by the paper's copy-paste score, `induction` by
    RazorAttention's induction score.

    Raises ArgumentError for a run that scored no head.
    """
    run = ranking_run(folder)
    induction = run.tables["echo_induction"].groupby(["layer", "head"])["induction"].mean()
    return {"retrieval": heads_of(scores_of_run(run)), "induction": _ranked(induction)}


def run_files(folder: Path) -> list[Path]:
    """Returns the files that the rankings are made of, of a retrieval-heads run or another tool's: they name a run that uses
    them.

    Raises ArgumentError when the folder is no finished retrieval-heads run.
    """
    if is_file_of_heads(folder):
        return given_files(folder)
    return [ranking_run(folder).folder / "tables" / f"{name}.parquet" for name in RUN_TABLES]


def check_same_model(folder: Path, facts: ModelFacts) -> None:
    """Raises ArgumentError when a retrieval-heads run was made with other weights than the model at hand or scored no head, or a
    file names heads that it does not have (files do not tell the weights).
    """
    if is_file_of_heads(folder):
        given_heads(folder, facts)
        return
    run = ranking_run(folder)
    identity = run.description["model"]["identity"]
    if identity["revision"] != facts.identity.revision:
        raise ArgumentError(
            f"--heads-from {folder} ranks the heads of {identity['name']}, not of {facts.name}: run `python -m interp.experiments "
            f"retrieval_heads --model {facts.name}` and name its folder."
        )
    scores_of_run(run)


def _ranked(scores: pd.Series) -> list[Head]:
    """Heads by falling score, equal ones by layer and head."""
    order = scores.sort_index().sort_values(ascending=False, kind="stable").index
    return [(int(layer), int(head)) for layer, head in order]


# ---------------------------------------------------------------------- without some heads


@dataclass(frozen=True)
class Mask:
    """A set of heads to mask, and its origin: the top k of a ranking, or a random draw matched to it."""

    head_set: str
    control: Literal["none", "top", "random"]
    k: int
    draw: int
    heads: tuple[Head, ...]


def plan_masks(
    rankings: Mapping[str, Sequence[Head]], *, ks: Sequence[int], draws: int, n_heads: int, seed: int
) -> list[Mask]:
    """Returns no mask, then for every ranking and k its top k and as many random draws of heads of the same layers.

    `rankings` hold heads in falling order of their score; n_heads is that of a layer.
    Raises ArgumentError when the layers have too few other heads for a control.
    """
    masks = [Mask("none", "none", 0, 0, ())]
    for name, ranking in rankings.items():
        for k in sorted(set(ks)):
            top = tuple(ranking[:k])
            masks.append(Mask(name, "top", k, 0, top))
            try:
                drawn = matched_draws(top, n_heads, (seed, name, k), draws)
            except ValueError as error:
                raise ArgumentError(f"{error}: use smaller values of --mask-k.") from error
            masks += [Mask(name, "random", k, draw, heads) for draw, heads in enumerate(drawn)]
    return masks


def check_maskable(model: LanguageModel, phase: MaskPhase) -> None:
    """Raises UserError, with the way round it, for a model that has heads which cannot be looked at or masked as asked.

    Lists are measured without heads all the same, so a model that has none is let pass.
    """
    if head_geometry(model.hf.config) is None:
        return
    reason, way = model.without_heads, WITHOUT_MASKS
    if reason is None and model.verdicts is not None:
        by_name = model.verdicts.by_name
        refused = [name for name in ("heads", "edits", "forks") if by_name[name].refused is not None]
        if refused == ["forks"] and phase == "everything":
            return
        if refused:
            reason = f"{model.identity.name} fails the check at load on `{refused[0]}` ({by_name[refused[0]].refused})"
            way = f"--mask-phase everything, or {WITHOUT_MASKS}" if refused == ["forks"] else WITHOUT_MASKS
    if reason is not None:
        raise UserError(f"Heads cannot be masked: {reason.removesuffix('.')}. The lists can still be read: use {way}.")


def measure_masks(model: LanguageModel, trial: Trial, masks: Sequence[Mask], phase: MaskPhase) -> pd.DataFrame:
    """Returns a trial's rows of `masking`: raw surprisal of every noun that is read under a mask, one set of rows per mask.

    With phase "second_list" these are the nouns of list 2 (the first list was read by the whole model), with "everything"
    those of both lists.
    """
    edits: list[Edit] = list(dict.fromkeys((mask.heads, "zero") for mask in masks))
    surprisals: dict[Edit, Float[Tensor, " token"]] = {}
    for first in range(0, len(edits), ROWS_AT_ONCE):
        batch = edits[first : first + ROWS_AT_ONCE]
        for part in halving_on_out_of_memory(
            lambda some: zip(some, _surprisals_under(model, trial, some, phase), strict=True), batch
        ):
            surprisals.update(part)
    rows = []
    for mask in masks:
        nats = surprisals[mask.heads, "zero"]
        for list_index in (2,) if phase == "second_list" else (1, 2):
            spans = trial.noun_spans(list_index)
            rows += [
                {
                    "head_set": mask.head_set,
                    "control": mask.control,
                    "k": mask.k,
                    "draw": mask.draw,
                    "heads": heads_as_text(mask.heads),
                    "trial_id": trial.first.id,
                    "base_list": trial.first.base_list,
                    "list_index": list_index,
                    "position": position,
                    "noun": noun,
                    "surprisal_nats": float(nats[start:end].double().sum()),
                }
                for position, (noun, (start, end)) in enumerate(
                    zip(trial.lists[list_index - 1].words, spans, strict=True)
                )
            ]
    return pd.DataFrame(rows)


def _surprisals_under(
    model: LanguageModel, trial: Trial, edits: Sequence[Edit], phase: MaskPhase
) -> Float[Tensor, "edit token"]:
    """Surprisal of the trial's tokens under each edit, at their positions in the trial (NaN where none was read under it)."""
    ids = list(trial.ids)
    if phase == "everything":
        with editing_rows(model, edits):
            return model.surprisal([ids] * len(edits))
    before = trial.starts[1] - 1  # the token before the list predicts its first noun: it is read under the mask
    branches = model.prefix(ids[:before]).fork(len(edits))
    with editing_rows(model, edits):
        read = model.surprisal([ids[before:]] * len(edits), branches)
    whole = read.new_full((len(edits), len(ids)), float("nan"))
    whole[:, before:] = read
    return whole
