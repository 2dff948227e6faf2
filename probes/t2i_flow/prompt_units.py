"""Measuring whole prompts: each item from its vectors there and from its own text, every word, and attention."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.models.conditioning import Conditioning
from interp.models.heat_maps import HeatMaps
from interp.models.image import ImageModel
from interp.models.token_spans import spelling
from probes.t2i_flow.drawing import Cell, Sampling, draw, judged
from probes.t2i_flow.plan import PromptsUnit
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.roles import floor_positions, item_positions, words
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    Variant,
    floor_variants,
)
from probes.t2i_flow.workbench import (
    Tables,
    alone_positions,
    encode,
    frame_of,
    judge_of,
    numbers,
    sampling_of,
    stored_pictures,
)

OVERLAY_PIXELS = 64
"""Longest side of a stored heat map."""


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
        "vector_change": pd.DataFrame([row for prompt in unit.prompts for row in _moved(model, prompt)]),
        **frame_of("pictures", stored),
    }
    if record is not None:
        found["attention_seeds"] = pd.DataFrame(list(_attention(model, looked_at, record, sampling)))
        shape = pictures.shape[2:4]
        maps = list(_maps(model, looked_at, unit.kept_pictures, record, sampling, shape))
        found |= frame_of("heat_maps", maps)
    return found


def prompt_variants(model: ImageModel, prompt: Prompt, *, each_word: bool) -> list[Variant]:
    """Returns nothing, every role, every item from the prompt and from its own text; every word by itself and taken away.

    All but the whole text, which is drawn with its attention recorded.
    """
    tokens = model.tokens(prompt.text)
    variants = floor_variants(floor_positions(prompt, tokens))[1:]
    for item in prompt.items:
        positions, source = item_positions(prompt, tokens)[item.id], alone_positions(model, prompt, item.id)
        variants.append(Variant("item", "keep", positions, "item", item.id))
        variants.append(Variant("alone", "alone", positions, "item", item.id, source))
    kept = {variant.positions for variant in variants if variant.edit == "keep" and not variant.item_id}
    for word in words(prompt, tokens) if each_word else ():
        if word.positions not in kept:  # beginning, end and padding are roles too
            variants.append(Variant("word_only", "keep", word.positions, word.role))
        variants.append(Variant("word_without", "without", word.positions, word.role))
    return variants


def _moved(model: ImageModel, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """How far each item's vectors move, by encoder, when the text ends with the item, and when the item stands alone."""
    tokens, whole = model.tokens(prompt.text), model.encode([prompt.text])
    for item in prompt.items:
        start, end = prompt.characters(item)
        cut_text = prompt.text[:end]
        cut, cut_tokens = model.encode([cut_text]), model.tokens(cut_text)
        alone, alone_at = model.encode([item.alone_text]), alone_positions(model, prompt, item.id)
        alone_tokens = model.tokens(item.alone_text)
        for encoder in model.encoders:
            here = [p for p in spelling(tokens, start, end) if tokens[p].encoder == encoder]
            there = [p for p in spelling(cut_tokens, start, end) if cut_tokens[p].encoder == encoder]
            bare = [p for p in alone_at if alone_tokens[p].encoder == encoder]
            yield {
                "model": model.identity.name,
                "prompt_id": prompt.id,
                "group": prompt.group,
                "item_id": item.id,
                "encoder": encoder,
                "without_after": relative_change(whole, here, cut, there),
                "alone": relative_change(whole, here, alone, bare),
            }


def relative_change(first: Conditioning, at: Sequence[int], second: Conditioning, other_at: Sequence[int]) -> float:
    """Returns ‖a − b‖ / ‖a‖ over the vectors at these positions of one row each."""
    a, b = first.sequence[0, list(at)].float(), second.sequence[0, list(other_at)].float()
    return float((a - b).norm() / a.norm())


def _attention(
    model: ImageModel, prompts: Sequence[Prompt], record: HeatMaps, sampling: Sampling
) -> Iterator[dict[str, Any]]:
    mass = record.mass().reshape(len(prompts), len(sampling.seeds), -1)
    for prompt, by_seed in zip(prompts, mass, strict=True):
        for index, word in enumerate(words(prompt, model.tokens(prompt.text))):
            for seed, share in zip(sampling.seeds, by_seed[:, list(word.positions)].sum(dim=1).tolist(), strict=True):
                yield {
                    "model": model.identity.name,
                    "prompt_id": prompt.id,
                    "word_index": index,
                    "word": word.text,
                    "token_role": word.role,
                    "positions": " ".join(map(str, word.positions)),
                    "seed": seed,
                    "mass": min(share, 1.0),
                }


def _maps(
    model: ImageModel,
    prompts: Sequence[Prompt],
    kept: Sequence[str],
    record: HeatMaps,
    sampling: Sampling,
    shape: tuple[int, ...],
) -> Iterator[dict[str, Any]]:
    """The heat maps of the kept prompts' words, from the first seed, in the proportions of the pictures."""
    largest = max(shape)
    height, width = (max(1, side * min(largest, OVERLAY_PIXELS) // largest) for side in shape)
    for number, prompt in enumerate(prompts):
        if prompt.id not in kept:
            continue
        for index, word in enumerate(words(prompt, model.tokens(prompt.text))):
            overlay = record.overlay(word.positions, height, width)[number * len(sampling.seeds)]
            yield {
                "model": model.identity.name,
                "prompt_id": prompt.id,
                "word_index": index,
                "word": word.text,
                "seed": sampling.seeds[0],
                "height": height,
                "width": width,
                "attention": numbers(overlay.flatten()),
            }
