"""Variants of one text: the edits drawn in each part of a run, and the conditioning of each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from interp.models.image.conditioning import BlockEdit, Conditioning
from interp.models.image.drawing import takes_scaled_attention
from interp.models.image.model import ImageModel
from probes.t2i_flow.prompts import Prompt, floor_positions, item_positions, roles, words
from probes.t2i_flow.repair import REMOVAL

Edit = Literal["full", "keep", "without", "alone", "paste"]
Pooled = Literal["clean", "prompt"]
ALL_SUBSETS_UP_TO = 6
"""Items of up to so many tokens have every subset drawn; longer ones go up in size until one is visible."""


@dataclass(frozen=True)
class Variant:
    """One edit of an encoded text.

    full: as encoded; keep: everything but `positions` is clean padding; without: `positions` are; alone: clean padding, with
    the vectors of the item encoded alone at `positions`; paste: the same put into the full text. `scaled` are the positions
    whose attention is scaled while the picture is drawn.
    """

    name: str
    edit: Edit
    positions: tuple[int, ...] = ()
    role: str = "none"
    item_id: str = ""
    source_positions: tuple[int, ...] = field(default=())
    scaled: tuple[int, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """One row of everything that the variants of a text are made of; `alone` has the texts of its items by item."""

    text: Conditioning
    clean: Conditioning
    alone: Mapping[str, Conditioning]
    pooled: Pooled

    def conditioning(self, variant: Variant) -> Conditioning:
        """Returns the variant's conditioning, one row.

        Where most of the text is gone (keep, alone) the pooled vector is the clean text's or the prompt's, as `pooled` says;
        the other edits leave the prompt's.
        """
        match variant.edit:
            case "full":
                return self.text
            case "without":
                return self.text.replace(variant.positions, self.clean)
            case "paste":
                return self.text.paste(variant.positions, self.alone[variant.item_id], variant.source_positions)
            case "keep":
                return self._with_pooled(self.text.keep(variant.positions, self.clean))
            case "alone":
                source = self.alone[variant.item_id]
                return self._with_pooled(self.clean.paste(variant.positions, source, variant.source_positions))

    def block_edit(self, variant: Variant) -> BlockEdit | None:
        """Returns the edit that restores the variant's clean or pasted vectors before every block; None for the unedited text.

        Clean positions become what they are in a picture of nothing but the clean text, pasted ones what they are in a
        picture of nothing but the item.
        """
        match variant.edit:
            case "full":
                return None
            case "without":
                return BlockEdit(variant.positions, self.clean)
            case "paste":
                alone = self.alone[variant.item_id]
                source = self.clean.paste(variant.positions, alone, variant.source_positions)
                return BlockEdit(variant.positions, source if source.pooled is None else source.with_pooled(alone))
            case "keep" | "alone":
                kept = set(variant.positions)
                others = tuple(place for place in range(self.text.n_positions) if place not in kept)
                return BlockEdit(others, self.clean)

    def _with_pooled(self, edited: Conditioning) -> Conditioning:
        if edited.pooled is None:
            return edited
        return edited.with_pooled(self.clean if self.pooled == "clean" else self.text)


def floor_variants(floors: Mapping[str, Sequence[int]]) -> list[Variant]:
    """Returns the unedited text, the empty text, and each role that names no item, kept alone."""
    kept = [Variant(role, "keep", tuple(positions), role) for role, positions in floors.items()]
    return [Variant("full", "full"), Variant("clean", "keep"), *kept]


def subset_variants(positions: Sequence[int], role_of: Mapping[int, str], size: int) -> list[Variant]:
    """Returns keep-only variants of every subset of that many of an item's positions, in order."""
    return [
        Variant("tokens", "keep", subset, role_of[subset[0]] if size == 1 else "several")
        for subset in itertools.combinations(positions, size)
    ]


def some_of(variants: Sequence[Variant], at_most: int, rng: np.random.Generator) -> list[Variant]:
    """Returns the variants, or a random choice of them where there are too many to draw, in order."""
    if len(variants) <= at_most:
        return list(variants)
    chosen = rng.choice(len(variants), size=at_most, replace=False)
    return [variants[index] for index in sorted(chosen)]


# ---------------------------------------------------------------------- what is drawn in each part


def item_variants(model: ImageModel, prompt: Prompt) -> list[Variant]:
    """Returns the text, the empty text, every role, the item, and every subset of its tokens if they are few."""
    tokens = model.tokens(prompt.text)
    positions = item_positions(prompt, tokens)[prompt.items[0].id]
    by_position = dict(enumerate(roles(prompt, tokens)))
    kinds = [by_position[position] for position in positions]
    variants = floor_variants(floor_positions(prompt, tokens))
    variants.append(Variant("item", "keep", positions, "item" if len(kinds) > 1 else kinds[-1]))
    for size in range(1, len(positions)) if len(positions) <= ALL_SUBSETS_UP_TO else ():
        variants += subset_variants(positions, by_position, size)
    return variants


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


def repair_variants(model: ImageModel, prompt: Prompt, item_id: str, rng: np.random.Generator) -> list[Variant]:
    """Returns the repair, and baselines: as many vectors over other words at random, and the context looked at less."""
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


def removal_variants(
    model: ImageModel, prompt: Prompt, redundant: Mapping[tuple[str, tuple[int, int], str], tuple[int, ...]]
) -> list[Variant]:
    """Returns the prompt without those tokens of its items that do not show the item on their own, if there are any.

    `redundant` has them by the item's `alone_key`, counted from 0 in the item.
    """
    positions = item_positions(prompt, model.tokens(prompt.text))
    useless = tuple(
        sorted(positions[item.id][place] for item in prompt.items for place in redundant.get(item.alone_key, ()))
    )
    return [Variant(REMOVAL, "without", useless, "redundant")] if useless else []


def lens_variants(model: ImageModel, prompt: Prompt, *, alone: bool) -> list[Variant]:
    """Returns what is kept: of an item alone the whole text and its last token, of a prompt each item that can leak."""
    tokens = model.tokens(prompt.text)
    positions = item_positions(prompt, tokens)
    if not alone:
        return [Variant("item", "keep", positions[item.id], "item", item.id) for item in prompt.items if item.leaks]
    last = tuple(place for place, role in enumerate(roles(prompt, tokens)) if role == "last_token")
    return [Variant("full", "full", role="full"), Variant("tokens", "keep", last, "last_token", prompt.items[0].id)]


def alone_positions(model: ImageModel, prompt: Prompt, item_id: str) -> tuple[int, ...]:
    """Returns the positions of an item's tokens in the text that has it by itself."""
    item = next(item for item in prompt.items if item.id == item_id)
    return model.spans(item.alone_text, item.phrase)


def spread_layers(n_layers: int, at_most: int) -> list[int]:
    """Returns layers from 0, the embeddings, to n_layers, evenly spaced where not all of them may be looked at."""
    return [int(layer) for layer in np.unique(np.linspace(0, n_layers, min(n_layers + 1, at_most)).round())]
