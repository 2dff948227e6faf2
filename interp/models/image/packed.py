"""What pipelines share that pack two by two latents into one position of the denoiser: FLUX.1 and those after it."""

from jaxtyping import Float
from torch import Tensor

from interp.models.image.family import Family


class Packed(Family):
    """Base of the families whose pipelines pack latents."""

    def patch(self) -> int:
        """Returns 2: the pipeline packs so many latents a side into one position."""
        return 2

    def sample_size(self) -> int:
        """Returns the pipeline's: the denoiser has none."""
        return self.pipeline.default_sample_size

    def latent_channels(self) -> int:
        """Returns the channels of a latent before four of them are packed into one position."""
        return self.denoiser.config.in_channels // 4

    def latents(self, noise: Float[Tensor, "row channel height width"]) -> Float[Tensor, "row pixel patch"]:
        """Returns the noise with every two by two latents packed into one position."""
        return self.pipeline._pack_latents(noise, *noise.shape)
