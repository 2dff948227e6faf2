"""MPT's attention: ALiBi as a bias on the scores, and a mask that is True where a key may not be seen."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _forward(
    self: Any,
    hidden_states: Tensor,
    position_bias: Tensor,
    past_key_values: Any = None,
    attention_mask: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    assert attention_mask is not None
    rows, queries, _width = hidden_states.shape
    mixed = self.Wqkv(hidden_states)
    if self.clip_qkv:
        mixed = mixed.clamp(min=-self.clip_qkv, max=self.clip_qkv)
    query, key, value = (
        part.view(rows, queries, self.n_heads, self.head_dim).transpose(1, 2) for part in mixed.chunk(3, dim=2)
    )
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, self.layer_idx)
    # The bias falls evenly from key to key, so that any stretch of it serves: what it adds to all keys alike does not count.
    bias = position_bias[None, :, :, position_bias.shape[-1] - attention_mask.shape[-1] :].expand(rows, -1, queries, -1)
    output, _none = attend(self, query, key, value, ~attention_mask, scaling=self.softmax_scale, position_bias=bias)
    return self.out_proj(output.flatten(2)), None


ADAPTERS = {"mpt": Adapter("MptAttention", "forward", _forward, masks="eager")}
