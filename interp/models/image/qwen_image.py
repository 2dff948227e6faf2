"""Qwen-Image: a language model's last states behind an instruction, read by joint attention."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded
from interp.models.image.flux import Packed
from interp.models.image.text_encoder import TextEncoder


class QwenImage(Packed):
    """Qwen-Image: Qwen2.5-VL reads an instruction around every text; its sequence begins with the text, and has no padding.

    The other branch of guidance has a blank: without a negative prompt the pipeline has no such branch.
    """

    name = "qwen_image"
    pipeline_class = "QwenImagePipeline"
    turns = True
    by_processors = False
    positions: ClassVar[int] = 1024

    def encoders(self) -> list[TextEncoder]:
        """Returns Qwen2.5-VL."""
        before, after = self.pipeline.prompt_template_encode.split("{}")
        n, first = self.positions, self.pipeline.prompt_template_encode_start_idx
        return [
            TextEncoder(
                "qwen", Block("qwen", 0, n), self.pipeline.tokenizer, self.pipeline.text_encoder, first + n, before=before,
                kept=tuple(range(first, first + n)), after=after, padding="none",
            )
        ]  # fmt: skip

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed, from the text on, up to the model's turn."""
        sequence, _ = self.pipeline.encode_prompt(text, self.device, max_sequence_length=self.positions)
        return Encoded(sequence).filled(self.positions)

    def unconditional(self, empty: Encoded) -> Encoded:
        """Returns an encoded blank, the negative prompt that the model's authors put in place of none."""
        return self.encode(" ")

    def call_options(self) -> dict[str, Any]:
        """Returns that texts may be as long as the pipeline takes them."""
        return {"max_sequence_length": self.positions}

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors up to the last one that is shown, and which are shown."""
        text = text.trimmed()
        assert text.shown is not None
        return {f"{branch}_embeds": text.sequence, f"{branch}_embeds_mask": text.shown.long()}

    def guidance_options(self, guidance: float) -> dict[str, Any]:
        """Returns guidance under its name here."""
        return {"true_cfg_scale": guidance}

    def places(self, text: Encoded) -> list[Tensor]:
        """Returns the positions up to the last one that any row shows."""
        return super().places(text.trimmed())
