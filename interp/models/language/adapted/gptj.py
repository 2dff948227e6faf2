"""GPT-J's and CodeGen's attention: scores of queries and keys that are already rotated."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    query, key = query.to(value.dtype), key.to(value.dtype)  # CodeGen rotates in float32
    output, _ = attend(self, query, key, value, attention_mask, scaling=1 / self.scale_attn)
    return output.transpose(1, 2), None


ADAPTERS = {
    "gptj": Adapter("GPTJAttention", "_attn", _attn),
    "codegen": Adapter("CodeGenAttention", "_attn", _attn),
}
