"""The first GPT's attention, which keeps no keys: its texts are read whole."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, *_: Any
) -> list[Tensor]:
    scaling = value.shape[-1] ** -0.5 if self.scale else 1.0
    output, _none = attend(self, query, key.mT, value, attention_mask, scaling=scaling)
    return [output.transpose(1, 2)]


def _number(module: Any, number: int) -> None:
    module.layer_idx = number


ADAPTERS = {"openai-gpt": Adapter("Attention", "_attn", _attn, prepare=_number)}
