"""Text-to-image models in half precision: the noise and the pictures of every family are those of its own pipeline."""

import copy
import logging
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from interp.models.image.model import ImageModel
from tests.pictures import FAMILIES, TEXT, draw, each, noise, pixels
from tests.tiny_pipelines import tiny_image, tiny_pipeline


@cache
def halved(family: str, dtype: torch.dtype) -> ImageModel:
    """The tiny model in half precision, as load_image has it: every part."""
    pipeline: Any = copy.copy(tiny_pipeline(family))
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = type(pipeline)(
            **{
                **pipeline.components,
                **{name: copy.deepcopy(part).to(dtype) for name, part in parts.items()},
                **_others(pipeline),
            }
        )
    made.set_progress_bar_config(disable=True)
    known = tiny_image(family)
    return ImageModel(type(known._family)(made), known.identity, {"steps": 3, "guidance": 2.0})


def _others(pipeline: Any) -> dict[str, Any]:
    """What a pipeline was made with beside its parts."""
    return {"requires_safety_checker": False} if "requires_safety_checker" in pipeline.config else {}


class MadeError(Exception):
    """The pipeline has made its own noise."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("family", each(FAMILIES))
def test_noise_has_the_precision_of_the_pipelines_own_and_the_picture_is_that_of_the_prompt(family, dtype, monkeypatch):
    model = halved(family, dtype)
    own = model.pipeline.prepare_latents

    def note(*inputs: Any, **options: Any) -> Any:
        made = own(*inputs, **options)
        raise MadeError((made[0] if isinstance(made, tuple) else made).dtype)

    options = {**pixels(model), **model._family.call_options(), **model._family.guidance_options(2.0)}
    call = dict(prompt=TEXT, num_inference_steps=3, output_type="np", **options)
    if family in ("sd3", "flux"):
        call["max_sequence_length"] = 256
    if family == "qwen_image":
        call["negative_prompt"] = " "
    with monkeypatch.context() as patched:
        patched.setattr(model.pipeline, "prepare_latents", note)
        with pytest.raises(MadeError) as caught:
            model.pipeline(**call)
    (precision,) = caught.value.args
    latents = model._family.latents(noise(model, 3)).to(precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model.pipeline(**call, latents=latents).images
    assert np.array_equal(draw(model, model.encode([TEXT])), wanted.astype(np.float32))


def test_a_decoder_that_is_brought_to_float32_for_a_picture_says_nothing():
    """As SDXL's is in float16; warnings are errors here."""
    model, said = halved("sdxl", torch.float16), []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    try:
        draw(model, model.encode([TEXT]))
    finally:
        logger.removeHandler(handler)
    assert not said
    assert model.pipeline.vae.dtype == torch.float16
