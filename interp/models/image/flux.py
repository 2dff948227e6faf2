"""FLUX.1, Chroma and FLUX.2, and what pipelines share that pack two by two latents into one position of the denoiser."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family, around_text
from interp.models.image.text_encoder import TextEncoder


class Packed(Family):
    """Base of the families whose pipelines pack latents."""

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


class Flux(Packed):
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
        return Encoded(sequence, pooled)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns None."""
        return None

    def defaults(self) -> tuple[int, float]:
        """Returns those of the pipeline's own call, and 4 steps without guidance for schnell."""
        return (4, 0.0) if self.distilled else super().defaults()


class Chroma(Packed):
    """Chroma: T5's sequence of 512 positions, read by joint attention.

    Padding is hidden from T5. The pipeline's mask over it is added to the attention scores as it is, 1 for the text and the first
    padding and 0 for the rest, so padding is seen e times less and is not hidden.
    """

    name = "chroma"
    pipeline_class = "ChromaPipeline"
    turns = True
    by_processors = False

    @property
    def positions(self) -> int:
        """The length of every sequence."""
        return self.call_default("max_sequence_length")

    def encoders(self) -> list[TextEncoder]:
        """Returns T5."""
        n = self.positions
        return [TextEncoder("t5", Block("t5", 0, n), self.pipeline.tokenizer, self.pipeline.text_encoder, n)]

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed, and where the mask is 1."""
        sequence, _, mask, *_ = self.pipeline.encode_prompt(text, device=self.device, do_classifier_free_guidance=False)
        return Encoded(sequence, shown=mask.bool())

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors and their mask, in numbers, as the pipeline makes it."""
        assert text.shown is not None
        return {f"{branch}_embeds": text.sequence, f"{branch}_attention_mask": text.shown.to(text.sequence.dtype)}


class Flux2(Packed):
    """FLUX.2 dev: Mistral reads a system message before every text. Guidance is an input, not a second branch.

    Padding is hidden from Mistral and not from the denoiser; where it stands left of the text, words are counted from the end.
    """

    name = "flux2"
    pipeline_class = "Flux2Pipeline"
    by_processors = False
    encoder = "mistral"

    @property
    def positions(self) -> int:
        """The length of every sequence."""
        return self.call_default("max_sequence_length")

    def rendered(self, text: str) -> str:
        """Returns the text as the encoder's chat template writes it."""
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        messages = format_input([text], self.pipeline.system_message)
        return self.pipeline.tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)[0]

    def encoders(self) -> list[TextEncoder]:
        """Returns one encoder for each layer that is taken: they are one model, and share positions."""
        tokenizer, module = self.pipeline.tokenizer, self.pipeline.text_encoder
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor that reads pictures too
        before, after = around_text(self.rendered)
        width, n = module.config.get_text_config().hidden_size, self.positions
        encoders = []
        for place, layer in enumerate(self.call_default("text_encoder_out_layers")):
            encoder = TextEncoder(
                f"{self.encoder}_{layer}", Block(self.encoder, 0, n), tokenizer, module, n, channel=place * width,
                before=before, after=after, padding=tokenizer.padding_side, special=False, normed=False,
            )  # fmt: skip
            unused = len(encoder.layers) - layer
            encoders.append(replace(encoder, layers_unused=unused, normed=unused == 0))
        return encoders

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the states of the layers that are taken, not normed, one after the other on the channels."""
        return Encoded(self.pipeline.encode_prompt(text, self.device)[0])

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns None."""
        return None

    def latents(
        self, noise: Float[Tensor, "row channel height width"]
    ) -> Float[Tensor, "row patch half_height half_width"]:
        """Returns the noise with every two by two latents in the channels of one."""
        return self.pipeline._patchify_latents(noise)


class Flux2Klein(Flux2):
    """FLUX.2 klein: Qwen3 reads the text alone; two branches of guidance, unless the model is distilled."""

    name = "flux2_klein"
    pipeline_class = "Flux2KleinPipeline"
    turns = True
    encoder = "qwen"

    def rendered(self, text: str) -> str:
        """Returns the text as the encoder's chat template writes it, without thinking."""
        messages, options = [{"role": "user", "content": text}], {"tokenize": False, "enable_thinking": False}
        return self.pipeline.tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns the empty text; None where the model is distilled."""
        return None if self.pipeline.config.is_distilled else empty

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors."""
        return {f"{branch}_embeds": text.sequence}
