"""Calling a diffusers pipeline with a conditioning: its arguments, a mask over the text, noise of its own for every row."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from interp.errors import RunError
from interp.models.conditioning import Conditioning
from interp.models.image_families import Encoded, Family


def arguments(
    family: Family, conditioning: Conditioning, empty: Encoded, noise: Tensor, steps: int, guidance: float
) -> dict[str, Any]:
    """Returns the arguments of the pipeline's call, given the encoded empty text for the other branch of guidance."""
    scale, n_rows = family.pipeline.vae_scale_factor, len(conditioning)
    given = {"prompt_embeds": conditioning.sequence, "pooled_prompt_embeds": conditioning.pooled}
    other = family.unconditional(empty)
    if other is not None:
        given["negative_prompt_embeds"] = other[0].expand(n_rows, -1, -1)
        given["negative_pooled_prompt_embeds"] = None if other[1] is None else other[1].expand(n_rows, -1)
    return {
        **{name: text for name, text in given.items() if text is not None},
        "latents": family.latents(noise.to(family.device, family.denoiser.dtype)),
        "height": noise.shape[-2] * scale,
        "width": noise.shape[-1] * scale,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "generator": [generator_of(row) for row in noise],
        "callback_on_step_end": refuse_non_finite,
        "output_type": "np",
    }


def generator_of(noise: Float32[Tensor, "channel latent_height latent_width"]) -> torch.Generator:
    """Returns a generator for what a sampler draws on its way: it depends on a row's first noise, so on no other row."""
    digest = hashlib.sha256(noise.cpu().contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def refuse_non_finite(pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Raises RunError when a step has left latents that are not finite; what the pipeline calls after every step."""
    finite = torch.isfinite(state["latents"]).flatten(1).all(dim=1)
    if not finite.all():
        raise RunError(
            f"The latents of {int((~finite).sum())} of {len(finite)} pictures are not finite after step {step + 1}: try "
            "--dtype float32 or bfloat16, or less guidance."
        )
    return {}


def finite_pictures(pictures: np.ndarray) -> Float32[np.ndarray, "row height width 3"]:
    """Returns the pictures in float32. Raises RunError when the decoder made some that are not finite."""
    if not np.isfinite(pictures).all():
        raise RunError("The pictures that were decoded are not finite: try --dtype float32 or bfloat16.")
    return pictures.astype(np.float32)


@contextmanager
def masking(family: Family, mask: Bool[Tensor, "row position"]) -> Iterator[None]:
    """Hides positions of the text from the denoiser while it lasts; the unconditional half of a guided batch sees all."""

    def add(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        guided = family.pipeline.do_classifier_free_guidance
        whole = torch.cat([torch.ones_like(mask), mask]) if guided else mask
        return inputs, {**options, "encoder_attention_mask": whole}

    handle = family.denoiser.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
