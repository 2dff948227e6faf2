"""Lumina 2: a language model's states before the last layer, in one stream with the picture."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family, Layout
from interp.models.image.text_encoder import TextEncoder


class Lumina2(Family):
    """Lumina 2: Gemma reads a system prompt before every text, which is part of the sequence; padding is hidden.

    What is hidden is taken out of the sequence, so what stands behind it moves up. The other branch of guidance has the empty
    text without the system prompt.
    """

    name = "lumina2"
    pipeline_class = "Lumina2Pipeline"
    turns = True
    by_processors = False
    closes_up = True
    positions: ClassVar[int] = 256

    def encoders(self) -> list[TextEncoder]:
        """Returns Gemma."""
        n, before = self.positions, f"{self.pipeline.system_prompt} <Prompt Start> "
        tokenizer, module = self.pipeline.tokenizer, self.pipeline.text_encoder
        return [
            TextEncoder(
                "gemma", Block("gemma", 0, n), tokenizer, module, n, layers_unused=1, normed=False, before=before
            )
        ]

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the states before the last layer, not normed, and which positions are padding."""
        sequence, mask, *_ = self.pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.positions
        )
        return Encoded(sequence, shown=mask.bool())

    @torch.no_grad()
    def negative(self, text: str) -> Encoded:
        """Returns a negative prompt, before which there is no system prompt."""
        sequence, mask = self.pipeline._get_gemma_prompt_embeds(text, self.device, self.positions)
        return Encoded(sequence, shown=mask.bool())

    def unconditional(self, empty: Encoded) -> Encoded:
        """Returns the encoded empty text without the system prompt."""
        return self.negative("")

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the vectors, those that are shown first, and how many these are, as a mask."""
        assert text.shown is not None
        order = (~text.shown).long().sort(dim=1, stable=True).indices
        sequence = text.sequence.gather(1, order[..., None].expand_as(text.sequence))
        return {f"{branch}_embeds": sequence, f"{branch}_attention_mask": text.shown.gather(1, order).long()}

    # ------------------------------------------------------------------ inside the denoiser

    def layout(self, text: Encoded, n_pixels: int) -> list[Layout]:
        """Returns where text and picture stand: a row's text, then its picture."""
        places = self.places(text)
        return [Layout(torch.arange(len(row), len(row) + n_pixels), torch.arange(len(row)), row) for row in places]

    def attention_modules(self) -> list[Any]:
        """Returns the attention of the blocks that text and picture share."""
        return [block.attn for block in self.denoiser.layers]

    def blocks(self) -> list[Any]:
        """Returns the blocks that refine the text alone, then those that text and picture share."""
        return [*self.denoiser.context_refiner, *self.denoiser.layers]

    def edited(self, inputs: Any, options: dict[str, Any], change: Callable[..., Tensor]) -> tuple[Any, Any]:
        """Returns the arguments of a block with its text vectors changed."""
        stream, *others = inputs
        return (change(stream), *others), options

    # ------------------------------------------------------------------ pictures

    def size_multiple(self) -> int:
        """Returns what the pipeline itself insists on."""
        return 2 * self.pipeline.vae_scale_factor

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size
