"""The attention function that every model runs through: the fast kernel, with room to look inside and to change heads.

transformers lets a model take its attention and mask functions by name. `attend` is registered under ATTENTION: it runs
torch's fused kernel as always, on the call that the open edits make of it, and hands that call on to the output projection's
input (interp.models.language.watching), where outputs are replaced and recordings look. Nothing of size queries × keys is kept, and
where nothing is open nothing extra is computed.
"""

from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from interp.errors import UserError
from interp.models.language.architecture import LAYER
from interp.models.language.attention import AttentionCall, Segment, attention_output
from interp.models.language.hooks import HOOKS_ATTRIBUTE, NOTHING_OPEN, AttentionHooks, Pass, check_begun, standing

ATTENTION = "interp"
"""The name under which transformers finds `attend` and `attention_mask`."""

QUERY_POSITIONS: ContextVar[Int[Tensor, "row query"] | None] = ContextVar("query_positions", default=None)
"""Positions of the queries of the pass under way, when its rows stand at different places."""


def attend(
    module: nn.Module,
    query: Float[Tensor, "row head query dim"],
    key: Float[Tensor, "row kv_head key dim"],
    value: Float[Tensor, "row kv_head key value_dim"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    s_aux: Float[Tensor, " head"] | None = None,
    position_bias: Tensor | None = None,
    indices: Int[Tensor, "row query chosen"] | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "row query head value_dim"], None]:
    """Returns the heads' outputs and None, as transformers' attention interface asks.

    Same numbers as transformers' eager attention; soft-capping and learned sinks (`s_aux`) are exact. Sliding windows arrive in
    the mask; a bias on the scores (`position_bias`) and the keys that each query has chosen (`indices`) are added to it.
    Raises UserError for a model that asks its attention for something else (attention without a causal mask), which this
    function does not compute.
    """
    _check_options(module, options, dropout)
    if attention_mask is None and query.shape[2] > 1:
        _check_causal(module, is_causal)
    attention_mask = _with_choices(attention_mask, position_bias, indices)
    hooks: AttentionHooks | None = getattr(module, HOOKS_ATTRIBUTE, None)
    here = _pass_here(hooks, query, key)
    layer = int(getattr(module, LAYER, module.layer_idx))  # type: ignore[arg-type]
    own = Segment(key, value)
    starts, rows = here.starts, here.rows
    if starts is None or rows is None:  # nothing is open: nobody asks where the rows stand
        starts = rows = torch.zeros(len(query), dtype=torch.long, device=query.device)
    call = AttentionCall(
        layer=layer,
        query=query,
        starts=starts,
        rows=rows,
        segments=(_trunk_of(here, module, layer, own), own) if here.trunk else (own,),
        mask=attention_mask,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        first_key=here.first_key(layer, key.shape[2]) if here.spans else 0,
        padded=here.cache is None,
        sinks=s_aux,
    )
    if hooks is None or not here.is_watched:
        return attention_output(call), None
    if hooks.waiting is not None and hooks.waiting[0] is here:
        raise UserError(
            f"{type(module).__name__} computes attention more than once in a layer, so what a head is cannot be told: close "
            "its edits and recordings, or name another model."
        )
    call = here.edited(call)
    output = attention_output(call)
    hooks.waiting = (here, call, output)
    return output, None


def n_keys_here(module: nn.Module, key: Float[Tensor, "row kv_head key dim"]) -> int:
    """Returns how many keys the rows of the pass under way see: those of the beginning that they share, and their own."""
    hooks: AttentionHooks | None = getattr(module, HOOKS_ATTRIBUTE, None)
    here = None if hooks is None else hooks.current
    if here is None or not here.trunk:
        return key.shape[2]
    layer = int(getattr(module, LAYER, module.layer_idx))  # type: ignore[arg-type]
    return here.trunk[layer].key.shape[2] + key.shape[2]


def _pass_here(hooks: AttentionHooks | None, query: Tensor, key: Tensor) -> Pass:
    """The pass under way; for a layer that is called by itself, one that begins here."""
    if hooks is None:
        return NOTHING_OPEN
    if hooks.current is not None:
        return hooks.current
    begun = hooks.begin()
    if begun.is_watched:
        if query.shape[2] != key.shape[2]:
            raise UserError(
                "The positions of tokens are not known when a layer is called by itself: call the whole model while "
                "edits or recordings are open."
            )
        begun.starts, begun.rows = standing(len(query), 0, query.device)
        begun.phase = None  # whether these tokens are a prompt is not said
        check_begun(begun, len(query))
    return begun


def _trunk_of(here: Pass, module: nn.Module, layer: int, own: Segment) -> Segment:
    """The shared keys and values of a layer, as its cache keeps them."""
    assert here.trunk is not None
    assert here.cache is not None
    if not here.cache.gave(layer, own):
        raise UserError(
            f"{type(module).__name__} changes keys and values after its cache has kept them, so texts of this model cannot "
            "share a beginning: read each text whole, without fork."
        )
    return here.trunk[layer]


# ---------------------------------------------------------------------- what models hand to it beside queries, keys, values and mask


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


def _check_options(module: nn.Module, options: dict[str, Any], dropout: float) -> None:
    """Raises UserError for an argument that could change a number and is not computed."""
    if dropout:
        raise UserError("Attention dropout is not computed: call eval() on the model.")
    for name, value in options.items():
        if name in _WITHOUT_EFFECT or value is None or value is False:
            continue
        if name == "output_attentions":
            raise UserError("Attention weights are not returned: look at them with model.record.")
        raise UserError(
            f"{type(module).__name__} gives its attention the argument {name}, which is not computed here: name another model."
        )


def _with_choices(
    mask: Tensor | None, bias: Tensor | None, indices: Int[Tensor, "row query chosen"] | None
) -> Tensor | None:
    """The mask with a bias on the scores, and without the keys that a query has not chosen."""
    if bias is not None:
        if mask is None:
            n_queries, n_keys = bias.shape[-2:]
            mask = torch.ones((n_queries, n_keys), dtype=torch.bool, device=bias.device).tril(n_keys - n_queries)[
                None, None
            ]
        seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        mask = bias.masked_fill(~seen, torch.finfo(bias.dtype).min)
    if indices is not None:
        if mask is None or mask.dtype != torch.bool:
            raise UserError(
                "This attention selects keys among those that a plain mask allows, and there is no such mask: name another model."
            )
        chosen = torch.zeros((*indices.shape[:2], mask.shape[-1]), dtype=torch.bool, device=mask.device)
        mask = mask & chosen.scatter(-1, indices.long(), True)[:, None]
    return mask


def _check_causal(module: nn.Module, is_causal: bool | None) -> None:
    """Raises UserError for attention without a mask that is not causal."""
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UserError(
            f"{type(module).__name__} lets tokens see what comes after them, and only causal models can be read: name "
            "another model."
        )


# ---------------------------------------------------------------------- which keys each query may see


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


AttentionInterface.register(ATTENTION, attend)
# Without a mask function of the same name transformers silently drops padding and cached-prefix masks.
AttentionMaskInterface.register(ATTENTION, attention_mask)
