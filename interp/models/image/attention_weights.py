"""Attention weights of a denoiser layer by layer, step by step and head by head: text and picture to text and picture."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.image.attention_calls import AttentionCall, attention_calls
from interp.models.image.family import Encoded, Family, Layout

Quarters = dict[str, Float[Tensor, "head query key"]]


class Place(NamedTuple):
    """A picture's row among those drawn, a step and a layer, each counted from 0."""

    row: int
    step: int
    layer: int


class AttentionWeights:
    """The weights of chosen steps and layers of the pictures that `ImageModel.generate(…, record=AttentionWeights(…))` draws.

    `at(row, step, layer)` has the four quarters of a joint attention, by names such as "image to text", each for every head;
    text positions are those of the conditioning, picture positions go row by row. Nothing is averaged, so one layer of one step
    takes a float for every head and pair of positions: 1.6 GB for a square of 64 × 64 positions and 24 heads.
    """

    def __init__(self, *, steps: Sequence[int], layers: Sequence[int]) -> None:
        """Begins empty: several calls of generate may add pictures. Raises ArgumentError when there is nothing to record."""
        if not steps or not layers or min(*steps, *layers, 0) < 0:
            raise ArgumentError(
                "Name steps and layers to record, counted from 0: AttentionWeights(steps=[0], layers=[0])."
            )
        self._steps, self._layers = frozenset(steps), tuple(dict.fromkeys(layers))
        self._seen: dict[Place, Quarters] = {}
        self._n_rows = 0

    @property
    def places(self) -> list[Place]:
        """What is recorded so far."""
        return sorted(self._seen)

    def at(self, row: int, step: int, layer: int) -> Quarters:
        """Returns the weights by quarter. Raises ArgumentError for what was not recorded."""
        place = Place(row, step, layer)
        if place not in self._seen:
            raise ArgumentError(
                f"Nothing was recorded for row {row}, step {step} and layer {layer}: see places for what is."
            )
        return self._seen[place]

    @contextmanager
    def seeing(self, family: Family, text: Encoded, n_pixels: int, *, guided: bool) -> Iterator[None]:
        """Inside the block, records the calls of torch's attention in the chosen layers.

        Raises ArgumentError for a layer that is not there.
        """
        modules = family.attention_modules()
        wrong = [layer for layer in self._layers if layer >= len(modules)]
        if wrong:
            raise ArgumentError(f"There is no layer {wrong[0]} to record: layers go from 0 to {len(modules) - 1}.")
        layouts, first = family.layout(text, n_pixels), self._n_rows
        calls, steps = dict.fromkeys(self._layers, -1), dict.fromkeys(self._layers, -1)

        def see(index: int, call: AttentionCall) -> None:
            layer = self._layers[index]
            calls[layer] += 1
            rows = family.own_rows(calls[layer], len(call.query), len(layouts), guided=guided)
            steps[layer] += bool(rows)
            if steps[layer] in self._steps:
                for offset, (row, layout) in enumerate(zip(rows, layouts, strict=False)):
                    self._seen[Place(first + offset, steps[layer], layer)] = _quarters(call, row, layout)

        with attention_calls([modules[layer] for layer in self._layers], see):
            yield
        self._n_rows += len(layouts)


def _quarters(call: AttentionCall, row: int, layout: Layout) -> Quarters:
    """The weights of one row, by what gives and what gets attention; where queries are the picture's alone, from it only."""
    sides = {"text": layout.text, "image": layout.image}
    if call.query.shape[2] == len(layout.image):  # cross-attention
        return {"image to text": call.weights(row, layout.image)[..., layout.text].cpu()}
    given = {side: call.weights(row, at) for side, at in sides.items()}
    return {f"{one} to {other}": given[one][..., at].cpu() for one in sides for other, at in sides.items()}
