"""Reading values inside the layers: the residual stream of the answer's position, through the final norm and the output embedding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.models.language.logit_path import LogitPath, logit_path
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import layer_modules


@dataclass
class Lens:
    """What the last position of chosen rows holds after every layer, of one pass."""

    model: LanguageModel
    path: LogitPath
    layers: nn.ModuleList
    streams: dict[int, Float[Tensor, "chosen residual"]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: LanguageModel) -> "Lens":
        """Returns the lens of a model.

        Raises UserError where its logits are no sum of what its layers wrote, or its layers are in no one list.
        """
        model.needs("contributions")
        return cls(model, logit_path(model), layer_modules(model))

    @contextmanager
    def watching(self, rows: Sequence[int]) -> Iterator[None]:
        """Keeps the streams of these rows in the pass inside the `with`."""

        def keep(layer: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                stream = output[0] if isinstance(output, tuple) else output
                self.streams[layer] = stream[list(rows), -1].detach()

            return hook

        handles = [module.register_forward_hook(keep(layer)) for layer, module in enumerate(self.layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.inference_mode()
    def logits(self, place: int, tokens: Sequence[int]) -> Float[Tensor, "layer token"]:
        """Returns the logits of some tokens after every layer, in that one of the chosen rows, before any soft-capping."""
        head: Any = self.model.hf.get_output_embeddings()
        rows = torch.stack([self.streams[layer][place] for layer in range(len(self.layers))])
        ids = torch.tensor(list(tokens), device=head.weight.device)
        normed = self.path.final_norm(rows[None])[0].to(head.weight.device)
        found = normed.float() @ head.weight[ids].float().T * self.path.output_scale
        bias = getattr(head, "bias", None)
        return (found if bias is None else found + bias[ids].float()).cpu()
