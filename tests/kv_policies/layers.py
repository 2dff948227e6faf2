"""One layer of planted attention: scores of prompt and steps given as they shall be."""

from typing import Any

import torch
from torch import Tensor

from interp.models.language.attention import AttentionCall, Segment
from interp.retention.policies.layer import Allowance, Layer, Prompt

ONE = torch.ones(1, dtype=torch.long)


def planted(
    logits: Tensor, *, keys: Tensor | None = None, values: Tensor | None = None, n_layers: int = 2, layer: int = 0
) -> Prompt:
    """A prompt whose queries have these scores [head, query, key] on what they see; heads share keys only where keys are given."""
    n_heads, n, _ = logits.shape
    if keys is None:  # one channel per key: a query is its row of scores
        keys = torch.eye(n).expand(1, n_heads, -1, -1)
    queries = logits[None] if keys.shape[-1] == n else torch.zeros(1, n_heads, n, keys.shape[-1])
    values = torch.ones(*keys.shape[:3], 3) if values is None else values
    call = AttentionCall(layer, queries, 0 * ONE, 0 * ONE, (Segment(keys, values),), None, 1.0)
    return Prompt(layer, tuple(range(n_layers)), [call])


def stepped(prompt: Prompt, logits: Tensor, **others: Any) -> Layer:
    """What is read after it, with these scores [row, head, step, key]; -inf is put where a step would read the future."""
    rows, heads, steps, n_keys = logits.shape
    seen = torch.ones(steps, n_keys, dtype=torch.bool).tril(n_keys - steps)
    kv_heads, dim = prompt.keys.shape[1], prompt.keys.shape[-1]
    empty = torch.zeros(rows, kv_heads, steps, dim)
    keys = torch.cat([prompt.keys.expand(rows, -1, -1, -1), empty], dim=2)
    values = torch.cat(
        [prompt.values.expand(rows, -1, -1, -1), torch.ones(rows, kv_heads, steps, prompt.values.shape[-1])], dim=2
    )
    queries = others.pop("queries", torch.zeros(rows, heads, steps, dim))
    return Layer(prompt, queries, keys, values, logits.masked_fill(~seen, -torch.inf), **others)


def allowing(n: int, first: int = 0, last: int = 0) -> Allowance:
    """An allowance of one row."""
    return Allowance(n * ONE, first * ONE, last * ONE)
