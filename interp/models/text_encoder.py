"""One text encoder of a text-to-image pipeline: where its layers are, and which part of the sequence it fills."""

from dataclasses import dataclass
from typing import Any

from interp.models.conditioning import Block


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a pipeline and the part of the sequence it fills: positions from `start`, channels from `channel`.

    `block` is None for an encoder that only makes the pooled vector. `layers_unused` are those after the one whose states
    the pipeline takes; `normed` says whether the final norm stands between that layer and the conditioning.
    """

    name: str
    block: Block | None
    tokenizer: Any
    module: Any
    n_positions: int
    channel: int = 0
    layers_unused: int = 0
    normed: bool = True

    @property
    def trunk(self) -> Any:
        """The module that holds the layers and the final norm."""
        return self.module.encoder if self.is_t5 else getattr(self.module, "text_model", self.module)

    @property
    def layers(self) -> Any:
        """The layers, in order."""
        return self.trunk.block if self.is_t5 else self.trunk.encoder.layers

    @property
    def is_t5(self) -> bool:
        """Whether it is T5's encoder; the others are CLIP's."""
        return self.module.config.model_type == "t5"


def clip_pair(pipeline: Any, block: Block) -> list[TextEncoder]:
    """Returns CLIP-L and bigG of SDXL and SD3: states before the last layer, one after the other on the channels."""
    first, second = pipeline.text_encoder, pipeline.text_encoder_2
    n = block.stop - block.start
    return [
        TextEncoder("clip_l", block, pipeline.tokenizer, first, n, layers_unused=1, normed=False),
        TextEncoder(
            "clip_g", block, pipeline.tokenizer_2, second, n, first.config.hidden_size, layers_unused=1, normed=False
        ),
    ]
