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
CROSS = ["sd", "sd_t5", "sdxl", "pixart_sigma"]
TEXT = "a red triangle and a blue circle"
OTHER = "a blue circle"
PIXELS = dict(height=16, width=16)


def noise(model: ImageModel, *seeds: int) -> Tensor:
    return model.noise(seeds, **PIXELS)


def draw(model: ImageModel, conditioning: Conditioning, *seeds: int, **options: Any) -> np.ndarray:
    return model.generate(conditioning, noise(model, *(seeds or (3,))), **options)


def furthest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())
