"""Which next-token logits a pass hands out: the language-model head sees only the columns that are asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.models.language.wrapped import WrappedModel

Kept = Literal["none", "last", "all"]


@contextmanager
def head_at(model: WrappedModel, columns: Int[Tensor, "row kept"]) -> Iterator[None]:
    """Lets the language-model head see only the chosen columns; what follows it (scale, soft-cap) is elementwise."""

    def choose(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if threading.get_ident() != thread:
            return inputs
        hidden = inputs[0]
        return (torch.take_along_dim(hidden, columns.to(hidden.device)[:, :, None], dim=1), *inputs[1:])

    thread = threading.get_ident()
    head: Any = model.hf.get_output_embeddings()
    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def columns_to_keep(kept: Kept, n_read: list[int], first: int, part: list[list[int]]) -> Int[Tensor, "row kept"]:
    """Returns which columns of a part's hidden states, its first token read after `first` others, the language-model head should see."""
    if kept == "none":
        return torch.zeros((len(part), 0), dtype=torch.long)
    if kept == "all":
        return torch.arange(max(len(row) for row in part)).expand(len(part), -1)
    last = torch.tensor(n_read)[:, None] - 1 - first
    return last.clamp(0, max(len(row) for row in part) - 1)
