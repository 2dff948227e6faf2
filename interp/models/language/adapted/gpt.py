"""The attention of GPT's older relatives: the first GPT, GPT-Neo, GPT-J and CodeGen, and the Japanese GPT-NeoX."""

from typing import Any

import torch
from torch import Tensor

from interp.models.language.adapted.adapter import Adapter
from interp.models.language.attention_function import QUERY_POSITIONS, attend, n_keys_here


def _openai_gpt(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, *_: Any
) -> list[Tensor]:
    """The first GPT keeps no keys: its texts are read whole."""
    scaling = value.shape[-1] ** -0.5 if self.scale else 1.0
    output, _none = attend(self, query, key.mT, value, attention_mask, scaling=scaling)
    return [output.transpose(1, 2)]


def _number_openai_gpt(module: Any, number: int) -> None:
    module.layer_idx = number


def _gpt_neo(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """GPT-Neo does not scale its scores, and every other layer has a window of the last tokens."""
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


def _number_gpt_neo(module: Any, _: int) -> None:
    module.layer_idx = module.layer_id


def _gptj(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Queries and keys come rotated."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # CodeGen rotates in float32
    output, _ = attend(self, query, key, value, attention_mask, scaling=1 / self.scale_attn)
    return output.transpose(1, 2), None


def _gpt_neox_japanese(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    output, _ = attend(self, query, key, value, attention_mask, scaling=1 / self.norm_factor)
    return output.transpose(1, 2), None


ADAPTERS = {
    "openai-gpt": Adapter("Attention", "_attn", _openai_gpt, prepare=_number_openai_gpt),
    "gpt_neo": Adapter("GPTNeoSelfAttention", "_attn", _gpt_neo, prepare=_number_gpt_neo),
    "gptj": Adapter("GPTJAttention", "_attn", _gptj),
    "codegen": Adapter("CodeGenAttention", "_attn", _gptj),
    "gpt_neox_japanese": Adapter("GPTNeoXJapaneseAttention", "_attn", _gpt_neox_japanese),
}
