"""Stable Diffusion 1 and 2, SDXL and SD3: CLIP encoders, side by side on the channels where there are two, and SD3's T5 behind them."""

import math
from typing import Any, ClassVar

import torch

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family
from interp.models.image.text_encoder import TextEncoder


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


class StableDiffusion(Family):
    """Stable Diffusion 1 and 2: one encoder, CLIP's (or T5's, where a folder has that), read by cross-attention."""

    name = "sd"
    pipeline_class = "StableDiffusionPipeline"
    denoiser_name = "unet"
    joint = False
    flow = False

    def encoders(self) -> list[TextEncoder]:
        """Returns the one there is, named by its kind."""
        n, module = self.pipeline.tokenizer.model_max_length, self.pipeline.text_encoder
        name = "t5" if module.config.model_type == "t5" else "clip"
        return [TextEncoder(name, Block(name, 0, n), self.pipeline.tokenizer, module, n)]

    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed."""
        sequence, _ = self.pipeline.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)
        return Encoded(sequence)

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return math.lcm(8, self.pipeline.vae_scale_factor)


class StableDiffusionXL(Family):
    """SDXL: two CLIP encoders side by side, layers before the last, read by cross-attention; the second's pooled vector."""

    name = "sdxl"
    pipeline_class = "StableDiffusionXLPipeline"
    denoiser_name = "unet"
    joint = False
    flow = False

    def encoders(self) -> list[TextEncoder]:
        """Returns CLIP-L and bigG, which share positions."""
        return clip_pair(self.pipeline, Block("clip", 0, self.pipeline.tokenizer.model_max_length))

    def encode(self, text: str) -> Encoded:
        """Returns the states before the last layer, not normed, and the second encoder's projected end of text."""
        sequence, _, pooled, _ = self.pipeline.encode_prompt(
            text, device=self.device, do_classifier_free_guidance=False
        )
        return Encoded(sequence, pooled)

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return math.lcm(8, self.pipeline.vae_scale_factor)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns zeros where the pipeline says so (SDXL's own way), otherwise the empty text."""
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        return empty.each(torch.zeros_like)


class StableDiffusion3(Family):
    """SD3: the CLIP pair's positions, then T5's, read by joint attention; both CLIP encoders' pooled vectors.

    A pipeline without its T5 has zeros in those positions and no block there.
    """

    name = "sd3"
    pipeline_class = "StableDiffusion3Pipeline"
    may_lack = frozenset({"text_encoder_3", "tokenizer_3"})
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
        return Encoded(sequence, pooled)

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.pipeline.patch_size
