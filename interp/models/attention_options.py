"""What models hand to their attention function beside queries, keys, values and mask: known to change nothing, or refused."""

from typing import Any

from torch import nn

from interp.errors import UserError

_WITHOUT_EFFECT = (
    "position_ids",  # the rotary embedding has been applied
    "cache_position",
    "sliding_window",  # arrives in the mask
    "use_cache",
    "output_hidden_states",
    "output_router_logits",
    "return_dict",
    "logits_to_keep",
    "num_items_in_batch",
)
"""What models hand to their attention function beside queries, keys and values that changes no number in it."""


def check_options(module: nn.Module, options: dict[str, Any], dropout: float) -> None:
    """Raises UserError for an argument that could change a number and is not computed."""
    if dropout:
        raise UserError("Attention dropout is not computed: call eval() on the model.")
    for name, value in options.items():
        if name in _WITHOUT_EFFECT or value is None or value is False:
            continue
        if name in ("s_aux", "sinks"):
            raise UserError("Models with learned attention sinks (gpt-oss) cannot be used: name another model.")
        if name == "output_attentions":
            raise UserError("Attention weights are not returned: look at them with model.record.")
        raise UserError(
            f"{type(module).__name__} gives its attention the argument {name}, which is not computed here: name another model."
        )


def check_causal(module: nn.Module, is_causal: bool | None) -> None:
    """Raises UserError for attention without a mask that is not causal."""
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UserError(
            f"{type(module).__name__} lets tokens see what comes after them, and only causal models can be read: name "
            "another model."
        )
