"""Falcon's attention behind transformers' attention interface, which its own module does not use.

Grouped keys are not expanded. ALiBi variants keep their bias: it arrives in the mask, already divided by √dim, as in
transformers' fused path. Its eager path adds the bias of ALiBi twice (transformers 5.23), so the fused one is the oracle.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.models.falcon.modeling_falcon import FalconAttention, apply_rotary_pos_emb

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _forward(
    self: FalconAttention,
    hidden_states: Tensor,
    alibi: Tensor | None,
    attention_mask: Tensor | None,
    layer_past: Any = None,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    key_value_heads: Any = self.num_kv_heads
    query, key, value = (part.transpose(1, 2) for part in self._split_heads(self.query_key_value(hidden_states)))
    if self.new_decoder_architecture:  # _split_heads repeated each key-value head for its group of query heads
        group = self.num_heads // key_value_heads
        key, value = key[:, ::group], value[:, ::group]
    if alibi is None and position_embeddings is not None:
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    if layer_past is not None:
        key, value = layer_past.update(key, value, self.layer_idx)
    output, _none = attend(self, query, key, value, attention_mask)
    return self.dense(torch.flatten(output, 2)), None


ADAPTERS = {"falcon": Adapter("FalconAttention", "forward", _forward, own="sdpa")}
