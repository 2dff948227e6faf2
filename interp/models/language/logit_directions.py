"""Directions in the residual stream that raise a token's logit, and how a head's output reaches them.

The logit of token y before soft-capping is s · u_y · norm(r) for the final residual r. With the norms' scales fixed at
their values in the pass, it is linear in the output of every head: the parts add up to the logit exactly, which a test
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

from interp.models.language.architecture import output_projection_weight
from interp.models.language.logit_path import logit_path
from interp.models.language.model import LanguageModel
from interp.models.language.norms import Norm, take_apart


@dataclass
class Scales:
    """What the norms divided by in the last pass, each [row, query]."""

    final: list[Tensor] = field(default_factory=list)
    after_attention: dict[int, Tensor] = field(default_factory=dict)


class LogitDirections:
    """How head outputs map to logits in one model."""

    def __init__(self, model: LanguageModel) -> None:
        """Watches a few tokens pass, once for each model.

        Raises UserError where the logits are no sum of what the heads wrote.
        """
        self.model = model
        model.needs("contributions")
        self._path = logit_path(model)

    def unembedding(self, ids: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes residual"]:
        """Returns the raw rows of the output embedding (Gema et al. 2026 use these as they are)."""
        weight = self._head.weight
        return weight[ids.to(weight.device)].float()

    def frozen(self, ids: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes residual"]:
        """Returns the directions before the final norm whose product with the residual, over its scale, is the logit."""
        return self.final_norm.back(self.unembedding(ids)) * self.output_scale

    @cached_property
    def output_scale(self) -> float:
        """What the logits are multiplied by beside the unembedding (Cohere, Granite, MiniCPM)."""
        return self._path.output_scale

    @cached_property
    def final_norm(self) -> Norm:
        """The norm before the language-model head."""
        return take_apart(self._path.final_norm, self._width)

    @cached_property
    def attention_norms(self) -> dict[int, Norm]:
        """Norms, by layer, that the attention output passes before it is added to the residual (Gemma 2 and 3, GLM 4)."""
        return {layer: take_apart(module, self._width) for layer, module in self._path.attention_norms.items()}

    def to_head(
        self, layer: int, directions: Float[Tensor, "row query residual"], *, through_norm: bool
    ) -> Float[Tensor, "row head query dim"]:
        """Returns the directions as each head's output sees them: W_O of the head, transposed, times the direction.

        `through_norm`: first back through what the layer's attention output is multiplied by down the residual stream, and
        through its norm after attention, if it has one.
        """
        if through_norm and layer in self._path.gains:
            directions = directions * self._path.gains[layer].to(directions.device)
        if through_norm and layer in self.attention_norms:
            directions = self.attention_norms[layer].back(directions)
        weight = output_projection_weight(self.model.attention_of(layer)).float()
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
