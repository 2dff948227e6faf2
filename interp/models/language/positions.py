"""Positions that a model can read: its window, and tokens that are read as if they stood further away.

Where positions are moved, the text and what its tokens may see are not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.architecture import rotary_switch
from interp.models.language.wrapped import WrappedModel

MOVED: ContextVar[Int[Tensor, " row"] | None] = ContextVar("moved", default=None)
"""By row of the batch: how far the positions of the tokens that are being read are moved."""


def check_window(model: WrappedModel, n_tokens: int) -> None:
    """Raises UserError for more tokens than the model's context window."""
    window = model.context_window
    if window is not None and n_tokens > window:
        raise UserError(
            f"The text has {n_tokens} tokens but {model.identity.name} reads {window}: shorten it or name a model with a "
            "longer window."
        )


def check_movable(model: WrappedModel) -> None:
    """Raises UserError for a model whose positions are not given to its rotary embedding, or mean another thing in a longer text."""
    text: Any = model.hf.config.get_text_config(decoder=True)
    has_rotary = any(name.rpartition(".")[2] == "rotary_emb" for name, _ in model.hf.named_modules())
    if not has_rotary or not getattr(text, "rope_parameters", None) or getattr(text, "alibi", False):
        raise UserError(
            f"Positions cannot be moved in {model.identity.name} ({text.model_type}), which has no rotary positions: "
            "name a model that has them."
        )
    if rotary_switch(model.hf.config) is not None:
        raise UserError(
            f"Positions cannot be moved in {model.identity.name}, whose rotary embedding depends on the length of the text: "
            "name another model."
        )


@contextmanager
def moved(model: WrappedModel, by: Sequence[int], end: int) -> Iterator[None]:
    """Reads every row's next tokens, whose text ends before `end`, at positions that are higher by so much.

    What was read before keeps its positions, so a row sees it from further away. Masks go by the tokens' true places.
    Raises UserError where positions cannot be moved, and ArgumentError past the model's window.
    """
    check_movable(model)
    if min(by) < 0:
        raise ArgumentError(f"Tokens are moved away by 0 positions or more, not by {min(by)}.")
    window = model.context_window
    if window is not None and end + max(by) > window:
        raise ArgumentError(
            f"Tokens up to {end} do not fit {model.identity.name} when they are moved by {max(by)}: it knows {window} positions."
        )
    token = MOVED.set(torch.tensor(list(by)))
    try:
        yield
    finally:
        MOVED.reset(token)
