"""HunyuanDiT: BERT's and T5's sequences, one after the other, read by cross-attention."""

import math
from typing import Any

import torch
from torch.nn.functional import pad

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family, Layout
from interp.models.image.text_encoder import TextEncoder


class HunyuanDiT(Family):
    """HunyuanDiT 1.x: 77 positions of BERT and 256 of T5; the narrower one has zeros in the other channels.

    Padding is hidden from both. In the denoiser a learned vector stands in its place, which is seen; and a pooled vector is made
    of all of T5's states, so nothing can be dropped.
    """

    name = "hunyuan_dit"
    pipeline_class = "HunyuanDiTPipeline"
    joint = False
    flow = False
    by_processors = False
    positions = (77, 256)

    def encoders(self) -> list[TextEncoder]:
        """Returns BERT and T5."""
        pipeline, (n_bert, n_t5) = self.pipeline, self.positions
        bert, t5 = Block("bert", 0, n_bert), Block("t5", n_bert, n_bert + n_t5)
        return [
            TextEncoder("bert", bert, pipeline.tokenizer, pipeline.text_encoder, n_bert, normed=False),
            TextEncoder("t5", t5, pipeline.tokenizer_2, pipeline.text_encoder_2, n_t5),
        ]

    @torch.no_grad()
    def encode(self, text: str) -> Encoded:
        """Returns the last layers' states, and which positions are padding."""
        parts = []
        for index, n in enumerate(self.positions):
            sequence, _, mask, _ = self.pipeline.encode_prompt(
                text, self.device, do_classifier_free_guidance=False, max_sequence_length=n, text_encoder_index=index
            )
            parts.append((pad(sequence, (0, max(self._widths) - sequence.shape[-1])), mask.bool()))
        sequences, masks = zip(*parts, strict=True)
        return Encoded(torch.cat(sequences, dim=1), shown=torch.cat(masks, dim=1))

    @property
    def _widths(self) -> tuple[int, int]:
        """Channels of BERT and of T5."""
        config = self.denoiser.config
        return config.cross_attention_dim, config.cross_attention_dim_t5

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns each encoder's vectors and mask."""
        assert text.shown is not None
        n, (bert, t5), masks = self.positions[0], self._widths, text.shown.long()
        return {
            f"{branch}_embeds": text.sequence[:, :n, :bert],
            f"{branch}_embeds_2": text.sequence[:, n:, :t5],
            f"{branch}_attention_mask": masks[:, :n],
            f"{branch}_attention_mask_2": masks[:, n:],
        }

    def call_options(self) -> dict[str, Any]:
        """Returns that pictures have the size that is asked for, not the nearest that the model was trained on."""
        return {"use_resolution_binning": False}

    def layout(self, text: Encoded, n_pixels: int) -> list[Layout]:
        """Returns the picture in the queries, and the text in the keys."""
        return [Layout(torch.arange(n_pixels), row, row) for row in self.places(text)]

    def attention_modules(self) -> list[Any]:
        """Returns the blocks' cross-attention."""
        return [block.attn2 for block in self.denoiser.blocks]

    def size_multiple(self) -> int:
        """Returns what the denoiser's patches make of what the pipeline itself insists on."""
        return math.lcm(8, super().size_multiple())

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size
