"""Attention with ALiBi as a bias on the scores: BLOOM, MPT, and Falcon, which may also rotate."""

from typing import Any

import torch
from torch import Tensor
from transformers.models.falcon.modeling_falcon import FalconAttention, apply_rotary_pos_emb

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _bloom(
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


def _mpt(
    self: Any,
    hidden_states: Tensor,
    position_bias: Tensor,
    past_key_values: Any = None,
    attention_mask: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The mask is True where a key may not be seen."""
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


def _falcon(
    self: FalconAttention,
    hidden_states: Tensor,
    alibi: Tensor | None,
    attention_mask: Tensor | None,
    layer_past: Any = None,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Grouped keys are not expanded. ALiBi variants keep their bias: it arrives in the mask, already divided by √dim, as in
    transformers' fused path. The eager path adds the bias of ALiBi twice (transformers 5.23), so the fused one is the oracle.
    """
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


ADAPTERS = {
    "bloom": Adapter("BloomAttention", "forward", _bloom),
    "mpt": Adapter("MptAttention", "forward", _mpt, masks="eager"),
    "falcon": Adapter("FalconAttention", "forward", _falcon, own="sdpa"),
}
