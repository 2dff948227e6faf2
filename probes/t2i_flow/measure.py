"""Measuring one unit of a run: its texts are encoded, drawn in all their variants and judged, and the answers become rows."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from interp.experiments.experiment import WorkUnit
from interp.kept import Stamp, stamps_of
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from probes.t2i_flow.attention_mass import attention_by_seed, heat_maps
from probes.t2i_flow.items import vectors_moved
from probes.t2i_flow.judge_models import load_judge
from probes.t2i_flow.judges import Judge, judge_truth
from probes.t2i_flow.pictures import Cell, Sampling, answers, draw, judged, stored_pictures
from probes.t2i_flow.plan import ItemsUnit, JudgeUnit, LensUnit, PromptsUnit, RepairUnit
from probes.t2i_flow.prompts import Prompt, item_positions, roles
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    ALL_SUBSETS_UP_TO,
    Encoded,
    Variant,
    item_variants,
    lens_variants,
    prompt_variants,
    removal_variants,
    repair_variants,
    some_of,
    spread_layers,
    subset_variants,
)

Tables = dict[str, pd.DataFrame]


def measure_unit(settings: Settings, model: ImageModel, unit: WorkUnit) -> Tables:
    """Returns the unit's rows by table."""
    if isinstance(unit, JudgeUnit):
        return measure_judge(settings)
    if isinstance(unit, ItemsUnit):
        return measure_items(settings, model, unit)
    if isinstance(unit, PromptsUnit):
        return measure_prompts(settings, model, unit)
    if isinstance(unit, LensUnit):
        return measure_lens(settings, model, unit)
    assert isinstance(unit, RepairUnit)
    return measure_repairs(settings, model, unit)


def measure_judge(settings: Settings) -> Tables:
    """Returns `judge_truth`: what the judge says of rendered scenes."""
    return frame_of("judge_truth", judge_truth(judge_of(settings), settings.judge_check, settings.seed))


def measure_items(settings: Settings, model: ImageModel, unit: ItemsUnit) -> Tables:
    """Returns `variants`, `token_vectors` and `pictures` of some items alone."""
    sampling, judge = sampling_of(settings), judge_of(settings)
    cells = [
        Cell(prompt, encode(settings, model, prompt), variant)
        for prompt in unit.prompts
        for variant in item_variants(model, prompt)
    ]
    pictures = draw(model, cells, sampling)
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "in_item"}))
    stored = list(stored_pictures(model, cells, pictures, sampling, "in_item", unit.kept_pictures))
    for prompt in unit.prompts:
        rows += _by_size(settings, model, prompt, sampling, judge)
    vectors = [row for prompt in unit.prompts for row in _token_vectors(model, prompt)]
    return {"variants": pd.DataFrame(rows), "token_vectors": pd.DataFrame(vectors), **frame_of("pictures", stored)}


def _by_size(
    settings: Settings, model: ImageModel, prompt: Prompt, sampling: Sampling, judge: Judge
) -> list[dict[str, Any]]:
    """The subsets of an item of many tokens, smallest first, until one shows it."""
    tokens = model.tokens(prompt.text)
    positions = item_positions(prompt, tokens)[prompt.items[0].id]
    if len(positions) <= ALL_SUBSETS_UP_TO:
        return []
    encoded, rng = encode(settings, model, prompt), np.random.default_rng([settings.seed, len(positions)])
    by_position = dict(enumerate(roles(prompt, tokens)))
    found: list[dict[str, Any]] = []
    for size in range(1, len(positions)):
        variants = some_of(subset_variants(positions, by_position, size), settings.max_subsets, rng)
        cells = [Cell(prompt, encoded, Variant("full", "full")), *(Cell(prompt, encoded, one) for one in variants)]
        pictures = draw(model, cells, sampling)
        rows = list(judged(model, cells, pictures, sampling, judge, {"part": "in_item"}))
        found += [row for row in rows if row["variant"] == "tokens"]
        shares = pd.DataFrame(found).groupby("kept_positions")["visible"].mean()
        if (shares >= settings.visible_share).any():
            break
    return found


def _token_vectors(model: ImageModel, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The vectors of an item's tokens, encoded alone."""
    tokens, encoded = model.tokens(prompt.text), model.encode([prompt.text])
    by_position = dict(enumerate(roles(prompt, tokens)))
    for position in item_positions(prompt, tokens)[prompt.items[0].id]:
        yield {
            "prompt_id": prompt.id,
            "item_id": prompt.items[0].id,
            "encoder": tokens[position].encoder,
            "position": position,
            "token": tokens[position].token,
            "token_role": by_position[position],
            "vector": encoded.sequence[0, position].float().tolist(),
        }


def measure_prompts(settings: Settings, model: ImageModel, unit: PromptsUnit) -> Tables:
    """Returns `variants`, `vector_change`, attention and `pictures` of some prompts."""
    sampling, judge = sampling_of(settings), judge_of(settings)
    encoded = {prompt.id: encode(settings, model, prompt) for prompt in unit.prompts}
    looked_at = [prompt for prompt in unit.prompts if prompt.id in unit.word_by_word]
    others = [prompt for prompt in unit.prompts if prompt not in looked_at]
    whole, plain = (
        [Cell(prompt, encoded[prompt.id], Variant("full", "full")) for prompt in some] for some in (looked_at, others)
    )
    record = HeatMaps() if looked_at else None
    cells = [
        Cell(prompt, encoded[prompt.id], variant)
        for prompt in unit.prompts
        for variant in prompt_variants(model, prompt, each_word=prompt in looked_at)
    ]
    cells = [*plain, *cells]
    pictures = draw(model, cells, sampling)
    if record is not None:
        pictures = np.concatenate([draw(model, whole, sampling, record), pictures])
        cells = [*whole, *cells]
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "inter_item"}))
    stored = list(stored_pictures(model, cells, pictures, sampling, "inter_item", unit.kept_pictures))
    found: Tables = {
        "variants": pd.DataFrame(rows),
        "vector_change": pd.DataFrame([row for prompt in unit.prompts for row in vectors_moved(model, prompt)]),
        **frame_of("pictures", stored),
    }
    if record is not None:
        found["attention_seeds"] = pd.DataFrame(list(attention_by_seed(model, looked_at, record, sampling)))
        shape = pictures.shape[2:4]
        maps = list(heat_maps(model, looked_at, unit.kept_pictures, record, sampling, shape))
        found |= frame_of("heat_maps", maps)
    return found


