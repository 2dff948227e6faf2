"""How many pictures the units of a text-to-image flow run draw, counted with the model's tokenizers before anything is drawn."""

from collections.abc import Iterator, Sequence

import numpy as np

from interp.experiments.experiment import WorkUnit
from interp.experiments.work import Work
from interp.models.image.model import ImageModel
from interp.tables import Tables
from probes.t2i_flow.measure import spread_layers
from probes.t2i_flow.plan import (
    PROMPTS_PER_UNIT,
    ItemsUnit,
    JudgeUnit,
    LensUnit,
    PromptsUnit,
    RepairUnit,
    hands,
    plan_units,
    prompts_of,
)
from probes.t2i_flow.prompts import Prompt, item_positions
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    ALL_SUBSETS_UP_TO,
    item_variants,
    lens_variants,
    prompt_variants,
    repair_variants,
)


def expected_units(settings: Settings, model: ImageModel, measured: Tables) -> Sequence[WorkUnit]:
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


def work_of(settings: Settings, model: ImageModel, unit: WorkUnit) -> Work | None:
    """Returns the pictures of a unit and their steps; of items of many tokens, the smallest subsets alone."""
    n_cells = sum(_cells(settings, model, unit))
    steps = model.default_steps if settings.steps is None else settings.steps
    return Work(pictures=n_cells * settings.seeds, denoising_steps=n_cells * settings.seeds * steps)


def _cells(settings: Settings, model: ImageModel, unit: WorkUnit) -> Iterator[int]:
    """How many variants each text of a unit is drawn in."""
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
