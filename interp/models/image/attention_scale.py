"""Making a denoiser look more or less at some positions of the text, while pictures are drawn."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError


def takes_scaled_attention(denoiser: Any) -> bool:
    """Whether a denoiser reads the text by cross-attention, which can be scaled."""
    return any(name.endswith("attn2.processor") for name in getattr(denoiser, "attn_processors", {}))


@contextmanager
def scaled_attention(denoiser: Any, rows: Sequence[Sequence[int]], scale: float, n_positions: int) -> Iterator[None]:
    """Multiplies the cross-attention weights of some text positions by `scale` and normalises again, in every layer and step.

    `rows` has the positions for each of the last rows that the denoiser is called with: with guidance the rows before them are
    the unconditional branch, which is left alone. Like the reweighting of prompt-to-prompt (Hertz et al. 2023), which does
    not normalise again. Each module's own processor does the work: only its mask is changed. Heat maps recorded meanwhile are
    those of the weights before they are scaled.
    Raises ArgumentError for a negative scale, and for a denoiser without cross-attention.
    """
    if scale < 0:
        raise ArgumentError("An attention scale is 0 or more: 0 hides the tokens, 1 changes nothing.")
    if not takes_scaled_attention(denoiser):
        raise ArgumentError(
            f"{type(denoiser).__name__} reads text by joint attention, which is not scaled: leave this out, or use a model with "
            "cross-attention (Stable Diffusion 1 and 2, SDXL)."
        )
    own = dict(denoiser.attn_processors)
    bias = scale_bias(rows, scale, n_positions)
    biased = {name: _Biased(one, bias) for name, one in own.items() if name.endswith("attn2.processor")}
    denoiser.set_attn_processor({**own, **biased})
    try:
        yield
    finally:
        denoiser.set_attn_processor(own)


def scale_bias(rows: Sequence[Sequence[int]], scale: float, n_positions: int) -> Float[Tensor, "row 1 position"]:
    """Returns what is to be added to attention scores so that these positions' weights are multiplied by `scale`."""
    bias = torch.zeros(len(rows), 1, n_positions)
    for row, positions in enumerate(rows):
        bias[row, 0, list(positions)] = math.log(scale) if scale > 0 else -math.inf
    return bias


class _Biased:
    """An attention processor that does what another one does, with something added to the scores of the last rows."""

    def __init__(self, processor: Any, bias: Float[Tensor, "row 1 position"]) -> None:
        self._processor, self._bias = processor, bias

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        before = self._bias.new_zeros(len(hidden_states) - len(self._bias), *self._bias.shape[1:])
        bias = torch.cat([before, self._bias]).to(hidden_states)
        mask = bias if attention_mask is None else attention_mask + bias
        return self._processor(attn, hidden_states, encoder_hidden_states, mask, *args, **kwargs)
