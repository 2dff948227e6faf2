"""The text-to-image pipeline of the inputs, in diffusers alone: latents instead of pictures, for its decoder is the toolkit's own."""

import torch
from diffusers import StableDiffusionPipeline


def load_pipeline(inputs):
    """Returns the pipeline without a decoder."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        inputs["image_model"], vae=None, safety_checker=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, inputs, prompt):
    """Draws one picture from the noise of the inputs."""
    pipeline(
        prompt,
        latents=torch.tensor(inputs["noise"]),
        num_inference_steps=inputs["steps"],
        guidance_scale=inputs["guidance"],
        output_type="latent",
    )


def mean_by_size(maps):
    """The mean of [position, pixel] maps of one size, the largest size first, as one list."""
    by_size = {}
    for one in maps:
        by_size.setdefault(one.shape[-1], []).append(one.float())
    means = [torch.stack(by_size[size]).mean(dim=0) for size in sorted(by_size, reverse=True)]
    return torch.cat([mean.flatten() for mean in means]).tolist()
