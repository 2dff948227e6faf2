"""Sana: a language model's last states, read by cross-attention of a transformer with linear attention over the picture."""

import math
from typing import Any, ClassVar

import torch

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family
from interp.models.image.text_encoder import TextEncoder


class Sana(Family):
    """Sana: Gemma reads an instruction before every text; its sequence has the beginning and the last 299 positions.

    Padding is hidden from Gemma and from the denoiser; texts are lower-cased. The other branch of guidance has the empty text
    without the instruction.
    """

    name = "sana"
    pipeline_class = "SanaPipeline"
    joint = False
    positions: ClassVar[int] = 300

    @property
    def instruction(self) -> list[str]:
        """What the pipeline's own call has before a text, in lines."""
        return self.call_default("complex_human_instruction")

    def encoders(self) -> list[TextEncoder]:
        """Returns Gemma."""
        tokenizer, module, before = self.pipeline.tokenizer, self.pipeline.text_encoder, "\n".join(self.instruction)
        tokenizer.padding_side = "right"  # as the pipeline does before it reads
        n, n_read = self.positions, len(tokenizer.encode(before)) + self.positions - 2
        kept = (0, *range(n_read - n + 1, n_read))
        return [TextEncoder("gemma", Block("gemma", 0, n), tokenizer, module, n_read, before=before, kept=kept)]

    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed, and which positions are padding."""
        return self._encoded(text, self.instruction)

    def negative(self, text: str) -> Encoded:
        """Returns a negative prompt, before which there is no instruction."""
        return self._encoded(text, None)

    def unconditional(self, empty: Encoded) -> Encoded:
        """Returns the encoded empty text without the instruction."""
        return self.negative("")

    @torch.no_grad()
    def _encoded(self, text: str, instruction: list[str] | None) -> Encoded:
        sequence, mask, _, _ = self.pipeline.encode_prompt(
            text,
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.positions,
            complex_human_instruction=instruction,
        )
        return Encoded(sequence, shown=mask.bool())

    def converted(self, text: str, tokenizer: Any) -> str:
        """Returns the text as the pipeline cleans it: in lower case, without blanks around it."""
        return self.pipeline._text_preprocessing(text)[0]

    def call_options(self) -> dict[str, Any]:
        """Returns that pictures have the size that is asked for, not the nearest that the model was trained on."""
        return {"use_resolution_binning": False}

    @property
    def latents_dtype(self) -> torch.dtype:
        """Single precision, which the pipeline draws in."""
        return torch.float32

    def size_multiple(self) -> int:
        """Returns what the denoiser's patches make of what the pipeline itself insists on."""
        return math.lcm(32, super().size_multiple())

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size
