"""What tests of image models draw, with every family, and how far two pictures are apart."""

from typing import Any

import numpy as np
from torch import Tensor

from interp.models.image.conditioning import Conditioning
from interp.models.image.model import ImageModel
from tests.tiny_pipelines import BUILDERS

FAMILIES = [family for family in BUILDERS if family != "pixart_alpha"]
"""PixArt-α is Σ with fewer positions: it is loaded, and drawn with once."""
JOINT = ["sd3", "flux"]
CROSS = ["sd", "sd_t5", "sdxl", "pixart_sigma", "sana"]
HIDDEN = ["pixart_sigma", "sana"]
"""Those whose padding the denoiser does not see."""
TEXT = "a red triangle and a blue circle"
OTHER = "a blue circle"
PIXELS = dict(height=16, width=16)


def pixels(model: ImageModel) -> dict[str, int]:
    """The smallest square that every family can draw: Sana's is larger."""
    return {side: max(least, model._family.size_multiple()) for side, least in PIXELS.items()}


def wide(model: ImageModel) -> dict[str, int]:
    """A picture that is wider than it is high."""
    multiple = model._family.size_multiple()
    return dict(height=16, width=24) if multiple <= 8 else dict(height=multiple, width=2 * multiple)


def noise(model: ImageModel, *seeds: int) -> Tensor:
    return model.noise(seeds, **pixels(model))


def draw(model: ImageModel, conditioning: Conditioning, *seeds: int, **options: Any) -> np.ndarray:
    return model.generate(conditioning, noise(model, *(seeds or (3,))), **options)


def furthest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())
