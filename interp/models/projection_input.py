"""The input of the output projection, where a head's output is replaced by edits and seen by recordings.

Gates and norms that some families put between attention and the projection have acted there, so `zero` is a zero of what
the head hands on, whatever the family.
"""

from typing import Any

from torch import nn

from interp.errors import UserError
from interp.models.hooks import HOOKS_ATTRIBUTE, AttentionHooks


def watch_projection(projection: nn.Module, hooks: AttentionHooks) -> None:
    """Lets edits and recordings act on what enters an output projection. A copy of it goes by hooks of its own."""
    known = HOOKS_ATTRIBUTE in vars(projection)
    setattr(projection, HOOKS_ATTRIBUTE, hooks)
    if not known:
        projection.register_forward_pre_hook(_enter)


def _enter(projection: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    hooks: AttentionHooks = getattr(projection, HOOKS_ATTRIBUTE)
    if hooks.waiting is None:
        return None
    here, call = hooks.waiting
    hooks.waiting = None
    if here is not hooks.current and hooks.current is not None:
        return None  # left behind by a pass that failed
    rows, heads, queries, _ = call.query.shape
    hidden = inputs[0]
    if hidden.numel() % (rows * heads * queries) or hidden.shape[-1] % heads:
        raise UserError(
            f"{hidden.shape[-1]} numbers enter the output projection of {heads} heads, so what a head writes cannot be told: "
            "close edits and recordings, or name another model."
        )
    output = hidden.reshape(rows, queries, heads, -1)
    for edit in here.acting(call.layer):
        output = edit.replaced(call, output)
    for observer in here.observers:
        observer.look(call, output)
    return (output.reshape(hidden.shape), *inputs[1:])
