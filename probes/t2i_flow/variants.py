"""The edits of one text that are drawn beside it, and the conditioning of each: keep only, without, alone, pasted."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from interp.models.conditioning import BlockEdit, Conditioning

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
        """Returns what puts the variant's clean or pasted vectors back before every block, None for the text as it is.

        Clean positions become what they are in a picture of nothing but the clean text, pasted ones what they are in a
        picture of nothing but the item.
        """
        match variant.edit:
            case "full":
                return None
            case "without":
                return BlockEdit(variant.positions, self.clean)
            case "paste":
                source = self.clean.paste(
                    variant.positions, self.alone[variant.item_id], variant.source_positions
                ).with_pooled(self.alone[variant.item_id])
                return BlockEdit(variant.positions, source)
            case "keep" | "alone":
                kept = set(variant.positions)
                others = tuple(place for place in range(self.text.n_positions) if place not in kept)
                return BlockEdit(others, self.clean)

    def _with_pooled(self, edited: Conditioning) -> Conditioning:
        if edited.pooled is None:
            return edited
        return edited.with_pooled(self.clean if self.pooled == "clean" else self.text)


def floor_variants(floors: Mapping[str, Sequence[int]]) -> list[Variant]:
    """Returns the text as it is, nothing of it, and each role that names no item by itself."""
    kept = [Variant(role, "keep", tuple(positions), role) for role, positions in floors.items()]
    return [Variant("full", "full"), Variant("clean", "keep"), *kept]


def subset_variants(positions: Sequence[int], roles: Mapping[int, str], size: int) -> list[Variant]:
    """Returns keep-only variants of every subset of that many of an item's positions, in order."""
    return [
        Variant("tokens", "keep", subset, roles[subset[0]] if size == 1 else "several")
        for subset in itertools.combinations(positions, size)
    ]


def some_of(variants: Sequence[Variant], at_most: int, rng: np.random.Generator) -> list[Variant]:
    """Returns the variants, or a random choice of them where there are too many to draw, in order."""
    if len(variants) <= at_most:
        return list(variants)
    chosen = rng.choice(len(variants), size=at_most, replace=False)
    return [variants[index] for index in sorted(chosen)]
