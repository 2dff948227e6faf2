"""Pixels as latents, for small diffusion models that need no autoencoder: blocks of pixels become channels, without loss."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from jaxtyping import Float
from torch import Tensor, nn


class PixelLatents(ModelMixin, ConfigMixin):
    """Replaces a pipeline's autoencoder: `decode` turns 4·3 channels into 2 × 2 pixels, `encode` back. It has no weights.

    A diffusers pipeline reads its latent channels, scaling factor, and from the number of `block_out_channels` that a latent
    is two pixels wide.
    """

    @register_to_config
    def __init__(
        self, block_out_channels: Sequence[int] = (1, 1), latent_channels: int = 12, scaling_factor: float = 1.0
    ) -> None:
        super().__init__()
        self.side = 2 ** (len(block_out_channels) - 1)
        self.empty = nn.Parameter(torch.zeros(1), requires_grad=False)  # tells device and dtype, as pipelines ask

    def encode(self, x: Float[Tensor, "row 3 height width"], return_dict: bool = True) -> Any:
        """Returns the pixels, in -1 … 1, as latents: a distribution of zero variance, because a pipeline expects a distribution."""
        latents = nn.functional.pixel_unshuffle(x, self.side)
        output = AutoencoderKLOutput(latent_dist=_Certain(latents))  # type: ignore[arg-type]
        return output if return_dict else (output.latent_dist,)

    def decode(self, z: Float[Tensor, "row channel height width"], return_dict: bool = True, **_: Any) -> Any:
        """Returns latents as pixels in -1 … 1."""
        pixels = nn.functional.pixel_shuffle(z, self.side)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


class _Certain:
    """A distribution with all its mass in one place."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def sample(self, generator: Any = None) -> Tensor:
        """Returns the value."""
        return self.value

    def mode(self) -> Tensor:
        """Returns the value."""
        return self.value
