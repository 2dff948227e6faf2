"""What the check at load compares with: transformers' own attention, and how far apart two right readings may be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.models.language.adapted.adapter import adapter_of, unadapted
from interp.models.language.architecture import output_projection, switch_attention
from interp.models.language.attention_function import ATTENTION
from interp.models.language.model import LanguageModel

TOLERANCE = 5e-3
"""In float32: how far off a reading may be, as a share of the spread of the values. Right readings are below 1e-3; the
mistakes that are known lie above 5e-2."""
HALF_TOLERANCE = 0.1
"""In half precision, where a rounding of the input moves right readings by up to 9e-2; and three times what one did move."""
NOISE_FACTOR = 3
HALF_SHARE = 0.75
"""In half precision this share of the rows must be right: a rounding may send a token to another expert."""


@dataclass(frozen=True)
class Compared:
    """How far off a way was, what is allowed, and why it is refused if it is."""

    error: float
    tolerance: float
    refused: str | None


@dataclass(frozen=True)
class Plain:
    """Two texts as transformers' own attention reads them, and how far a rounding of the input moves the logits."""

    logits: Float[Tensor, "two token vocabulary"]
    entered: list[Float[Tensor, "two token head_times_dim"]]
    """What enters each layer's output projection."""
    weights: list[Float[Tensor, "two head query key"]] | None
    """Attention weights by layer, where the family's eager attention gives them."""
    noise: float
    exact: bool
    """Whether the model is float32."""

    def outputs(self, model: LanguageModel) -> list[Tensor]:
        """Returns what enters the projections, one for each layer, flattened over heads."""
        return [entered.reshape(*entered.shape[:2], -1) for entered in self.entered]


@contextmanager
def plainly(model: LanguageModel) -> Iterator[None]:
    """Runs the model by transformers' own eager attention inside the `with`; Falcon by its own, fused."""
    if not model.attention_modules:
        yield
    elif (adapter := adapter_of(model.hf)) is not None:
        with unadapted(model.hf, adapter):
            yield
    else:
        switch_attention(model.hf, "eager")
        try:
            yield
        finally:
            switch_attention(model.hf, ATTENTION)


@torch.no_grad()
def plain_pass(model: LanguageModel, texts: Int[Tensor, "two token"]) -> Plain:
    """Returns the texts' logits, projection inputs and attention weights in transformers' own hands."""
    entered: list[Tensor] = []
    weights: list[Tensor | None] = []
    handles = []
    for module in model.attention_modules:
        projection = output_projection(module)
        handles.append(projection.register_forward_pre_hook(lambda _, given: entered.append(given[0].detach())))
        handles.append(module.register_forward_hook(lambda _, __, output: weights.append(_weights_in(output))))
    ids = texts.to(model.device)
    try:
        with plainly(model):
            logits = model.hf(input_ids=ids, use_cache=False).logits.float()
    finally:
        for handle in handles:
            handle.remove()
    exact = model.hf.dtype == torch.float32
    noise = 0.0 if exact else _noise(model, ids, logits)
    given = [one for one in weights if one is not None]
    return Plain(logits, entered, given if given and len(given) == len(weights) else None, noise, exact)


def _weights_in(output: Any) -> Tensor | None:
    given = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    return given.detach() if isinstance(given, Tensor) and given.ndim == 4 else None


def _noise(model: LanguageModel, ids: Tensor, logits: Tensor) -> float:
    """How far a rounding of the embeddings moves the logits: what no right reading in this precision can be held to."""
    generator = torch.Generator().manual_seed(0)

    def jog(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        by = torch.randn(output.shape, generator=generator).to(output.device) * torch.finfo(output.dtype).eps
        return (output.float() * (1 + by)).to(output.dtype)

    handle = model.hf.get_input_embeddings().register_forward_hook(jog)
    try:
        with plainly(model):
            moved = model.hf(input_ids=ids, use_cache=False).logits.float()
    finally:
        handle.remove()
    return float(torch.quantile(_row_errors(moved, logits) / spreads(logits), HALF_SHARE))


def spreads(values: Tensor) -> float:
    """Returns the standard deviation of all values: what errors are measured by."""
    return max(float(values.double().std()), 1e-12)


def _row_errors(found: Tensor, wanted: Tensor) -> Float[Tensor, " row"]:
    """The largest error in each row; NaN and infinity where only one side has them count as infinitely far."""
    off = (found.double().to(wanted.device) - wanted.double()).abs().nan_to_num(nan=torch.inf)
    return off.reshape(-1, off.shape[-1]).amax(dim=-1).float().cpu()


def compare(
    pairs: Sequence[tuple[Tensor, Tensor]], plain: Plain, *, rounding: float = 0.0, by_layer: bool = False
) -> Compared:
    """Returns how far what was found is from what is right, as a share of the spread; the last axis is one row's values.

    In float32 every row must be right. In half precision three quarters of them, within a tolerance that grows with what
    one rounding of the input does to this very model, so that a family that is right does not fail; `by_layer`, three quarters
    of each pair, so that no layer is lost among the others.
    """
    spread = spreads(torch.cat([wanted.flatten().cpu() for _, wanted in pairs]))
    errors = [_row_errors(found, wanted) / spread for found, wanted in pairs]
    groups = errors if by_layer and not plain.exact else [torch.cat(errors)]
    error = max(float(group.max() if plain.exact else torch.quantile(group, HALF_SHARE)) for group in groups)
    tolerance = TOLERANCE if plain.exact else max(HALF_TOLERANCE, NOISE_FACTOR * plain.noise)
    tolerance = max(tolerance, rounding)
    if error <= tolerance:
        return Compared(error, tolerance, None)
    if not all(bool(wanted.isfinite().all()) for _, wanted in pairs):
        return Compared(error, tolerance, "not a number in this precision, which --dtype float32 or bfloat16 mends")
    return Compared(error, tolerance, f"off by {error:.2g} of the spread of the values")
