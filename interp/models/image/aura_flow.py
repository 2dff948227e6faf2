"""AuraFlow: a T5-like encoder's sequence behind learned registers, read by joint attention."""

from typing import Any

import torch

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family, Layout
from interp.models.image.text_encoder import TextEncoder


class AuraFlow(Family):
    """AuraFlow: 256 positions, with zeros for padding, which is hidden from the encoder and not from the denoiser.

    In the denoiser a few learned registers stand before the text; no map and no edit is of them.
    """

    name = "aura_flow"
    pipeline_class = "AuraFlowPipeline"
    by_processors = False

    @property
    def positions(self) -> int:
        """The length of every sequence."""
        return self.call_default("max_sequence_length")

    def encoders(self) -> list[TextEncoder]:
        """Returns the one there is."""
        n, tokenizer, module = self.positions, self.pipeline.tokenizer, self.pipeline.text_encoder
        return [TextEncoder("t5", Block("t5", 0, n), tokenizer, module, n, zeroed=True)]

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed, and zeros for padding."""
        sequence, *_ = self.pipeline.encode_prompt(text, device=self.device, do_classifier_free_guidance=False)
        return Encoded(sequence)

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors, and a mask that the pipeline asks for and does not use."""
        return {f"{branch}_embeds": text.sequence, f"{branch}_attention_mask": torch.ones_like(text.sequence[..., 0])}

    def layout(self, text: Encoded, n_pixels: int) -> list[Layout]:
        """Returns where text and picture stand: both behind the registers."""
        n = self.denoiser.register_tokens.shape[1]
        return [Layout(row.image + n, row.text + n, row.places) for row in super().layout(text, n_pixels)]

    def blocks(self) -> list[Any]:
        """Returns the blocks of two streams, then those of one."""
        return [*self.denoiser.joint_transformer_blocks, *self.denoiser.single_transformer_blocks]

    def size(self) -> tuple[int, int]:
        """Returns the pipeline's own."""
        return self.call_default("height"), self.call_default("width")

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size
