"""FLUX.2: states of three layers of a language model side by side on the channels, read by joint attention."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, around_text
from interp.models.image.packed import Packed
from interp.models.image.text_encoder import TextEncoder


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
