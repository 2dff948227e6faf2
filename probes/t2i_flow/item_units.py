"""Measuring items alone: every token, subsets, and what names nothing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from interp.models.image import ImageModel
from probes.t2i_flow.drawing import Cell, Sampling, draw, judged
from probes.t2i_flow.judges import Judge
from probes.t2i_flow.plan import ItemsUnit
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.roles import floor_positions, item_positions, roles
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    ALL_SUBSETS_UP_TO,
    Variant,
    floor_variants,
    some_of,
    subset_variants,
)
from probes.t2i_flow.workbench import Tables, encode, frame_of, judge_of, numbers, sampling_of, stored_pictures


def measure_items(settings: Settings, model: ImageModel, unit: ItemsUnit) -> Tables:
    """Returns `variants`, `token_vectors` and `pictures` of some items alone."""
    sampling, judge = sampling_of(settings), judge_of(settings)
    cells = [
        Cell(prompt, encode(settings, model, prompt), variant)
        for prompt in unit.prompts
        for variant in _item_variants(model, prompt)
    ]
    pictures = draw(model, cells, sampling)
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "in_item"}))
    stored = list(stored_pictures(model, cells, pictures, sampling, "in_item", unit.kept_pictures))
    for prompt in unit.prompts:
        rows += _by_size(settings, model, prompt, sampling, judge)
    vectors = [row for prompt in unit.prompts for row in _vectors(model, prompt)]
    return {"variants": pd.DataFrame(rows), "token_vectors": pd.DataFrame(vectors), **frame_of("pictures", stored)}


def _item_variants(model: ImageModel, prompt: Prompt) -> list[Variant]:
    """The text, nothing of it, every role, the item, and where it has few tokens every subset of them."""
    tokens = model.tokens(prompt.text)
    positions = item_positions(prompt, tokens)[prompt.items[0].id]
    by_position = dict(enumerate(roles(prompt, tokens)))
    kinds = [by_position[position] for position in positions]
    variants = floor_variants(floor_positions(prompt, tokens))
    variants.append(Variant("item", "keep", positions, "item" if len(kinds) > 1 else kinds[-1]))
    for size in range(1, len(positions)) if len(positions) <= ALL_SUBSETS_UP_TO else ():
        variants += subset_variants(positions, by_position, size)
    return variants


def _vectors(model: ImageModel, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The vectors of an item's tokens, encoded alone."""
    tokens, encoded = model.tokens(prompt.text), model.encode([prompt.text])
    by_position = dict(enumerate(roles(prompt, tokens)))
    for position in item_positions(prompt, tokens)[prompt.items[0].id]:
        yield {
            "model": model.identity.name,
            "prompt_id": prompt.id,
            "item_id": prompt.items[0].id,
            "encoder": tokens[position].encoder,
            "position": position,
            "token": tokens[position].token,
            "token_role": by_position[position],
            "vector": numbers(encoded.sequence[0, position]),
        }


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
