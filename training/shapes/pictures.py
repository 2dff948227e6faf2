"""Pictures of scenes as latents, and where their objects go."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from probes.t2i_flow.scenes import CELL, N_CELLS, SIDE, Scene, render


def latents_of(scenes: Sequence[Scene], cells: Sequence[Sequence[int]]) -> Float[Tensor, "row 12 8 8"]:
    """Returns the pictures as the denoiser has them: pixels in -1 … 1, 2 × 2 of them side by side on the channels."""
    pictures = np.stack([render(scene.items, placed) for scene, placed in zip(scenes, cells, strict=True)])
    return pixel_unshuffle(torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1, 2)


def random_cells(scene: Scene, rng: np.random.Generator) -> list[int]:
    """Returns a different cell for each object, all equally likely."""
    return rng.permutation(N_CELLS)[: len(scene.items)].tolist()


def cells_in_noise(noise: Float[Tensor, "row 12 8 8"]) -> list[list[int]]:
    """Returns all cells by how much noise they hold, the brightest first: where the objects of a scene go, in order.

    If objects were placed without regard to the noise, a denoiser would have to choose among equally good places in its first
    steps, and a network as small as this one draws an object twice or not at all. So the noise is asked instead. Every placement
    is as likely as any other, and the seed decides which it is. Pairs of noise and picture that belong together are what
    "minibatch optimal transport" makes in flow matching (Pooladian et al. 2023, Tong et al. 2024).
    """
    pixels = pixel_shuffle(noise, 2)
    per_side = SIDE // CELL
    brightness = pixels.reshape(len(noise), 3, per_side, CELL, per_side, CELL).sum(dim=(1, 3, 5)).flatten(1)
    return brightness.argsort(dim=1, descending=True).tolist()
