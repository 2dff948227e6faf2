"""The Japanese GPT-NeoX's attention."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    output, _ = attend(self, query, key, value, attention_mask, scaling=1 / self.norm_factor)
    return output.transpose(1, 2), None


ADAPTERS = {"gpt_neox_japanese": Adapter("GPTNeoXJapaneseAttention", "_attn", _attn)}
