"""What a text-to-image flow run measures: items alone, whole prompts, and repairs once it is known what leaks.

And how many pictures each unit draws, counted with the model's tokenizers. Imports no torch.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from interp.experiments.experiment import Work, WorkUnit
from probes.t2i_flow.prompts import Prompt, item_positions, items_alone, read_prompts
from probes.t2i_flow.settings import Settings

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel
    from interp.tables import Tables

ITEMS_PER_UNIT = 4
PROMPTS_PER_UNIT = 3
"""Texts drawn together: enough rows to fill batches, few enough to lose when a run is killed."""


@dataclass(frozen=True)
class JudgeUnit(WorkUnit):
    """Pictures of which the truth is known, for the judge."""


@dataclass(frozen=True)
class ItemsUnit(WorkUnit):
    """Some items, each alone, with every role and subset of its tokens kept."""

    prompts: tuple[Prompt, ...]
    kept_pictures: tuple[str, ...]
    """Prompts whose pictures are stored for grids."""


@dataclass(frozen=True)
class PromptsUnit(WorkUnit):
    """Some prompts, with every role and item kept; of some of them every word kept and taken away, and attention recorded."""

    prompts: tuple[Prompt, ...]
    word_by_word: tuple[str, ...]
    """The ids of these."""
    kept_pictures: tuple[str, ...]


@dataclass(frozen=True)
class LensUnit(WorkUnit):
    """Some texts as each encoder has them after each of its layers: items alone, or prompts with an item that can leak."""

    alone: tuple[Prompt, ...] = ()
    prompts: tuple[Prompt, ...] = ()


@dataclass(frozen=True)
class RepairUnit(WorkUnit):
    """Some prompts, whole, with items repaired, and without redundant tokens."""

    prompts: tuple[Prompt, ...]
    items: tuple[tuple[str, str], ...]
    """(prompt id, item id) to repair."""
    redundant: tuple[tuple[tuple[str, tuple[int, int], str], tuple[int, ...]], ...]
    """The `alone_key` of an item and which of its tokens are redundant, counted from 0."""
    kept_pictures: tuple[str, ...]


def prompts_of(settings: Settings) -> tuple[Prompt, ...]:
    """Returns the prompts of the user's file, or seeded scenes of coloured shapes.

    Raises ArgumentError for prompts that cannot be meant.
    """
    if settings.prompts is not None:
        return read_prompts(settings.prompts)
    from probes.t2i_flow.scenes import sample_prompts

    return sample_prompts(settings.n_prompts, settings.seed)


def alone_prompts(settings: Settings) -> list[Prompt]:
    """Returns the items that are tested alone."""
    return items_alone(prompts_of(settings))[: settings.n_items]


def check_texts(settings: Settings, model: "ImageModel") -> None:
    """Raises ArgumentError for a text that is longer than an encoder takes, in which no token is an item's own, that spells an item
    in other tokens than its text alone does, or that the model cannot draw beside the clean text where vectors are put in place
    before every block; `model` needs no weights.
    """
    whole = {"inter_item", "lens", "repair"} & set(settings.parts)
    read = [*(prompts_of(settings) if whole else ()), *(alone_prompts(settings))]
    for prompt in read:
        item_positions(prompt, model.tokens(prompt.text))
        for item in prompt.items:
            model.spans(item.alone_text, item.phrase)
        if {"inter_item", "repair"} & set(settings.parts):
            _check_spelled_alike(model, prompt)
        if settings.edit_blocks == "every" and model.same_length:
            room, filled = (model.filled_positions(text) for text in ("", prompt.text))
            if filled != room:
                raise ArgumentError(
                    f"{model.identity.name} draws only texts that fill as many positions side by side, and {prompt.text!r} fills "
                    f"{filled} where the clean text fills {room}: shorten it, or leave out --edit-blocks every."
                )


def _check_spelled_alike(model: "ImageModel", prompt: Prompt) -> None:
    """Raises ArgumentError where an item is not as many tokens in its text alone, whose vectors are put in place of its own."""
    tokens = model.tokens(prompt.text)
    for item in prompt.items:
        alone = model.tokens(item.alone_text)
        here = Counter(tokens[position].encoder for position in item_positions(prompt, tokens)[item.id])
        there = Counter(alone[position].encoder for position in model.spans(item.alone_text, item.phrase))
        for encoder in here:
            if here[encoder] != there[encoder]:
                raise ArgumentError(
                    f"{item.phrase!r} is {here[encoder]} tokens of the encoder {encoder} in {prompt.text!r} and {there[encoder]} in "
                    f'{item.alone_text!r}: give the item a text "alone" that spells it as the prompt does.'
                )


def plan_units(settings: Settings, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of items and prompts, and those of repairs once all of these are measured."""
    prompts, alone = prompts_of(settings), alone_prompts(settings)
    of_shapes = settings.judge == "pixel" or settings.prompts is None
    units: list[WorkUnit] = [JudgeUnit("judge")] if settings.judge_check and of_shapes else []
    if "in_item" in settings.parts:
        kept = tuple(prompt.id for prompt in alone[: settings.grid_prompts])
        units += [ItemsUnit(f"items-{i:03d}", some, kept) for i, some in hands(alone, ITEMS_PER_UNIT)]
    if "inter_item" in settings.parts:
        kept = tuple(prompt.id for prompt in prompts[: settings.grid_prompts])
        words = tuple(prompt.id for prompt in prompts[: settings.attention_prompts])
        words = words if "attention" in settings.parts else ()
        units += [PromptsUnit(f"prompts-{i:03d}", some, words, kept) for i, some in hands(prompts, PROMPTS_PER_UNIT)]
    if "lens" in settings.parts:
        units += [LensUnit(f"lens-items-{i:03d}", alone=some) for i, some in hands(alone, ITEMS_PER_UNIT)]
        leaking = [prompt for prompt in prompts if any(item.leaks for item in prompt.items)]
        units += [LensUnit(f"lens-prompts-{i:03d}", prompts=some) for i, some in hands(leaking, PROMPTS_PER_UNIT)]
    if "repair" in settings.parts:
        units += _repair_units(settings, prompts, alone, measured)
    return units


