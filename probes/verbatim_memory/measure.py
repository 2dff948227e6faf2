"""Measuring one unit: the model (or its null) of the unit, and what is read, looked at or masked."""

import copy
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import pandas as pd

from interp.models.language import LanguageModel
from interp.models.memory import halving_on_out_of_memory
from interp.models.nulls import NULLS, Null, null_model
from interp.models.spellings import Vocabulary
from probes.verbatim_memory.heads import measure_looks, measure_masks
from probes.verbatim_memory.lists import Condition, second_list
from probes.verbatim_memory.plan import FLOAT32, ListUnit, LooksUnit, MaskUnit, first_lists
from probes.verbatim_memory.reading import Reading
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.texts import read_texts
from probes.verbatim_memory.trials import Trial, build_trial


def measure_lists(settings: Settings, model: LanguageModel, unit: ListUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `token_surprisals` for all trials of a unit."""
    if unit.variant == FLOAT32:
        model = _in_float32(model)
    elif unit.variant in NULLS:
        model = _null(model, cast(Null, unit.variant), settings.seed)
    everyone = first_lists(settings, unit.pool, unit.list_length)
    firsts = [first for first in everyone if first.base_list in unit.base_lists]
    reading = Reading(settings, model, unit, everyone, _vocabulary(model))
    parts: list[list[dict[str, Any]]] = []
    for first in range(0, len(firsts), settings.batch_trials):
        batch = firsts[first : first + settings.batch_trials]
        parts += halving_on_out_of_memory(reading.rows_of, batch)
    return {"token_surprisals": pd.DataFrame([row for part in parts for row in part])}


def measure_looks_of(settings: Settings, model: LanguageModel, unit: LooksUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `list_attention` for the first rotation of some base lists, repeated."""
    trials = [trial for _, trial in whole_trials(settings, model, unit.base_lists, ("repeat",))]
    parts = halving_on_out_of_memory(lambda some: measure_looks(model, some), trials)
    return {"list_attention": pd.concat(parts, ignore_index=True)}


def measure_masks_of(settings: Settings, model: LanguageModel, unit: MaskUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `masking` for the first rotation of some base lists: repeated, and novel as the control."""
    frames = []
    only_top = [mask for mask in unit.masks if mask.control != "random"]
    for condition, trial in whole_trials(settings, model, unit.base_lists, ("repeat", "novel")):
        masks = unit.masks if condition == "repeat" else only_top  # novel lists show what the top heads harm in general
        cell = {
            "condition": condition,
            "list_length": len(trial.first.nouns),
            "intervening_tokens": trial.starts[1] - trial.starts[0] - len(trial.lists[0].ids),
        }
        frames.append(measure_masks(model, trial, masks, settings.mask_phase).assign(**cell))
    return {"masking": pd.concat(frames, ignore_index=True)}


def whole_trials(
    settings: Settings, model: LanguageModel, base_lists: Sequence[int], conditions: Sequence[Condition]
) -> Iterator[tuple[Condition, Trial]]:
    """Yields the longest lists of the first pool in their first rotation, after the shortest intact text."""
    everyone = first_lists(settings, settings.pools[0], max(settings.list_lengths))
    for first in everyone:
        if first.base_list in base_lists and first.rotation == 0:
            for condition in conditions:
                yield (
                    condition,
                    build_trial(
                        model.tokenizer,
                        read_texts(settings.texts),
                        first,
                        second_list(condition, first, everyone, settings.seed),
                        context="intact",
                        intervening=settings.intervening[0],
                        bos=settings.bos,
                        seed=settings.seed,
                    ),
                )


def _in_float32(model: LanguageModel) -> LanguageModel:
    """The same (rounded) weights, computed in full precision: what half precision does to the numbers."""
    return model.rewrapped(copy.deepcopy(model.hf).float())


@lru_cache(maxsize=1)
def _null(model: LanguageModel, null: Null, seed: int) -> LanguageModel:
    """The units of one null come one after the other: it is made once and let go with the next."""
    return null_model(model, null, seed)


@lru_cache(maxsize=1)
def _vocabulary(model: LanguageModel) -> Vocabulary:
    return Vocabulary.of(model, "Leave the exact probability out with --exact-rotations 0.")
