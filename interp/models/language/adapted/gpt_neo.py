"""GPT-Neo's attention: unscaled scores, and in every other layer a window of the last tokens."""

from typing import Any

import torch
from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import QUERY_POSITIONS, attend, n_keys_here


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    if self.attention_type == "local":
        n_keys = n_keys_here(self, key)  # one token sees all of them, and comes without a mask
        attention_mask = _within_window(self.config.window_size, query, n_keys, attention_mask)
    output, _ = attend(self, query, key, value, attention_mask, scaling=1.0)
    return output.transpose(1, 2), None


def _within_window(window: int, query: Tensor, n_keys: int, mask: Tensor | None) -> Tensor:
    """The mask without the keys that lie before a query's window; columns of keys are positions."""
    n_queries = query.shape[2]
    positions = QUERY_POSITIONS.get()
    if positions is None:
        positions = torch.arange(n_keys - n_queries, n_keys, device=query.device)[None]
    behind = positions[:, None, :, None] - torch.arange(n_keys, device=query.device)
    near = (behind >= 0) & (behind < window)
    return near if mask is None else mask & near


def _number(module: Any, _: int) -> None:
    module.layer_idx = module.layer_id


ADAPTERS = {"gpt_neo": Adapter("GPTNeoSelfAttention", "_attn", _attn, prepare=_number)}
