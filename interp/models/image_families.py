"""What differs between the families of text-to-image pipelines: how a text becomes a conditioning, and what a call takes.

Everything goes through the pipelines' own `encode_prompt` and `__call__` of unmodified diffusers.
"""

import inspect
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError, RunError
from interp.models.conditioning import Block

Encoded = tuple[Float[Tensor, "1 position channel"], Float[Tensor, "1 pooled_channel"] | None]


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a pipeline and the part of the sequence it fills: positions from `start`, channels from `channel`.

    `block` is None for an encoder that only makes the pooled vector. `layer_of_output` counts back from the last layer;
    `normed` says whether the final norm stands between that layer and the conditioning.
    """

    name: str
    block: Block | None
    tokenizer: Any
    module: Any
    n_positions: int
    channel: int = 0
    layers_unused: int = 0
    normed: bool = True


class Family:
    """Base of the families: `pipeline` is a loaded diffusers pipeline."""

    name: ClassVar[str]
    pipeline_class: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"
    joint: ClassVar[bool] = True
    """Whether text vectors change from block to block of the denoiser, beside the image."""

    def __init__(self, pipeline: Any) -> None:
        """Reads nothing yet."""
        self.pipeline = pipeline

    @property
    def denoiser(self) -> Any:
        """The module that is called at every step."""
        return getattr(self.pipeline, self.denoiser_name)

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return self.denoiser.device

    def encoders(self) -> list[TextEncoder]:
        """Returns the text encoders, in the order of the sequence."""
        raise NotImplementedError

    def encode(self, text: str) -> Encoded:
        """Returns one text's sequence and pooled vector, from the pipeline's own encode_prompt."""
        raise NotImplementedError

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns what the other branch of guidance has, given the encoded empty text; None where there is no other branch."""
        return empty

    def size(self) -> tuple[int, int]:
        """Returns the default height and width, in pixels."""
        side = self.pipeline.default_sample_size * self.pipeline.vae_scale_factor
        return side, side

    def size_multiple(self) -> int:
        """Returns what height and width must be multiples of, in pixels."""
        return math.lcm(8, self.pipeline.vae_scale_factor)

    def latent_channels(self) -> int:
        """Returns the channels of a latent image."""
        return self.denoiser.config.in_channels

    def latents(self, noise: Float[Tensor, "row channel height width"]) -> Tensor:
        """Returns the noise in the form the pipeline's `latents` argument has."""
        return noise

    def defaults(self) -> tuple[int, float]:
        """Returns steps and guidance: those of the pipeline's own call."""
        call = inspect.signature(self.pipeline.__call__).parameters
        return call["num_inference_steps"].default, float(call["guidance_scale"].default)


class StableDiffusion(Family):
    """Stable Diffusion 1 and 2: one CLIP encoder, read by cross-attention."""

    name = "sd"
    pipeline_class = "StableDiffusionPipeline"
    denoiser_name = "unet"
    joint = False

    def encoders(self) -> list[TextEncoder]:
        """Returns the one there is."""
        n = self.pipeline.tokenizer.model_max_length
        return [TextEncoder("clip", Block("clip", 0, n), self.pipeline.tokenizer, self.pipeline.text_encoder, n)]

    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed."""
        sequence, _ = self.pipeline.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)
        return sequence, None

    def size(self) -> tuple[int, int]:
        """Returns the denoiser's sample size in pixels."""
        sample, scale = self.pipeline.unet.config.sample_size, self.pipeline.vae_scale_factor
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * scale, width * scale


FAMILIES: tuple[type[Family], ...] = (StableDiffusion,)


def family_of(name: str, pipeline_class: str) -> type[Family]:
    """Returns the family of a pipeline class. Raises ArgumentError, with those that are supported, for any other."""
    for family in FAMILIES:
        if family.pipeline_class == pipeline_class:
            return family
    supported = ", ".join(family.pipeline_class for family in FAMILIES)
    raise ArgumentError(f"{name} is a {pipeline_class}, which is not supported: choose a model saved as {supported}.")


def folder_defaults(folder: Path) -> dict[str, Any]:
    """Returns what a folder's generation.json says of `steps` and `guidance`; nothing when there is no such file.

    A pipeline's own call has defaults of its class, which are wrong for a model that was trained for other ones.
    Raises RunError when the file is not an object with these two numbers.
    """
    path = folder / "generation.json"
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {"steps": int(read["steps"]), "guidance": float(read["guidance"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f'{path} cannot be read: it must hold {{"steps": 20, "guidance": 2.5}}.') from error