def _repair_units(
    settings: Settings, prompts: Sequence[Prompt], alone: Sequence[Prompt], measured: "Tables"
) -> list[RepairUnit]:
    from probes.t2i_flow.items import choose_repairs, in_item, redundant_tokens

    variants = measured["variants"]
    if not {prompt.id for prompt in (*prompts, *alone)} <= set(variants["prompt_id"]):
        return []
    chosen = choose_repairs(variants, settings.visible_share)
    everything = [(prompt.id, item.id) for prompt in prompts for item in prompt.items]
    repaired = chosen if settings.repairs == "chosen" else everything
    keys = {prompt.id: prompt.items[0].alone_key for prompt in alone}
    useless = redundant_tokens(in_item(variants, settings.visible_share))
    redundant = tuple((keys[prompt_id], places) for prompt_id, places in useless.items())
    kept = tuple(dict.fromkeys(prompt_id for prompt_id, _ in repaired))[: settings.grid_prompts]
    return [
        RepairUnit(
            f"repair-{index:03d}",
            some,
            tuple(pair for pair in repaired if pair[0] in {prompt.id for prompt in some}),
            redundant,
            kept,
        )
        for index, some in hands(prompts, PROMPTS_PER_UNIT)
    ]


def hands(prompts: Sequence[Prompt], size: int) -> list[tuple[int, tuple[Prompt, ...]]]:
    """Returns prompts that are drawn together, unit by unit, with the number of the unit."""
    return [(number, tuple(prompts[first : first + size])) for number, first in enumerate(range(0, len(prompts), size))]


# ---------------------------------------------------------------------- what units draw


def expected_units(settings: Settings, model: "ImageModel", measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the plan; until it is known what leaks, every item that can leak is taken to be repaired."""
    units = list(plan_units(settings, measured))
    if "repair" not in settings.parts or any(isinstance(unit, RepairUnit) for unit in units):
        return units
    for number, some in hands(prompts_of(settings), PROMPTS_PER_UNIT):
        items = [
            (prompt.id, item.id) for prompt in some for item in prompt.items if item.leaks or settings.repairs == "all"
        ]
        units.append(RepairUnit(f"repair-{number:03d}", some, tuple(items), (), ()))
    return units


def work_of(settings: Settings, model: "ImageModel", unit: WorkUnit) -> Work | None:
    """Returns the pictures of a unit and their steps; of items of many tokens, the smallest subsets alone."""
    n_cells = sum(_cells(settings, model, unit))
    steps = model.default_steps if settings.steps is None else settings.steps
    return Work(pictures=n_cells * settings.seeds, denoising_steps=n_cells * settings.seeds * steps)


def _cells(settings: Settings, model: "ImageModel", unit: WorkUnit) -> Iterator[int]:
    """How many variants each text of a unit is drawn in."""
    import numpy as np

    from probes.t2i_flow.variants import (
        ALL_SUBSETS_UP_TO,
        item_variants,
        lens_variants,
        prompt_variants,
        repair_variants,
        spread_layers,
    )

    if isinstance(unit, ItemsUnit):
        for prompt in unit.prompts:
            n_tokens = len(item_positions(prompt, model.tokens(prompt.text))[prompt.items[0].id])
            by_size = min(n_tokens, settings.max_subsets) + 1 if n_tokens > ALL_SUBSETS_UP_TO else 0
            yield len(item_variants(model, prompt)) + by_size
    elif isinstance(unit, PromptsUnit):
        for prompt in unit.prompts:
            yield 1 + len(prompt_variants(model, prompt, each_word=prompt.id in unit.word_by_word))
    elif isinstance(unit, LensUnit):
        for n_layers in model.layers_taken.values():
            texts: list[tuple[Prompt, bool]] = [(prompt, True) for prompt in unit.alone]
            texts += [(prompt, False) for prompt in unit.prompts]
            n_looked_at = len(spread_layers(n_layers, settings.lens_layers))
            yield from (n_looked_at * len(lens_variants(model, prompt, alone=alone)) for prompt, alone in texts)
    elif isinstance(unit, RepairUnit):
        rng = np.random.default_rng(0)
        for prompt in unit.prompts:
            items = [item_id for prompt_id, item_id in unit.items if prompt_id == prompt.id]
            yield 2 + sum(len(repair_variants(model, prompt, item_id, rng)) for item_id in items)
    else:
        assert isinstance(unit, JudgeUnit)  # looks at rendered scenes and draws nothing
