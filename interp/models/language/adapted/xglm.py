"""The attention of XGLM, TrOCR's decoder and MVP: separate projections, queries scaled before the scores."""

from typing import Any

from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import attend


def _forward(
    self: Any,
    hidden_states: Tensor,
    key_value_states: Tensor | None = None,
    past_key_values: Any = None,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    if key_value_states is not None:  # attention to an encoder's text
        return type(self).forward(self, hidden_states, key_value_states, past_key_values, attention_mask, **options)
    shape = (*hidden_states.shape[:2], self.num_heads, self.head_dim)
    query, key, value = (
        project(hidden_states).view(shape).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
    )
    if past_key_values is not None:
        key, value = past_key_values.update(key, value, self.layer_idx)
    output, _ = attend(self, query, key, value, attention_mask, scaling=self.scaling)
    return self.out_proj(output.flatten(2)), None


ADAPTERS = {
    "xglm": Adapter("XGLMAttention", "forward", _forward),
    "trocr": Adapter("TrOCRAttention", "forward", _forward),
    "mvp": Adapter("MvpAttention", "forward", _forward),
}
