"""Reading a state out through the layers above it, with nothing but the text's first token beside it (SimLens)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language.kept_logits import check_numbers, head_at
from interp.models.language.residuals import changed_input
from interp.models.lens.lens import LogitLens


@torch.inference_mode()
def read_through(
    lens: LogitLens,
    starts: Float[Tensor, "row residual"],
    states: Float[Tensor, "row residual"],
    depth: int,
    ids: Int[Tensor, "row two"],
) -> Float[Tensor, "row vocabulary"]:
    """Returns the logits of states after `depth` layers when the remaining layers run on two positions: each row's start and the state.

    `ids` are the two tokens, for models that look something up by token; they are at positions 0 and 1. At depth 0 the result is the
    model's prediction after a text of two tokens, at the last depth the logit lens.
    Raises ArgumentError for a depth that the model does not have.
    """
    lens.check_depth(depth)
    if depth == lens.n_depths - 1:
        return lens.logits(states, depth)
    pair = torch.stack([starts, states], dim=1)
    model, last = lens.model, torch.ones((len(states), 1), dtype=torch.long)
    with model.hooks.closed(), head_at(model, last), changed_input(model, depth, pair.to):
        logits = model.hf(input_ids=ids.to(model.device), use_cache=False).logits[:, -1].float()
    check_numbers(model, logits)
    return logits
