"""FLUX.1: T5's sequence and CLIP's pooled vector."""

from interp.models.image.conditioning import Block
from interp.models.image.family import Encoded
from interp.models.image.packed import Packed
from interp.models.image.text_encoder import TextEncoder


class Flux(Packed):
    """FLUX.1: T5's sequence, read by joint attention, and CLIP's pooled vector. Guidance is an input, not a second branch."""

    name = "flux"
    pipeline_class = "FluxPipeline"

    @property
    def distilled(self) -> bool:
        """Whether it is schnell, which takes no guidance."""
        return not self.denoiser.config.guidance_embeds

    @property
    def t5_positions(self) -> int:
        """What schnell and dev were trained for."""
        return 256 if self.distilled else 512

    def encoders(self) -> list[TextEncoder]:
        """Returns T5, and CLIP, which fills no position."""
        pipeline, n_t5, n_clip = self.pipeline, self.t5_positions, self.pipeline.tokenizer_max_length
        return [
            TextEncoder("t5", Block("t5", 0, n_t5), pipeline.tokenizer_2, pipeline.text_encoder_2, n_t5),
            TextEncoder("clip", None, pipeline.tokenizer, pipeline.text_encoder, n_clip),
        ]

    def encode(self, text: str) -> Encoded:
        """Returns T5's states and CLIP's end of text."""
        sequence, pooled, _ = self.pipeline.encode_prompt(
            text, prompt_2=text, device=self.device, max_sequence_length=self.t5_positions
        )
        return Encoded(sequence, pooled)

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns None."""
        return None

    def defaults(self) -> tuple[int, float]:
        """Returns those of the pipeline's own call, and 4 steps without guidance for schnell."""
        return (4, 0.0) if self.distilled else super().defaults()
