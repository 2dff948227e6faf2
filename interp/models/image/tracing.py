"""Entering a pipeline's modules while it encodes or draws. All of the toolkit's calls to nnsight are here."""

import functools
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.models.image.conditioning import BlockEdit
from interp.models.image.family import Encoded, Family, Layout
from interp.models.image.text_encoder import TextEncoder


def states_before(
    encode: Callable[[str], Encoded], text: str, encoder: TextEncoder, layers: Sequence[int]
) -> list[Tensor]:
    """Returns what an encoder has before each of these layers, in rising order, while it encodes a text; behind all before its norm."""
    traced = _entered(_Called(encode, layers=encoder.layers, norm=encoder.final_norm))
    with traced.trace(text):
        states = _nnsight().save(list())
        for layer in layers:
            before = traced.layers[layer] if layer < len(encoder.layers) else traced.norm
            states.append(before.input)
    return states


def drawn_with_source(family: Family, call: dict[str, Any], edit: BlockEdit, swap: "Swap") -> Any:
    """Returns what the pipeline draws when the text vectors before blocks are swapped at every step; `call` has both halves."""
    modules = torch.nn.ModuleList(family.blocks())
    drawing = _Called(family.pipeline, blocks=modules)
    traced = _entered(drawing)
    blocks = [traced.blocks[block] for block in (range(len(modules)) if edit.blocks is None else edit.blocks)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'model.* was never reached", UserWarning)  # how the open loop ends
        with traced.trace(**call) as tracer:
            for step in tracer.iter[:]:
                for block in blocks:
                    inputs, options = block.inputs
                    block.inputs = swap(step, inputs, options)
    return drawing.result


class Swap:
    """Puts the text vectors of the second half of the rows into the first, in the arguments of a block's call."""

    def __init__(self, family: Family, edit: BlockEdit, both: Encoded, n_pixels: int, *, guided: bool) -> None:
        self._family, self._n_rows, self._guided = family, len(both.sequence) // 2, guided
        layouts = family.layout(both, n_pixels)
        self._before = int(layouts[0].text[0])
        keys = [_keys(row, edit.positions) for row in layouts]
        self._pairs = list(zip(keys, keys[self._n_rows :], strict=False))

    def __call__(self, call: int, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Returns the arguments of a block, in this call of it."""
        return self._family.edited(inputs, options, functools.partial(self._changed, call))

    def _changed(self, call: int, vectors: Tensor, *, alone: bool = False) -> Tensor:
        """The vectors of one call, with the text's swapped; `alone` where the picture does not stand before the text."""
        rows = self._family.own_rows(call, len(vectors), 2 * self._n_rows, guided=self._guided)
        changed, before = vectors.clone(), self._before if alone else 0
        for row, source, (own, other) in zip(rows, rows[self._n_rows :], self._pairs, strict=False):
            changed[row, own - before] = vectors[source, other - before]
        return changed


def _keys(row: Layout, positions: Sequence[int]) -> Tensor:
    """Where the denoiser has these positions of a row; those that it has not are left out."""
    where = dict(zip(row.places.tolist(), row.text.tolist(), strict=True))
    return torch.tensor([where[position] for position in positions if position in where], dtype=torch.long)


class _Called(torch.nn.Module):
    """A function as a module, over modules it calls: what nnsight needs to enter them (it leaves them a pass-through)."""

    def __init__(self, function: Callable[..., Any], **modules: torch.nn.Module) -> None:
        super().__init__()
        self._function = function
        for name, module in modules.items():
            self.add_module(name, module)
        self.result: Any = None

    def forward(self, *inputs: Any, **options: Any) -> Any:
        self.result = self._function(*inputs, **options)
        return self.result


def _entered(module: _Called) -> Any:
    """The module as nnsight sees it. BERT's layers have a part called `output`, which nnsight renames: nothing here asks for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Module '.*' has a submodule named", UserWarning)
        return _nnsight().NNsight(module)


def _nnsight() -> Any:
    """Returns nnsight, told on its first import not to add a method `save` to every object of the process."""
    if "nnsight" not in sys.modules:
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "config.yaml"
            settings.write_text("APP:\n  PYMOUNT: false\n", encoding="utf-8")
            before = os.environ.get("NNSIGHT_CONFIG")
            os.environ["NNSIGHT_CONFIG"] = str(settings)
            try:
                importlib.import_module("nnsight")
            finally:
                os.environ.pop("NNSIGHT_CONFIG")
                os.environ.update({} if before is None else {"NNSIGHT_CONFIG": before})
    import nnsight

    return nnsight
