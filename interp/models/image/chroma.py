"""Chroma: FLUX.1 without CLIP, with two branches of guidance and a mask over the padding."""

from typing import Any

import torch

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded
from interp.models.image.packed import Packed
from interp.models.image.text_encoder import TextEncoder


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
