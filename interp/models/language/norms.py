"""A layer norm taken apart: found by comparing what a module makes with what the known kinds make."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import UserError


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
    refusal = UserError(
        f"{type(module).__name__} is a norm of an unknown kind: logit contributions cannot be computed."
    )
    try:
        with torch.no_grad():
            wanted = module(probe).float()
    except (TypeError, RuntimeError, IndexError, AttributeError) as error:  # a part that takes more than a stream
        raise refusal from error
    if wanted.shape != probe.shape:
        raise refusal
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for gain in (plain, 1 + plain):  # Gemma keeps gain − 1
        for centred in (False, True):
            norm = Norm(module, gain, bias, centred, eps)
            x = probe.float()
            found = gain * (x - x.mean(-1, keepdim=True) if centred else x) / norm.scale(x)[:, None] + bias
            if torch.allclose(found, wanted, atol=tolerance * float(wanted.abs().max())):
                return norm
    raise refusal
