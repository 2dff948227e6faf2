"""Z-Image: a language model's states before the last layer, in one stream with the picture."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family, Layout, around_text
from interp.models.image.text_encoder import TextEncoder

_MULTIPLE = 32
"""Text and picture are each filled up with learned padding to a multiple of so many positions."""


class ZImage(Family):
    """Z-Image: Qwen3 reads the text in a chat, whose template is part of the sequence; there is no padding.

    What is hidden is taken out of the sequence, so what stands behind it moves up. There is guidance wherever it is above 0.
    """

    name = "z_image"
    pipeline_class = "ZImagePipeline"
    by_processors = False
    closes_up = True
    unguided = 0.0
    positions: ClassVar[int] = 512

    def rendered(self, text: str) -> str:
        """Returns the text as the encoder's chat template writes it."""
        messages, options = [{"role": "user", "content": text}], {"tokenize": False, "enable_thinking": True}
        return self.pipeline.tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)

    def encoders(self) -> list[TextEncoder]:
        """Returns Qwen3."""
        n, (before, after) = self.positions, around_text(self.rendered)
        return [
            TextEncoder(
                "qwen", Block("qwen", 0, n), self.pipeline.tokenizer, self.pipeline.text_encoder, n, layers_unused=1,
                normed=False, before=before, after=after, zeroed=True,
            )
        ]  # fmt: skip

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the states before the last layer, not normed, of the template and the text."""
        (states,), _ = self.pipeline.encode_prompt(
            text, self.device, do_classifier_free_guidance=False, max_sequence_length=self.positions
        )
        return Encoded(states[None]).filled(self.positions)

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns each row's vectors that are shown, in a list."""
        return {f"{branch}_embeds": [row[places] for row, places in zip(text.sequence, self.places(text), strict=True)]}

    # ------------------------------------------------------------------ inside the denoiser

    def layout(self, text: Encoded, n_pixels: int) -> list[Layout]:
        """Returns where text and picture stand: the picture first, filled up, then the text."""
        start = n_pixels + -n_pixels % _MULTIPLE
        return [Layout(torch.arange(n_pixels), torch.arange(start, start + len(row)), row) for row in self.places(text)]

    def own_rows(self, call: int, n_called: int, n_rows: int, *, guided: bool) -> range:
        """Returns the first rows: the other branch is behind them."""
        return range(n_rows)

    def attention_modules(self) -> list[Any]:
        """Returns the attention of the blocks that text and picture share."""
        return [block.attention for block in self.denoiser.layers]

    def blocks(self) -> list[Any]:
        """Returns the blocks that refine the text alone, then those that text and picture share."""
        return [*self.denoiser.context_refiner, *self.denoiser.layers]

    def edited(self, inputs: Any, options: dict[str, Any], change: Callable[..., Tensor]) -> tuple[Any, Any]:
        """Returns the arguments of a block with its text vectors changed."""
        stream, *others = inputs
        return (change(stream, alone=len(others) == 2), *others), options  # blocks of the text alone know no time

    # ------------------------------------------------------------------ pictures

    def size(self) -> tuple[int, int]:
        """Returns the pipeline's own."""
        return 1024, 1024

    def patch(self) -> int:
        """Returns 2: the denoiser's own patches."""
        return 2

    @property
    def latents_dtype(self) -> torch.dtype:
        """Single precision, which the pipeline insists on."""
        return torch.float32
