"""What a family of text-to-image pipelines says of itself: how a text is encoded, and the arguments of a call.

Everything goes through the pipelines' own `encode_prompt` and `__call__` of unmodified diffusers.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.image.conditioning import Block


class Encoded(NamedTuple):
    """One text as its encoders leave it; `shown` is True where the denoiser may look, where the pipeline hides padding from it."""

    sequence: Float[Tensor, "1 position channel"]
    pooled: Float[Tensor, "1 pooled_channel"] | None = None
    shown: Bool[Tensor, "1 position"] | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """Returns the parts that there are, each changed."""
        pooled = None if self.pooled is None else change(self.pooled)
        return Encoded(change(self.sequence), pooled, None if self.shown is None else change(self.shown))


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a pipeline and the part of the sequence it fills: positions from `start`, channels from `channel`.

    `n_positions` are those that it reads. `block` is None for an encoder that only makes the pooled vector. `layers_unused`
    are those after the one whose states the pipeline takes; `normed` says whether the final norm stands between that layer and
    the conditioning.
    """

    name: str
    block: Block | None
    tokenizer: Any
    module: Any
    n_positions: int
    channel: int = 0
    layers_unused: int = 0
    normed: bool = True
    before: str = ""
    """What the pipeline writes before every text."""
    kept: tuple[int, ...] | None = None
    """Which of the positions that it reads stand in the sequence; None where all do."""

    @property
    def layers(self) -> Any:
        """The layers, in order."""
        if self._kind == "t5":
            return self.module.encoder.block
        return self.module.layers if self._is_decoder else self._clip.encoder.layers

    @property
    def final_norm(self) -> Any:
        """The norm after the last layer."""
        if self._kind == "t5":
            return self.module.encoder.final_layer_norm
        return self.module.norm if self._is_decoder else self._clip.final_layer_norm

    @property
    def _kind(self) -> str:
        return self.module.config.model_type

    @property
    def _is_decoder(self) -> bool:
        """Whether it is a language model; the others are T5's encoder and CLIP's."""
        return hasattr(self.module, "layers")

    @property
    def _clip(self) -> Any:
        return getattr(self.module, "text_model", self.module)


class Family:
    """Base of the families: `pipeline` is a loaded diffusers pipeline."""

    name: ClassVar[str]
    pipeline_class: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"
    joint: ClassVar[bool] = True
    """Whether text vectors change from block to block of the denoiser, beside the image."""

    flow: ClassVar[bool] = True
    """Whether the denoiser was trained to say a velocity, so that samplers of flows fit it; the others say noise."""

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

    def call_options(self) -> dict[str, Any]:
        """Returns further arguments of the pipeline's call, without which it would draw something else."""
        return {}

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns the unconditional branch of guidance, given the encoded empty text; None if there is no such branch."""
        return empty

    def negative(self, text: str) -> Encoded:
        """Returns a negative prompt as the pipeline encodes it."""
        return self.encode(text)

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
