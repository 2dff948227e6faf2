"""Which keys each query may see: the model's own rule, asked at the true positions of every row."""

from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

QUERY_POSITIONS: ContextVar[Int[Tensor, "row query"] | None] = ContextVar("query_positions", default=None)
"""Positions of the queries of the pass under way, when its rows stand at different places."""


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Any,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Bool[Tensor, "row 1 query key"] | None:
    """Returns which keys each query may see; None for plain causal attention, where the kernel needs no mask.

    The model's own rule (causal, sliding window, chunks) is asked at the true positions of each row, so rows of
    different length need no padding mask and a sliding window is never measured across padding.
    """
    positions = QUERY_POSITIONS.get()
    if positions is None:
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            mask_function=mask_function,
            attention_mask=attention_mask,
            device=device,
            **options,
        )
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    heads = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=device)
    keys = torch.arange(kv_length, device=device)[None, None, None, :]
    seen = mask_function(rows, heads, positions.to(device)[:, None, :, None], keys)
    return seen.expand(batch_size, -1, q_length, kv_length)


def register_mask(name: str) -> None:
    """Makes `attention_mask` the mask of the attention function of that name.

    Without a mask function of the same name transformers silently drops padding and cached-prefix masks.
    """
    AttentionMaskInterface.register(name, attention_mask)
