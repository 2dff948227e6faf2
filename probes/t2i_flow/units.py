"""Measuring one unit: texts become conditionings, their variants become pictures, and a judge's answers become rows."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from interp.models.attention_scale import takes_scaled_attention
from interp.models.conditioning import Conditioning
from interp.models.heat_maps import HeatMaps
from interp.models.image import ImageModel
from interp.models.token_spans import spelling
from probes.t2i_flow.drawing import Cell, Sampling, draw, judged
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.judges import Judge, load_judge
from probes.t2i_flow.plan import ItemsUnit, PromptsUnit, RepairUnit
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.repair import REMOVAL
from probes.t2i_flow.roles import floor_positions, item_positions, roles, words
from probes.t2i_flow.variants import (
    ALL_SUBSETS_UP_TO,
    Encoded,
    Variant,
    floor_variants,
    some_of,
    subset_variants,
)

Tables = dict[str, pd.DataFrame]
OVERLAY_PIXELS = 64
"""Longest side of a stored heat map."""


def sampling_of(settings: T2IFlow, *, fresh: bool = False) -> Sampling:
    """Returns how pictures are drawn; `fresh` names noises that nothing was chosen by."""
    first = 100_000 * settings.seed + (settings.seeds if fresh else 0)
    return Sampling(
        tuple(range(first, first + settings.seeds)),
        settings.steps,
        settings.guidance,
        settings.batch,
        settings.attention_scale,
    )


@lru_cache(maxsize=1)
def _judge(name: str, threshold: float | None) -> Judge:
    """A judge may be a model: it is loaded once."""
    return load_judge(name, threshold)


def judge_of(settings: T2IFlow) -> Judge:
    """Returns the judge of the settings."""
    return _judge(settings.judge, settings.judge_threshold)


def encode(settings: T2IFlow, model: ImageModel, prompt: Prompt) -> Encoded:
    """Returns everything the variants of a prompt are made of."""
    alone = {item.id: model.encode([item.alone_text]) for item in prompt.items}
    return Encoded(model.encode([prompt.text]), model.clean(settings.clean), alone, settings.pooled)


# ---------------------------------------------------------------------- items alone


def measure_items(settings: T2IFlow, model: ImageModel, unit: ItemsUnit) -> Tables:
    """Returns `variants`, `token_vectors` and `pictures` of some items alone."""
    sampling, judge = sampling_of(settings), judge_of(settings)
    cells = [
        Cell(prompt, encode(settings, model, prompt), variant)
        for prompt in unit.prompts
        for variant in _item_variants(model, prompt)
    ]
    pictures = draw(model, cells, sampling)
    rows = list(judged(model, cells, pictures, sampling, judge, {"part": "in_item"}))
    stored = list(_stored(model, cells, pictures, sampling, "in_item", unit.kept_pictures))
    for prompt in unit.prompts:
        rows += _by_size(settings, model, prompt, sampling, judge)
    vectors = [row for prompt in unit.prompts for row in _vectors(model, prompt)]
    return {"variants": pd.DataFrame(rows), "token_vectors": pd.DataFrame(vectors), **_frame("pictures", stored)}


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
            "vector": _numbers(encoded.sequence[0, position]),
        }


def _by_size(
    settings: T2IFlow, model: ImageModel, prompt: Prompt, sampling: Sampling, judge: Judge
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


# ---------------------------------------------------------------------- whole prompts


def measure_prompts(settings: T2IFlow, model: ImageModel, unit: PromptsUnit) -> Tables:
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
    stored = list(_stored(model, cells, pictures, sampling, "inter_item", unit.kept_pictures))
    found: Tables = {
        "variants": pd.DataFrame(rows),
        "vector_change": pd.DataFrame([row for prompt in unit.prompts for row in _moved(model, prompt)]),
        **_frame("pictures", stored),
    }
    if record is not None:
        found["attention_seeds"] = pd.DataFrame(list(_attention(model, looked_at, record, sampling)))
        maps = list(_maps(model, looked_at, unit.kept_pictures, record, sampling))
        found |= _frame("heat_maps", maps)
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


def alone_positions(model: ImageModel, prompt: Prompt, item_id: str) -> tuple[int, ...]:
    """Returns the positions of an item's tokens in the text that has it by itself."""
    item = next(item for item in prompt.items if item.id == item_id)
    return model.spans(item.alone_text, item.phrase)


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
    model: ImageModel, prompts: Sequence[Prompt], kept: Sequence[str], record: HeatMaps, sampling: Sampling
) -> Iterator[dict[str, Any]]:
    """The heat maps of the kept prompts' words, from the first seed."""
    largest = max(model.size)
    height, width = (max(1, side * min(largest, OVERLAY_PIXELS) // largest) for side in model.size)
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
                "attention": _numbers(overlay.flatten()),
            }


# ---------------------------------------------------------------------- repairs


def measure_repairs(settings: T2IFlow, model: ImageModel, unit: RepairUnit) -> Tables:
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
    stored = list(_stored(model, cells, pictures, sampling, "repair", unit.kept_pictures))
    return {"variants": pd.DataFrame(rows), **_frame("pictures", stored)}


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


# ---------------------------------------------------------------------- the judge, and what is stored


def measure_judge(settings: T2IFlow, model: ImageModel) -> Tables:
    """Returns `judge_truth`: what the judge says of rendered scenes."""
    from probes.t2i_flow.judge_check import judge_truth

    return _frame(
        "judge_truth", judge_truth(judge_of(settings), settings.judge_check, settings.seed, model.identity.name)
    )


def _stored(
    model: ImageModel,
    cells: Sequence[Cell],
    pictures: np.ndarray,
    sampling: Sampling,
    part: str,
    kept: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """The first seed's pictures of the prompts that are kept for grids."""
    for cell, drawn in zip(cells, pictures, strict=True):
        if cell.prompt.id in kept:
            tokens = model.tokens(cell.prompt.text)
            chosen = [tokens[position].token for position in cell.variant.positions]
            yield {
                "model": model.identity.name,
                "prompt_id": cell.prompt.id,
                "part": part,
                "variant": cell.variant.name,
                "token_role": cell.variant.role,
                "source_item": cell.variant.item_id,
                "kept_positions": " ".join(map(str, cell.variant.positions)),
                "kept_tokens": " ".join(chosen) if len(chosen) <= ALL_SUBSETS_UP_TO else "",
                "seed": sampling.seeds[0],
                "png": png(drawn[0]),
            }


def png(picture: np.ndarray) -> bytes:
    """Returns a picture (numbers in 0 … 1) as the bytes of a PNG file."""
    written = io.BytesIO()
    Image.fromarray((picture * 255).round().clip(0, 255).astype(np.uint8)).save(written, format="PNG")
    return written.getvalue()


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values.float().tolist()]


def _frame(name: str, rows: Sequence[dict[str, Any]]) -> Tables:
    return {name: pd.DataFrame(rows)} if rows else {}
