"""Measures one unit: with its model, or a damaged copy of it (a null), reading lists, recording attention or masking heads."""

import copy
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import pandas as pd
import torch
from torch import nn

from interp.errors import UserError
from interp.models.language.architecture import attention_modules, query_key_weights, rotary_switch
from interp.models.language.model import LanguageModel
from interp.models.language.out_of_memory import halving_on_out_of_memory
from interp.models.language.word_tokens import Vocabulary
from probes.verbatim_memory.heads import measure_looks, measure_masks
from probes.verbatim_memory.lists import first_lists
from probes.verbatim_memory.plan import FLOAT32, ListUnit, LooksUnit, MaskUnit
from probes.verbatim_memory.reading import Reading
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.trials import whole_trials

Null = Literal["random_init", "qk_shuffled", "qk_shuffled_per_head", "positions_shuffled"]
NULLS: tuple[Null, ...] = get_args(Null)


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


def null_model(model: LanguageModel, null: Null, seed: int) -> LanguageModel:
    """Returns a copy of a model with a part of its weights redrawn or shuffled; the model itself is unchanged.

    random_init: fresh weights from the model's own initialisation. qk_shuffled: the entries of every query and key matrix
    shuffled. qk_shuffled_per_head: shuffled within each head only, so every head keeps its scale. Values, feed-forward
    layers and embeddings stay (Armeni et al. 2022, appendix; their per-head split takes the number of layers for the
    number of heads, which is right for GPT-2 small alone). positions_shuffled: every position of the window is given the
    place of another, the same one everywhere; what a token may see stays (theirs permutes GPT-2's position embeddings,
    which is the same thing; this holds for rotary ones too).
    Raises UserError for shuffles of a model whose query and key matrices, or positions, are not found.
    """
    generator = torch.Generator().manual_seed(seed)
    if null == "random_init":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hf: Any = type(model.hf)(copy.deepcopy(model.hf.config))
        hf = hf.to(device=model.device, dtype=model.hf.dtype)
        return model.rewrapped(hf)
    hf = copy.deepcopy(model.hf)
    if null == "positions_shuffled":
        _shuffle_positions(hf, model, generator)
        return model.rewrapped(hf)
    heads = model.geometry  # refuses models without heads
    for module in attention_modules(hf):
        weights = query_key_weights(module, heads)
        if weights is None:
            raise UserError(
                f"{model.identity.name} keeps its query and key weights where this toolkit does not look: leave out the "
                "qk_shuffled nulls."
            )
        for weight in weights:
            for block in [weight] if null == "qk_shuffled" else weight:
                _shuffle(block, generator)
    return model.rewrapped(hf)


def _shuffle(block: torch.Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(block.numel(), generator=generator).to(block.device)
    block.copy_(block.flatten()[order].view_as(block))


def _shuffle_positions(hf: nn.Module, model: LanguageModel, generator: torch.Generator) -> None:
    """Gives the model other position ids than it is called with."""
    if not _told_positions(hf) or model.context_window is None or rotary_switch(model.hf.config) is not None:
        raise UserError(
            f"{model.identity.name} takes no position ids that could be shuffled: leave out the null positions_shuffled."
        )
    places = torch.randperm(model.context_window, generator=generator)

    def elsewhere(
        _: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positions = options.get("position_ids")
        if positions is None:  # transformers would number them from what was read before
            text: Any = options.get("input_ids", options.get("inputs_embeds", inputs[0] if inputs else None))
            kept = options.get("past_key_values")
            start = kept.get_seq_length() if kept is not None else 0
            positions = torch.arange(start, start + text.shape[1], device=text.device)[None]
        return inputs, {**options, "position_ids": places.to(positions.device)[positions]}

    hf.register_forward_pre_hook(elsewhere, with_kwargs=True)


def _told_positions(hf: Any) -> bool:
    """Whether position ids reach the model's embedding or rotary embedding: ALiBi has neither."""
    names = {name.rpartition(".")[2] for name, _ in hf.named_modules()}
    return bool(names & {"rotary_emb", "wpe", "embed_positions"}) and not getattr(hf.config, "alibi", False)
