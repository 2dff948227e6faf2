"""CogView4: a language model's states before the last layer, read by joint attention; texts are filled up to a multiple of 16."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family
from interp.models.image.text_encoder import TextEncoder


class CogView4(Family):
    """CogView4: GLM reads the text behind padding, which makes it a multiple of 16; the denoiser sees that padding.

    The denoiser takes no mask, so what is hidden is taken out of the sequence, and texts of other lengths are drawn in other
    batches. Text positions have no rotary embedding, so nothing depends on what moves up.
    """

    name = "cogview4"
    pipeline_class = "CogView4Pipeline"
    turns = True
    by_processors = False
    closes_up = True
    same_length = True
    positions: ClassVar[int] = 1024

    def encoders(self) -> list[TextEncoder]:
        """Returns GLM."""
        n, tokenizer, module = self.positions, self.pipeline.tokenizer, self.pipeline.text_encoder
        return [
            TextEncoder(
                "glm", Block("glm", 0, n), tokenizer, module, n, layers_unused=1, normed=False, kept=tuple(range(n)),
                padding="left16",
            )
        ]  # fmt: skip

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the states before the last layer, not normed, of padding and text."""
        sequence, _ = self.pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.positions
        )
        return Encoded(sequence).filled(self.positions)

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors that are shown, as many in every row."""
        rows = [row[places] for row, places in zip(text.sequence, self.places(text), strict=True)]
        return {f"{branch}_embeds": torch.stack(rows)}

    def attention_modules(self) -> list[Any]:
        """Returns the blocks' attention."""
        return [block.attn1 for block in self.blocks()]

    def edited(self, inputs: Any, options: dict[str, Any], change: Callable[..., Tensor]) -> tuple[Any, Any]:
        """Returns the arguments of a block with its text vectors changed."""
        image, text, *others = inputs
        return (image, change(text), *others), options

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return max(16, super().size_multiple())

    def sample_size(self) -> int:
        """Returns the pipeline's own."""
        return self.denoiser.config.sample_size

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size

    @property
    def latents_dtype(self) -> torch.dtype:
        """Single precision, which the pipeline draws in."""
        return torch.float32
