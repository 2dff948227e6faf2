"""Directions in the residual stream that raise a token's logit, and how a head's output reaches them.

The logit of token y before soft-capping is s · u_y · norm(r) for the final residual r. With the norms' scales held at
their values in the pass, it is linear in what every head wrote: the parts add up to the logit exactly, which a test
checks on every supported family.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import UserError
from interp.models.architecture import output_projection_weight
from interp.models.language import LanguageModel

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


@dataclass(frozen=True)
class Norm:
    """A layer norm taken apart: norm(x) = gain ⊙ (x − mean x if centred) / scale(x) + bias."""

    module: nn.Module
    gain: Float[Tensor, " residual"]
    bias: Float[Tensor, " residual"]
    centred: bool
    eps: float

    def scale(self, x: Float[Tensor, "*axes residual"]) -> Float[Tensor, "*axes"]:
        """Returns what the norm divides by: the root mean square, or the standard deviation when centred."""
        x = x.double()
        x = x - x.mean(dim=-1, keepdim=True) if self.centred else x
        return (x.square().mean(dim=-1) + self.eps).sqrt().float()

    def back(self, direction: Float[Tensor, "*axes residual"]) -> Float[Tensor, "*axes residual"]:
        """Returns the direction before the norm that the given one after it reads, but for the division by the scale."""
        direction = direction * self.gain
        return direction - direction.mean(dim=-1, keepdim=True) if self.centred else direction


def take_apart(module: nn.Module, width: int) -> Norm:
    """Returns a norm module's gain, bias and kind, found by comparing its output with the known kinds'.

    Raises UserError for a norm of another kind: a wrong guess would give wrong contributions.
    """
    weight = getattr(module, "weight", None)
    eps = next((float(getattr(module, name)) for name in ("eps", "variance_epsilon") if hasattr(module, name)), 1e-6)
    device = weight.device if isinstance(weight, Tensor) else torch.device("cpu")
    dtype = weight.dtype if isinstance(weight, Tensor) else torch.float32
    plain = weight.float() if isinstance(weight, Tensor) else torch.ones(width, device=device)
    offset = getattr(module, "bias", None)
    bias = offset.float() if isinstance(offset, Tensor) else torch.zeros(width, device=device)
    generator = torch.Generator().manual_seed(0)
    probe = (torch.randn(4, width, generator=generator) + 0.5).to(device, dtype)
    with torch.no_grad():
        wanted = module(probe).float()
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for gain in (plain, 1 + plain):  # Gemma keeps gain − 1
        for centred in (False, True):
            norm = Norm(module, gain, bias, centred, eps)
            x = probe.float()
            found = gain * (x - x.mean(-1, keepdim=True) if centred else x) / norm.scale(x)[:, None] + bias
            if torch.allclose(found, wanted, atol=tolerance * float(wanted.abs().max())):
                return norm
    raise UserError(f"{type(module).__name__} is a norm of an unknown kind: logit contributions cannot be computed.")


@dataclass
class Scales:
    """What the norms divided by in the last pass, each [row, query]."""

    final: list[Tensor] = field(default_factory=list)
    after_attention: dict[int, Tensor] = field(default_factory=dict)


class LogitDirections:
    """The way from heads to logits in one model."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def unembedding(self, ids: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes residual"]:
        """Returns the raw rows of the output embedding (Gema et al. 2026 use these as they are)."""
        weight = self._head.weight
        return weight[ids.to(weight.device)].float()

    def frozen(self, ids: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes residual"]:
        """Returns the directions before the final norm whose product with the residual, over its scale, is the logit."""
        return self.final_norm.back(self.unembedding(ids)) * self.output_scale

    @cached_property
    def output_scale(self) -> float:
        """What the logits are multiplied by after the unembedding, times what blocks are multiplied by (Cohere, Granite)."""
        config: Any = self.model.hf.config.get_text_config(decoder=True)
        scale = float(getattr(config, "logit_scale", None) or 1.0) * float(getattr(config, "residual_multiplier", 1.0))
        return scale / float(getattr(config, "logits_scaling", 1.0))

    @cached_property
    def final_norm(self) -> Norm:
        """The norm before the language-model head.

        Raises UserError when there is none where it is looked for.
        """
        named = dict(self.model.hf.base_model.named_modules())
        for name in (*_FINAL_NORMS, *(f"decoder.{name}" for name in _FINAL_NORMS)):
            if isinstance(named.get(name), nn.Module):
                return take_apart(named[name], self._width)
        raise UserError(
            f"{self.model.identity.name} has no final norm that this toolkit knows: see docs/adding_a_model.md."
        )

    @cached_property
    def attention_norms(self) -> dict[int, Norm]:
        """Norms, by layer, that the attention output passes before it is added to the residual (Gemma 2 and 3, OLMo 2)."""
        found: dict[int, Norm] = {}
        layer: Any
        for layer in self.model.hf.modules():
            # Elsewhere a module of the name post_attention_layernorm is the norm before the feed-forward block.
            if hasattr(layer, "post_attention_layernorm") and hasattr(layer, "post_feedforward_layernorm"):
                found[len(found)] = take_apart(layer.post_attention_layernorm, self._width)
        return found

    def to_head(
        self, layer: int, directions: Float[Tensor, "row query residual"], *, through_norm: bool
    ) -> Float[Tensor, "row head query dim"]:
        """Returns the directions as each head's output sees them: W_O of the head, transposed, times the direction.

        `through_norm`: first back through the layer's norm after attention, if it has one.
        """
        if through_norm and layer in self.attention_norms:
            directions = self.attention_norms[layer].back(directions)
        weight = output_projection_weight(self.model.attention_modules[layer]).float()
        heads = self.model.geometry.n_heads
        projected = directions.to(weight.device) @ weight.T
        return projected.unflatten(-1, (heads, -1)).transpose(1, 2)

    @contextmanager
    def watching_scales(self) -> Iterator[Scales]:
        """Collects what the norms divide by in the forward pass inside the `with`."""
        scales = Scales()

        def final(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            scales.final.append(self.final_norm.scale(inputs[0]))

        def after(layer: int, norm: Norm) -> Any:
            def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
                scale = norm.scale(inputs[0])
                kept = scales.after_attention.get(layer, scale[:, :0])
                scales.after_attention[layer] = torch.cat([kept, scale], dim=1)  # a long text is read in chunks

            return keep

        handles = [self.final_norm.module.register_forward_pre_hook(final)]
        handles += [
            norm.module.register_forward_pre_hook(after(layer, norm)) for layer, norm in self.attention_norms.items()
        ]
        try:
            yield scales
        finally:
            for handle in handles:
                handle.remove()

    @property
    def _head(self) -> Any:
        return self.model.hf.get_output_embeddings()

    @property
    def _width(self) -> int:
        return self._head.weight.shape[1]
