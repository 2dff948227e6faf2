"""Sets of heads: random controls that match a set layer by layer, and one set per row of a batch."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.edits import EditMode, EditPhase
from interp.models.language.model import LanguageModel

Head = tuple[int, int]
"""A layer and a query head in it."""
Edit = tuple[tuple[Head, ...], EditMode]


def layer_matched(top: Sequence[Head], n_heads: int, key: tuple[Any, ...]) -> tuple[Head, ...]:
    """Returns random heads, as many in each layer as `top` has, none of them in `top`.

    A layer with too few others takes the rest from the nearest layers that `top` touches. Drawn from the key alone.
    Raises ValueError when the layers of `top` have not enough other heads.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    generator = np.random.default_rng(list(digest))
    layers = sorted({layer for layer, _ in top})
    free = {layer: [head for head in range(n_heads) if (layer, head) not in set(top)] for layer in layers}
    drawn: list[Head] = []
    for layer in layers:
        for _ in range(sum(1 for other, _ in top if other == layer)):
            source = min((other for other in layers if free[other]), key=lambda other: abs(other - layer), default=None)
            if source is None:
                raise ValueError(f"{len(top)} heads leave too few others in their layers for a random control")
            drawn.append((source, free[source].pop(int(generator.integers(len(free[source]))))))
    return tuple(sorted(drawn))


def matched_draws(top: Sequence[Head], n_heads: int, key: tuple[Any, ...], draws: int) -> list[tuple[Head, ...]]:
    """Returns random controls of `top`: the given number of `layer_matched` sets, each drawn from the key and its own number."""
    return [layer_matched(top, n_heads, (*key, draw)) for draw in range(draws)]


@contextmanager
def editing_rows(
    model: LanguageModel,
    edits: Sequence[Edit],
    means: Float[Tensor, "layer head dim"] | None = None,
    *,
    phase: EditPhase = "both",
) -> Iterator[None]:
    """Opens one edit per mode, in which each row of the batch changes its own heads. `means` are for mode "mean"."""
    with ExitStack() as stack:
        modes: list[EditMode] = list(dict.fromkeys(mode for _, mode in edits))
        for mode in modes:
            grid = torch.stack([model.head_grid(heads if own == mode else ()) for heads, own in edits])
            if bool(grid.any()):
                stack.enter_context(model.edit_heads(grid, mode, phase=phase, means=means))
        yield


def heads_as_text(heads: Sequence[Head]) -> str:
    """Returns a set of heads as tables hold it: "18-7 17-3"."""
    return " ".join(f"{layer}-{head}" for layer, head in heads)
