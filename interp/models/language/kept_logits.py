"""Which next-token logits a pass hands out: the language-model head sees only the columns that are asked for, and they are numbers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import UserError
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


# ---------------------------------------------------------------------- past the range of half precision


def check_numbers(
    model: WrappedModel, values: Float[Tensor, "*axes value"], where: Bool[Tensor, "*axes"] | None = None
) -> None:
    """Raises UserError where logits or states are no numbers, as those of float16 past its range: means would leave them out.

    `where` says which count, where some stand on padding.
    """
    if not values.numel():
        return
    least, most = (values.amin(dim=-1), values.amax(dim=-1))  # a NaN among others is both
    lost = ~most.isfinite()
    if model.hf.dtype == torch.float16:  # elsewhere a logit of -inf is a token that a model rules out
        lost = lost | ~least.isfinite()
    if bool((lost if where is None else lost & where.to(lost.device)).any()):
        raise not_a_number(model)


def check_states(model: WrappedModel, states: Float[Tensor, "*axes residual"]) -> None:
    """Raises UserError where states are no numbers."""
    if not bool(states.isfinite().all()):
        raise not_a_number(model)


def not_a_number(model: WrappedModel) -> UserError:
    """Returns the error for a text that a model reads past the range of its precision."""
    dtype = str(model.hf.dtype).removeprefix("torch.")
    way = "use --dtype float32, or bfloat16" if dtype == "float16" else "use --dtype float32"
    if dtype == "float32":
        way = "a weight of it is damaged or a text leads past its range, so name another model"
    return UserError(f"{model.identity.name} in {dtype} predicts what is not a number on this text: {way}.")
