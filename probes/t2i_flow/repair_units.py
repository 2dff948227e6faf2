"""Measuring repairs: prompts whole, mended, with the baselines, and without redundant tokens, from fresh noises."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.models.attention_scale import takes_scaled_attention
from interp.models.image import ImageModel
from probes.t2i_flow.drawing import Cell, draw, judged
from probes.t2i_flow.plan import RepairUnit
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.repair import REMOVAL
from probes.t2i_flow.roles import item_positions
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    Variant,
)
from probes.t2i_flow.workbench import Tables, alone_positions, encode, frame_of, judge_of, sampling_of, stored_pictures


def measure_repairs(settings: Settings, model: ImageModel, unit: RepairUnit) -> Tables:
    """Returns `variants` and `pictures` of some prompts whole, repaired, and without redundant tokens, from fresh noises."""
    sampling, judge = sampling_of(settings, fresh=True), judge_of(settings)
    rng = np.random.default_rng([settings.seed, *unit.id.encode()])
    redundant = dict(unit.redundant)
    cells = []
    for prompt in unit.prompts:
        encoded = encode(settings, model, prompt)
        variants = [Variant("full", "full"), *_removal(model, prompt, redundant)]
        for prompt_id, item_id in unit.items:
            if prompt_id == prompt.id:
                variants += _repair_variants(model, prompt, item_id, rng)
        cells += [Cell(prompt, encoded, variant) for variant in variants]
    pictures = draw(model, cells, sampling)
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "repair"}))
    stored = list(stored_pictures(model, cells, pictures, sampling, "repair", unit.kept_pictures))
    return {"variants": pd.DataFrame(rows), **frame_of("pictures", stored)}


def _repair_variants(model: ImageModel, prompt: Prompt, item_id: str, rng: np.random.Generator) -> list[Variant]:
    """The repair, and baselines: as many vectors over other words at random, and the context looked at less."""
    tokens = model.tokens(prompt.text)
    positions, source = item_positions(prompt, tokens)[item_id], alone_positions(model, prompt, item_id)
    others = [token.position for token in tokens if token.role == "text" and token.position not in positions]
    variants = [Variant("paste", "paste", positions, "item", item_id, source)]
    if others:
        n = min(len(others), len(source))
        random = tuple(sorted(int(position) for position in rng.choice(others, size=n, replace=False)))
        variants.append(Variant("random_paste", "paste", random, "other_words", item_id, source[-n:]))
    of_items = {position for some in item_positions(prompt, tokens).values() for position in some}
    context = tuple(position for position in others if position not in of_items) or tuple(others)
    if context and takes_scaled_attention(getattr(model.pipeline, "unet", None)):
        variants.append(Variant("attention", "full", context, "other_words", item_id, scaled=context))
    return variants


def _removal(model: ImageModel, prompt: Prompt, redundant: Mapping[str, tuple[int, ...]]) -> list[Variant]:
    """The prompt without the tokens of its items that show nothing of them by themselves, where there are any."""
    positions = item_positions(prompt, model.tokens(prompt.text))
    useless = tuple(
        sorted(
            positions[item.id][place]
            for item in prompt.items
            for place in redundant.get(item.alone_text, ())
            if place < len(positions[item.id])
        )
    )
    return [Variant(REMOVAL, "without", useless, "redundant")] if useless else []
