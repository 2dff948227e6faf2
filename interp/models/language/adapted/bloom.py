"""BLOOM's attention: ALiBi as a bias on the scores."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _forward(
    self: Any,
    hidden_states: Tensor,
    residual: Tensor,
    alibi: Tensor,
    attention_mask: Tensor | None,
    layer_past: Any = None,
    **_: Any,
) -> tuple[Tensor, None]:
    rows, queries, _width = hidden_states.shape
    query, key, value = self._reshape(self.query_key_value(hidden_states))
    if layer_past is not None:
        key, value = layer_past.update(key, value, self.layer_idx)
    bias = alibi.view(rows, self.num_heads, 1, -1).expand(-1, -1, queries, -1)
    output, _none = attend(self, query, key, value, attention_mask, scaling=self.inv_norm_factor, position_bias=bias)
    return self.dense(output.flatten(2)) + residual, None


ADAPTERS = {"bloom": Adapter("BloomAttention", "forward", _forward)}
