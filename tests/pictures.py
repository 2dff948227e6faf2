"""What tests of image models draw, with every family, and how far two pictures are apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from interp.models.image import families
from interp.models.image.conditioning import Conditioning
from interp.models.image.model import ImageModel
from tests.tiny_pipelines import BUILDERS

FAMILIES = [family for family in BUILDERS if family != "pixart_alpha"]
"""PixArt-α is Σ with fewer positions: it is loaded, and drawn with once."""
KINDS = {family: one for family in BUILDERS for one in families.FAMILIES if one.name == family.removesuffix("_t5")}
JOINT = [family for family in FAMILIES if KINDS[family].joint]
CROSS = [family for family in FAMILIES if not KINDS[family].joint]
DROPPING = [*(one for one in CROSS if one != "hunyuan_dit"), "qwen_image", "z_image", "lumina2", "cogview4"]
"""Those whose denoiser takes a mask over the text."""
HIDDEN = ["pixart_sigma", "sana", "qwen_image", "z_image", "lumina2"]
"""Those whose padding the denoiser does not see."""
TURNS = [family for family in FAMILIES if KINDS[family].turns]
"""Those whose branches of guidance are two calls of the denoiser."""
GUIDED = [family for family in FAMILIES if family not in ("flux", "flux2")]
"""Those with a second branch of guidance."""
LATER = BUILDERS.keys() - {"sd", "sd_t5", "sdxl", "sd3", "flux", "pixart_sigma", "sana", "qwen_image"}
"""Those that only some tests draw with every time; the others do so in `make test-all`."""
TEXT = "a red triangle and a blue circle"
OTHER = "a blue circle"
ALIKE = "a blue triangle and a red circle"
"""Another text of as many tokens."""
PIXELS = dict(height=16, width=16)


def each(families: Sequence[str]) -> list[Any]:
    """Returns the families as cases of a test, `LATER` ones slow."""
    return [pytest.param(family, marks=pytest.mark.slow) if family in LATER else family for family in families]


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


def as_prompt(model: ImageModel, guidance: float, **texts: Any) -> Any:
    """What the pipeline itself draws, from the noise of seed 3, with its own words for what `draw` is given."""
    own: dict[str, dict[str, Any]] = {"qwen_image": {"negative_prompt": " "}}
    options = own.get(model.family, {"max_sequence_length": 256} if model.family in ("sd3", "flux") else {})
    return model.pipeline(
        **{"prompt": TEXT, **options, **texts},
        latents=model._family.latents(noise(model, 3)),
        num_inference_steps=3,
        output_type="np",
        **pixels(model),
        **model._family.call_options(),
        **model._family.guidance_options(guidance),
    ).images


def furthest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())
