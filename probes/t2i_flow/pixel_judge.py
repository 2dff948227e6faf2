"""The exact judge of drawn scenes: which colour and which shape stands in each cell, read off the pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from probes.t2i_flow.judges import Verdict
from probes.t2i_flow.scenes import CELL, COLOURS, MASK, MASKS, N_CELLS, SHAPES, SIDE, Item

BRIGHT = 0.5
"""A pixel belongs to an object when its brightest channel is above this."""
FEWEST_PIXELS = 6
LEAST_OVERLAP = 0.8
"""Intersection over union with a shape's mask from which a blob is that shape."""
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
_STACK = np.stack([MASKS[shape] for shape in SHAPES])


class Found(NamedTuple):
    """What stands in one cell. `shape` is "" where no shape fits."""

    colour: str
    shape: str
    cell: int
    overlap: float


def read_scene(picture: Float32[np.ndarray, "16 16 3"]) -> list[Found]:
    """Returns the objects of a picture by cell: colour by the nearest of the palette, shape by the mask that overlaps most."""
    found = []
    for cell in range(N_CELLS):
        top, left = (CELL * part for part in divmod(cell, SIDE // CELL))
        part = picture[top : top + CELL, left : left + CELL]
        inside = part.max(axis=-1) > BRIGHT
        if inside.sum() < FEWEST_PIXELS:
            continue
        mean = part[inside].mean(axis=0)
        colour = list(COLOURS)[int(((_PALETTE - mean) ** 2).sum(axis=1).argmin())]
        overlaps = _overlaps(inside)
        best = int(overlaps.argmax())
        shape = SHAPES[best] if overlaps[best] >= LEAST_OVERLAP else ""
        found.append(Found(colour, shape, cell, float(overlaps[best])))
    return found


def _overlaps(inside: Bool[np.ndarray, "8 8"]) -> Float32[np.ndarray, " shape"]:
    """Intersection over union of a cell's pixels with each shape's mask; pixels outside the mask's square count against it."""
    square = inside[:MASK, :MASK]
    common = (square & _STACK).sum(axis=(1, 2))
    return (common / (inside.sum() + _STACK.sum(axis=(1, 2)) - common)).astype(np.float32)


def is_exact(picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> bool:
    """Whether the picture holds these items and nothing else."""
    return sorted((one.colour, one.shape) for one in read_scene(picture)) == sorted(item.drawn for item in items)


def pairing_wrong(picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> bool:
    """Whether all colours and all shapes are there but not together: an attribute went to the other object."""
    found = read_scene(picture)
    colours_right = sorted(one.colour for one in found) == sorted(item.colour for item in items)
    shapes_right = sorted(one.shape for one in found) == sorted(item.shape for item in items)
    return colours_right and shapes_right and not is_exact(picture, items)


class PixelJudge:
    """Says of each item whether it is in the picture, and whether its colour and its shape are there at all."""

    def __call__(self, picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> list[Verdict]:
        """Returns one verdict an item; the score is the overlap with its shape, 0 where it is not visible."""
        found = read_scene(picture)
        return [self._verdict(found, item) for item in items]

    @staticmethod
    def _verdict(found: Sequence[Found], item: Item) -> Verdict:
        fitting = [one.overlap for one in found if (one.colour, one.shape) == item.drawn]
        return Verdict(
            visible=bool(fitting),
            colour_right=any(one.colour == item.colour for one in found),
            shape_right=any(one.shape == item.shape for one in found),
            score=max(fitting, default=0.0),
        )
