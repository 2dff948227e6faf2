"""The attention of older relatives of BERT as decoders: Megatron-BERT, RemBERT, RoFormer."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _forward(
    self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *given: Any, **options: Any
) -> tuple[Tensor, None]:
    return _read(self, hidden_states, attention_mask, None, *given, **options)


def _forward_rotated(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    sinusoidal_pos: Tensor | None = None,
    *given: Any,
    **options: Any,
) -> tuple[Tensor, None]:
    return _read(self, hidden_states, attention_mask, sinusoidal_pos, *given, **options)


def _read(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None,
    sinusoidal_pos: Tensor | None,
    encoder_hidden_states: Tensor | None = None,
    past_key_values: Any = None,
    output_attentions: bool = False,
    **options: Any,
) -> tuple[Tensor, None]:
    if encoder_hidden_states is not None:  # attention to another text
        named = {"encoder_hidden_states": encoder_hidden_states, "past_key_values": past_key_values, **options}
        return type(self).forward(self, hidden_states, attention_mask=attention_mask, **named)
    shape = (*hidden_states.shape[:2], self.num_attention_heads, self.attention_head_size)
    query, key, value = (
        project(hidden_states).view(shape).transpose(1, 2) for project in (self.query, self.key, self.value)
    )
    if sinusoidal_pos is not None:
        if self.rotary_value:
            query, key, value = self.apply_rotary_position_embeddings(sinusoidal_pos, query, key, value)
        else:
            query, key = self.apply_rotary_position_embeddings(sinusoidal_pos, query, key)
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, self.layer_idx)
    output, _ = attend(self, query, key, value, attention_mask, scaling=self.attention_head_size**-0.5)
    return output.flatten(2), None


ADAPTERS = {
    "megatron-bert": Adapter("MegatronBertSelfAttention", "forward", _forward),
    "rembert": Adapter("RemBertSelfAttention", "forward", _forward),
    "roformer": Adapter("RoFormerSelfAttention", "forward", _forward_rotated),
}
