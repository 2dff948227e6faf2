"""Differences between the families of text-to-image pipelines: how a text is encoded, and the arguments of a call.

Everything goes through the pipelines' own `encode_prompt` and `__call__` of unmodified diffusers.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.image.conditioning import Block

Encoded = tuple[Float[Tensor, "1 position channel"], Float[Tensor, "1 pooled_channel"] | None]


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a pipeline and the part of the sequence it fills: positions from `start`, channels from `channel`.

    `block` is None for an encoder that only makes the pooled vector. `layers_unused` are those after the one whose states
    the pipeline takes; `normed` says whether the final norm stands between that layer and the conditioning.
    """

    name: str
    block: Block | None
    tokenizer: Any
    module: Any
    n_positions: int
    channel: int = 0
    layers_unused: int = 0
    normed: bool = True

    @property
    def trunk(self) -> Any:
        """The module that holds the layers and the final norm."""
        return self.module.encoder if self.is_t5 else getattr(self.module, "text_model", self.module)

    @property
    def layers(self) -> Any:
        """The layers, in order."""
        return self.trunk.block if self.is_t5 else self.trunk.encoder.layers

    @property
    def is_t5(self) -> bool:
        """Whether it is T5's encoder; the others are CLIP's."""
        return self.module.config.model_type == "t5"


def clip_pair(pipeline: Any, block: Block) -> list[TextEncoder]:
    """Returns CLIP-L and bigG of SDXL and SD3: states before the last layer, one after the other on the channels."""
    first, second = pipeline.text_encoder, pipeline.text_encoder_2
    n = block.stop - block.start
    return [
        TextEncoder("clip_l", block, pipeline.tokenizer, first, n, layers_unused=1, normed=False),
        TextEncoder(
            "clip_g", block, pipeline.tokenizer_2, second, n, first.config.hidden_size, layers_unused=1, normed=False
        ),
    ]


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

    def converted(self, text: str, tokenizer: Any) -> str:
        """Returns the text as the pipeline passes it to a tokenizer, with textual-inversion placeholders expanded."""
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)  # pipelines that can load an inversion have it
        return text if convert is None else convert(text, tokenizer)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns the unconditional branch of guidance, given the encoded empty text; None if there is no such branch."""
        return empty

    def size(self) -> tuple[int, int]:
        """Returns the default height and width, in pixels. Raises ArgumentError where the denoiser names none."""
        sample, scale = self.sample_size(), self.pipeline.vae_scale_factor
        if sample is None:
            raise ArgumentError(
                f"The denoiser of this {self.pipeline_class} names no sample_size: say which size with --height and --width."
            )
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * scale, width * scale

    def sample_size(self) -> int | Sequence[int] | None:
        """Returns the side of the latents that the denoiser was trained on, or their height and width; None if it does not say."""
        return self.denoiser.config.sample_size

    def size_multiple(self) -> int:
        """Returns the number of pixels that height and width must be multiples of."""
        return self.patch() * self.pipeline.vae_scale_factor

    def patch(self) -> int:
        """Returns the side, in latents, of the square that one image position of the denoiser covers."""
        return 1

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
    """Stable Diffusion 1 and 2: one encoder, CLIP's (or T5's, where a folder has that), read by cross-attention."""

    name = "sd"
    pipeline_class = "StableDiffusionPipeline"
    denoiser_name = "unet"
    joint = False

    def encoders(self) -> list[TextEncoder]:
        """Returns the one there is, named by its kind."""
        n, module = self.pipeline.tokenizer.model_max_length, self.pipeline.text_encoder
        name = "t5" if module.config.model_type == "t5" else "clip"
        return [TextEncoder(name, Block(name, 0, n), self.pipeline.tokenizer, module, n)]

    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed."""
        sequence, _ = self.pipeline.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)
        return sequence, None

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return math.lcm(8, self.pipeline.vae_scale_factor)


