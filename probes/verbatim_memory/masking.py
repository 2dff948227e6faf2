"""Verbatim memory without some heads: the second list read with the top of a ranking silent, or with random heads silent.

Heads are masked (their output set to zero) either while the second list is read, which leaves the memory of the first list
whole and asks who fetches it, or from the first token on. Every condition is a row of one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.head_sets import Edit, Head, editing_rows, heads_as_text, layer_matched
from interp.models.language import LanguageModel
from interp.models.memory import halving_on_out_of_memory
from probes.verbatim_memory.trials import Trial

MaskPhase = Literal["second_list", "everything"]
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Mask:
    """A set of heads to silence, and why these: the top k of a ranking, or a random draw matched to them."""

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
                drawn = [layer_matched(top, n_heads, (seed, name, k, draw)) for draw in range(draws)]
            except ValueError as error:
                raise ArgumentError(f"{error}: use smaller values of --mask-k.") from error
            masks += [Mask(name, "random", k, draw, heads) for draw, heads in enumerate(drawn)]
    return masks


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
            lambda some: zip(some, _surprisals(model, trial, some, phase), strict=True), batch
        ):
            surprisals.update(part)
    rows = []
    for mask in masks:
        nats = surprisals[mask.heads, "zero"]
        for list_index in (2,) if phase == "second_list" else (1, 2):
            spans = trial.noun_spans(list_index)
            rows += [
                {
                    "model": model.identity.name,
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
                    zip(trial.lists[list_index - 1].nouns, spans, strict=True)
                )
            ]
    return pd.DataFrame(rows)


def _surprisals(
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
