"""One text encoder of a pipeline: what it reads around a text, its layers, and the part of the sequence that it fills."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from interp.models.image.conditioning import Block
from interp.models.tokens.token_spans import Padding


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a pipeline and the part of the sequence it fills: positions from `start`, channels from `channel`.

    `n_positions` are those that it reads. `block` is None for an encoder that only makes the pooled vector. `layers_unused`
    are those after the one whose states the pipeline takes; `normed` says whether the final norm stands between that layer and
    the conditioning.
    """

    name: str
    block: Block | None
    tokenizer: Any
    module: Any
    n_positions: int
    channel: int = 0
    layers_unused: int = 0
    normed: bool = True
    before: str = ""
    """What the pipeline writes before every text."""
    kept: tuple[int, ...] | None = None
    """Which of the positions that it reads stand in the sequence; None where all do."""
    after: str = ""
    """What the pipeline writes behind every text."""
    padding: Padding = "right"
    """Where it reads padding; "none" where it reads the text alone, "left16" where before it, up to a multiple of 16. In these two the
    sequence is filled up with hidden zeros."""
    zeroed: bool = False
    """Whether zeros stand in the sequence where it read padding."""
    special: bool = True
    """Whether the tokenizer adds its own beginning and end to what the pipeline writes."""

    @property
    def layers(self) -> Any:
        """The layers, in order."""
        if self._is_t5:
            return self.module.encoder.block
        if self._is_bert:
            return self.module.encoder.layer
        return self._clip.encoder.layers if self._decoder is None else self._decoder.layers

    @property
    def final_norm(self) -> Any:
        """The norm after the last layer; in BERT, which has none, what comes next."""
        if self._is_t5:
            return self.module.encoder.final_layer_norm
        if self._is_bert:
            return self.module.pooler
        return self._clip.final_layer_norm if self._decoder is None else self._decoder.norm

    def placed(self, states: Float[Tensor, "1 read channel"]) -> Float[Tensor, "1 position channel"]:
        """Returns states at all positions that it read as they stand in its block: zeros where it read nothing."""
        if self.kept is None:
            return states
        there = [place for place in self.kept if place < states.shape[1]]
        placed = states.new_zeros(1, len(self.kept), states.shape[2])
        placed[:, : len(there)] = states[:, there]
        return placed

    @property
    def _is_t5(self) -> bool:
        return self.module.config.model_type in ("t5", "umt5", "mt5")

    @property
    def _is_bert(self) -> bool:
        return self.module.config.model_type == "bert"

    @property
    def _decoder(self) -> Any:
        """The layers and the norm of a language model, also inside one that reads pictures too; None for T5's encoder and CLIP's."""
        inner = getattr(self.module, "model", self.module)
        inner = getattr(inner, "language_model", inner)
        return inner if hasattr(inner, "layers") else None

    @property
    def _clip(self) -> Any:
        return getattr(self.module, "text_model", self.module)