def measure_repairs(settings: Settings, model: ImageModel, unit: RepairUnit) -> Tables:
    """Returns `variants` and `pictures` of some prompts whole, repaired, and without redundant tokens, from fresh noises."""
    sampling, judge = sampling_of(settings, fresh=True), judge_of(settings)
    rng = np.random.default_rng([settings.seed, *unit.id.encode()])
    redundant = dict(unit.redundant)
    cells = []
    for prompt in unit.prompts:
        encoded = encode(settings, model, prompt)
        variants = [Variant("full", "full"), *removal_variants(model, prompt, redundant)]
        for prompt_id, item_id in unit.items:
            if prompt_id == prompt.id:
                variants += repair_variants(model, prompt, item_id, rng)
        cells += [Cell(prompt, encoded, variant) for variant in variants]
    pictures = draw(model, cells, sampling)
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "repair"}))
    stored = list(stored_pictures(model, cells, pictures, sampling, "repair", unit.kept_pictures))
    return {"variants": pd.DataFrame(rows), **frame_of("pictures", stored)}


def measure_lens(settings: Settings, model: ImageModel, unit: LensUnit) -> Tables:
    """Returns `lens` of some texts: every encoder, every layer that is looked at, every seed, every question.

    The diffusion lens of Toker et al. 2024, read by a judge: all that is not of the encoder, or not kept, is clean padding as
    the finished encoder has it.
    """
    sampling, judge = sampling_of(settings), judge_of(settings)
    texts = [(prompt, True) for prompt in unit.alone] + [(prompt, False) for prompt in unit.prompts]
    rows = []
    for encoder, n_layers in model.layers_taken.items():
        layers = spread_layers(n_layers, settings.lens_layers)
        placed = [
            (layer, Cell(prompt, states, variant))
            for prompt, alone in texts
            for layer, states in zip(layers, _states(settings, model, prompt, encoder, layers), strict=True)
            for variant in lens_variants(model, prompt, alone=alone)
        ]
        pictures = draw(model, [cell for _, cell in placed], sampling)
        for (layer, cell), drawn in zip(placed, pictures, strict=True):
            labels = {
                "encoder": encoder,
                "layer": layer,
                "n_layers": n_layers,
                "depth_fraction": layer / n_layers,
                "token_role": cell.variant.role,
            }
            rows += [answer | labels for _, answer in answers(model, cell, drawn, sampling, judge)]
    return frame_of("lens", rows)


def _states(settings: Settings, model: ImageModel, prompt: Prompt, encoder: str, layers: list[int]) -> list[Encoded]:
    """A prompt as the encoder has it after each of the layers, all that is not this encoder's being clean padding."""
    clean, text = model.clean(settings.clean), model.encode([prompt.text])
    states = model.lens(prompt.text, layers, encoder, clean)
    if settings.pooled == "prompt" and text.pooled is not None:
        states = states.with_pooled(text)
    return [Encoded(states.row(index), clean, {}, settings.pooled) for index in range(len(layers))]


# ---------------------------------------------------------------------- what all of them need


def sampling_of(settings: Settings, *, fresh: bool = False) -> Sampling:
    """Returns how pictures are drawn; `fresh` names noises that nothing was chosen by."""
    first = 100_000 * settings.seed + (settings.seeds if fresh else 0)
    return Sampling(
        tuple(range(first, first + settings.seeds)),
        settings.steps,
        settings.guidance,
        settings.batch,
        settings.attention_scale,
        settings.height,
        settings.width,
        every_block=settings.edit_blocks == "every",
    )


def judge_of(settings: Settings) -> Judge:
    """Returns the judge of the settings."""
    return _judge(settings.judge, settings.judge_threshold, stamps_of(settings.input_files()))


@lru_cache(maxsize=1)
def _judge(name: str, threshold: float | None, _stamps: tuple[Stamp, ...]) -> Judge:
    """A judge may be a model: it is loaded once, as long as its files stay as they are."""
    return load_judge(name, threshold)


def encode(settings: Settings, model: ImageModel, prompt: Prompt) -> Encoded:
    """Returns everything the variants of a prompt are made of."""
    alone = {item.id: model.encode([item.alone_text]) for item in prompt.items}
    return Encoded(model.encode([prompt.text]), model.clean(settings.clean), alone, settings.pooled)


def frame_of(name: str, rows: Sequence[dict[str, Any]]) -> Tables:
    """Returns the rows as a table of that name, or no table where there are none."""
    return {name: pd.DataFrame(rows)} if rows else {}