class StableDiffusionXL(Family):
    """SDXL: two CLIP encoders side by side, layers before the last, read by cross-attention; the second's pooled vector."""

    name = "sdxl"
    pipeline_class = "StableDiffusionXLPipeline"
    denoiser_name = "unet"
    joint = False

    def encoders(self) -> list[TextEncoder]:
        """Returns CLIP-L and bigG, which share positions."""
        return clip_pair(self.pipeline, Block("clip", 0, self.pipeline.tokenizer.model_max_length))

    def encode(self, text: str) -> Encoded:
        """Returns the states before the last layer, not normed, and the second encoder's projected end of text."""
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            text, device=self.device, do_classifier_free_guidance=False
        )
        return sequence, pooled

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return math.lcm(8, self.pipeline.vae_scale_factor)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns zeros where the pipeline says so (SDXL's own way), otherwise the empty text."""
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        return torch.zeros_like(empty[0]), None if empty[1] is None else torch.zeros_like(empty[1])


class StableDiffusion3(Family):
    """SD3: the CLIP pair's positions, then T5's, read by joint attention; both CLIP encoders' pooled vectors.

    A pipeline without its T5 has zeros in those positions and no block there.
    """

    name = "sd3"
    pipeline_class = "StableDiffusion3Pipeline"
    t5_positions: ClassVar[int] = 256

    def encoders(self) -> list[TextEncoder]:
        """Returns the CLIP pair, which shares positions, and T5."""
        n_clip = self.pipeline.tokenizer_max_length
        encoders = clip_pair(self.pipeline, Block("clip", 0, n_clip))
        if self.pipeline.text_encoder_3 is not None:
            block = Block("t5", n_clip, n_clip + self.t5_positions)
            tokenizer, module = self.pipeline.tokenizer_3, self.pipeline.text_encoder_3
            encoders.append(TextEncoder("t5", block, tokenizer, module, self.t5_positions))
        return encoders

    def encode(self, text: str) -> Encoded:
        """Returns CLIP states before the last layer, padded with zeros to T5's width, then T5's; both pooled vectors."""
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            text,
            prompt_2=text,
            prompt_3=text,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.t5_positions,
        )
        return sequence, pooled

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.pipeline.patch_size


class Flux(Family):
    """FLUX.1: T5's sequence, read by joint attention, and CLIP's pooled vector. Guidance is an input, not a second branch."""

    name = "flux"
    pipeline_class = "FluxPipeline"

    @property
    def distilled(self) -> bool:
        """Whether it is schnell, which takes no guidance."""
        return not self.denoiser.config.guidance_embeds

    @property
    def t5_positions(self) -> int:
        """What schnell and dev were trained for."""
        return 256 if self.distilled else 512

    def encoders(self) -> list[TextEncoder]:
        """Returns T5, and CLIP, which fills no position."""
        pipeline, n_t5, n_clip = self.pipeline, self.t5_positions, self.pipeline.tokenizer_max_length
        return [
            TextEncoder("t5", Block("t5", 0, n_t5), pipeline.tokenizer_2, pipeline.text_encoder_2, n_t5),
            TextEncoder("clip", None, pipeline.tokenizer, pipeline.text_encoder, n_clip),
        ]

    def encode(self, text: str) -> Encoded:
        """Returns T5's states and CLIP's end of text."""
        sequence, pooled, _ = self.pipeline.encode_prompt(
            text, prompt_2=text, device=self.device, max_sequence_length=self.t5_positions
        )
        return sequence, pooled

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns None."""
        return None

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

    def defaults(self) -> tuple[int, float]:
        """Returns those of the pipeline's own call, and 4 steps without guidance for schnell."""
        return (4, 0.0) if self.distilled else super().defaults()


FAMILIES: tuple[type[Family], ...] = (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux)


def family_of(name: str, pipeline_class: str) -> type[Family]:
    """Returns the family of a pipeline class. Raises ArgumentError, with those that are supported, for any other."""
    for family in FAMILIES:
        if family.pipeline_class == pipeline_class:
            return family
    supported = ", ".join(family.pipeline_class for family in FAMILIES)
    raise ArgumentError(f"{name} is a {pipeline_class}, which is not supported: choose a model saved as {supported}.")
