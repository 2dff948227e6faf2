"""PixArt-α and PixArt-Σ: T5 alone, read by cross-attention of a transformer that sees no padding."""

import math
from typing import Any, ClassVar

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded, Family
from interp.models.image.text_encoder import TextEncoder


class PixArtSigma(Family):
    """PixArt-Σ: T5's sequence of 300 positions. Padding is hidden from T5 and from the denoiser; texts are lower-cased."""

    name = "pixart_sigma"
    pipeline_class = "PixArtSigmaPipeline"
    joint = False
    flow = False
    t5_positions: ClassVar[int] = 300

    def encoders(self) -> list[TextEncoder]:
        """Returns T5."""
        n = self.t5_positions
        return [TextEncoder("t5", Block("t5", 0, n), self.pipeline.tokenizer, self.pipeline.text_encoder, n)]

    def encode(self, text: str) -> Encoded:
        """Returns the last layer's states, normed, and which positions are padding."""
        sequence, mask, _, _ = self.pipeline.encode_prompt(
            text, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.t5_positions
        )
        return Encoded(sequence, shown=mask.bool())

    def converted(self, text: str, tokenizer: Any) -> str:
        """Returns the text as the pipeline cleans it: in lower case, without blanks around it."""
        return self.pipeline._text_preprocessing(text)[0]

    def call_options(self) -> dict[str, Any]:
        """Returns that pictures have the size that is asked for, not the nearest that the model was trained on."""
        return {"use_resolution_binning": False}

    def size_multiple(self) -> int:
        """Returns what the denoiser's patches make of what the pipeline itself insists on."""
        return math.lcm(8, super().size_multiple())

    def patch(self) -> int:
        """Returns the denoiser's patch size."""
        return self.denoiser.config.patch_size


class PixArtAlpha(PixArtSigma):
    """PixArt-α: as Σ, with 120 positions."""

    name = "pixart_alpha"
    pipeline_class = "PixArtAlphaPipeline"
    t5_positions: ClassVar[int] = 120
