"""The attention call that every model runs through: the fast kernel, with room to look inside and to change heads.

transformers lets a model take its attention function by name. `attend` is registered under ATTENTION: it runs torch's
fused kernel as always, and around it calls the head edits and recordings that are open on the model. Nothing of size
queries × keys is kept, and where nothing is open nothing extra is computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from interp.errors import UserError
from interp.models.masks import register_mask

ATTENTION = "interp"
"""The name under which transformers finds `attend` and `attention_mask`."""

SCORES_AT_ONCE = 2**25
"""Attention scores held at one time when rows are computed outside the fused kernel (128 MB in float32)."""

QUERIES_AT_ONCE = 256
"""Queries of one kernel call when a mask is given: the kernel works on masked keys too, so each call gets none that lie
after its last query. Reading on from a long prefix is a quarter faster for it."""

Phase = Literal["prefill", "decode"]


class Segment(NamedTuple):
    """Keys and values of consecutive tokens; a first axis of 1 is shared by all rows of the batch."""

    key: Float[Tensor, "row_or_1 kv_head key dim"]
    value: Float[Tensor, "row_or_1 kv_head key dim"]


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention, as it reaches the kernel: after rotary embedding, grouped keys not expanded.

    `mask` is None for plain causal attention, a boolean (True = may be seen) or a float that is added to the scores.
    """

    layer: int
    query: Float[Tensor, "row head query dim"]
    starts: Int[Tensor, " row"]
    """Position of each row's first query token; the others follow it one by one."""
    rows: Int[Tensor, " row"]
    """Which row of its batch each row was when the batch began: rows that ended are left behind."""
    segments: tuple[Segment, ...]
    mask: Tensor | None
    scaling: float
    softcap: float | None = None

    @property
    def n_keys(self) -> int:
        """Number of keys over all segments."""
        return sum(segment.key.shape[2] for segment in self.segments)

    def logits(
        self, columns: Int[Tensor, "column_rows chosen"], dtype: torch.dtype
    ) -> Float[Tensor, "row head chosen key"]:
        """Returns the masked attention scores before the softmax for the chosen query columns (-inf where unseen)."""
        query = _take_queries(self.query, columns).to(dtype)
        scores = [_scores(query, segment.key.to(dtype)) for segment in self.segments]
        logits = (scores[0] if len(scores) == 1 else torch.cat(scores, dim=-1)) * self.scaling
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        if self.mask is not None and self.mask.dtype != torch.bool:
            logits = logits + _take_queries(self.mask, columns).to(dtype)
        return logits.masked_fill(~self.visible(columns), -torch.inf)

    def visible(self, columns: Int[Tensor, "column_rows chosen"]) -> Bool[Tensor, "row_or_1 head_or_1 chosen key"]:
        """Returns which keys each chosen query may see."""
        if self.mask is not None:
            mask = _take_queries(self.mask, columns)
            return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        n_keys, n_queries = self.n_keys, self.query.shape[2]
        keys = torch.arange(n_keys, device=columns.device)
        return keys <= columns[:, None, :, None] + (n_keys - n_queries)

    def columns(self) -> Int[Tensor, "1 query"]:
        """Returns the indices of all queries of this call."""
        return torch.arange(self.query.shape[2], device=self.query.device)[None]

    def values(self) -> Float[Tensor, "row kv_head key dim"]:
        """Returns the values of all keys, one row per batch row (shared values are expanded, not copied)."""
        rows = self.query.shape[0]
        parts = [segment.value.expand(rows, -1, -1, -1) for segment in self.segments]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def blocks(self) -> "Iterator[AttentionCall]":
        """Yields the masked call cut into QUERIES_AT_ONCE queries, without the keys that come after these."""
        assert self.mask is not None
        n_queries = self.query.shape[2]
        for first in range(0, n_queries, QUERIES_AT_ONCE):
            end = min(first + QUERIES_AT_ONCE, n_queries)
            n_later = n_queries - end
            *shared, own = self.segments
            seen = Segment(*(side[:, :, : side.shape[2] - n_later] for side in own))
            yield replace(
                self,
                query=self.query[:, :, first:end],
                starts=self.starts + first,
                segments=(*shared, seen),
                mask=self.mask[:, :, first:end, : self.n_keys - n_later],
            )

    def chunks(self, n_queries: int) -> Iterator[slice]:
        """Yields slices of that many queries whose scores fit in SCORES_AT_ONCE."""
        rows, heads = self.query.shape[:2]
        step = max(1, SCORES_AT_ONCE // (rows * heads * self.n_keys))
        yield from (slice(start, start + step) for start in range(0, n_queries, step))


def _take_queries(
    tensor: Shaped[Tensor, "row_or_1 head_or_1 query last"], columns: Int[Tensor, "column_rows chosen"]
) -> Shaped[Tensor, "rows head_or_1 chosen last"]:
    """The tensor at the chosen columns of its query axis; columns may differ between rows."""
    return torch.take_along_dim(tensor, columns[:, None, :, None], dim=2)


@runtime_checkable
class Edit(Protocol):
    """A change to the heads of a model: see interp.models.edits."""

    def applies(self, layer: int, phase: Phase) -> bool:
        """Whether this edit acts in that layer and phase."""
        ...

    def before(self, call: AttentionCall) -> AttentionCall:
        """Returns the call that the kernel shall compute."""
        ...

    def after(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs that the rest of the model shall see."""
        ...


@runtime_checkable
class Observer(Protocol):
    """Something that looks at attention calls: see interp.models.recording."""

    def look(self, call: AttentionCall, output: Float[Tensor, "row query head dim"]) -> None:
        """Reads what it wants of one call and its final output."""
        ...


@dataclass
class AttentionHooks:
    """What is open on one model: its edits and recordings, and where the forward pass under way stands."""

    edits: list[Edit] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    phase: Phase = "prefill"
    starts: Int[Tensor, " row"] | None = None
    """Position of each row's first query token in the pass under way."""
    rows: Int[Tensor, " row"] | None = None
    """Which row of its batch each row of the pass is."""
    trunk: list[Segment] | None = None
    """Keys and values, per layer, that all rows of the pass share (interp.models.prefix)."""


HOOKS_ATTRIBUTE = "interp_hooks"


def attend(
    module: nn.Module,
    query: Float[Tensor, "row head query dim"],
    key: Float[Tensor, "row kv_head key dim"],
    value: Float[Tensor, "row kv_head key dim"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "row query head dim"], None]:
    """Returns the heads' outputs and None, as transformers' attention interface asks.

    Same numbers as transformers' eager attention; soft-capping is exact. Sliding windows arrive in the mask.
    Raises UserError for models with learned sink logits, whose softmax this function does not compute.
    """
    if options.get("s_aux") is not None:
        raise UserError("Models with learned attention sinks (gpt-oss) cannot be used: name another model.")
    hooks: AttentionHooks = getattr(module, HOOKS_ATTRIBUTE, None) or AttentionHooks()
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    starts, rows = hooks.starts, hooks.rows
    if starts is None or rows is None:  # called directly: the rows stand where their keys say
        starts = torch.full((len(query),), key.shape[2] - query.shape[2], device=query.device)
        rows = torch.arange(len(query), device=query.device)
    own = Segment(key, value)
    call = AttentionCall(
        layer=layer,
        query=query,
        starts=starts,
        rows=rows,
        segments=(hooks.trunk[layer], own) if hooks.trunk else (own,),
        mask=attention_mask,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
    )
    edits = [edit for edit in hooks.edits if edit.applies(layer, hooks.phase)]
    for edit in edits:
        call = edit.before(call)
    output = attention_output(call)
    for edit in edits:
        output = edit.after(call, output)
    for observer in hooks.observers:
        observer.look(call, output)
    return output, None


def attention_output(call: AttentionCall) -> Float[Tensor, "row query head dim"]:
    """Returns softmax(scores) · values for every head, by the fused kernel wherever it can compute this call."""
    if call.mask is not None and call.query.shape[2] > QUERIES_AT_ONCE:
        return torch.cat([attention_output(block) for block in call.blocks()], dim=1)
    shared_by_rows = len(call.segments) > 1 and call.query.shape[0] > 1
    if call.softcap is not None or shared_by_rows:
        return _output_in_chunks(call)
    keys, values = ([segment[side] for segment in call.segments] for side in (0, 1))
    key, value = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2) for parts in (keys, values))
    # What transformers' kernel wrapper reads off an attention module; Falcon's module does not have it.
    geometry: Any = SimpleNamespace(num_key_value_groups=call.query.shape[1] // key.shape[1], is_causal=True)
    output, _ = sdpa_attention_forward(geometry, call.query, key, value, call.mask, scaling=call.scaling)
    return output


def _output_in_chunks(call: AttentionCall) -> Float[Tensor, "row query head dim"]:
    """The same sum without a fused kernel: for soft-capped scores, and for rows that share a trunk (no key is copied)."""
    dtype = call.query.dtype
    parts = []
    columns = call.columns()
    sizes = [segment.key.shape[2] for segment in call.segments]
    for part in call.chunks(columns.shape[1]):
        weights = torch.softmax(call.logits(columns[:, part], dtype), dim=-1, dtype=torch.float32).to(dtype)
        pairs = zip(weights.split(sizes, dim=-1), call.segments, strict=True)
        parts.append(sum(mix_values(share, segment.value) for share, segment in pairs))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def _scores(
    query: Float[Tensor, "row head query dim"], key: Float[Tensor, "row_or_1 kv_head key dim"]
) -> Float[Tensor, "row head query key"]:
    """Query · key for every pair, without expanding grouped or shared keys."""
    (rows, heads, queries, _), kv_heads = query.shape, key.shape[1]
    grouped = query.reshape(rows, kv_heads, -1, query.shape[-1])
    if key.shape[0] == rows:
        return (grouped @ key.mT).reshape(rows, heads, queries, -1)
    merged = grouped.transpose(0, 1).reshape(kv_heads, -1, query.shape[-1])
    scores = (merged @ key[0].mT).reshape(kv_heads, rows, -1, key.shape[2])
    return scores.transpose(0, 1).reshape(rows, heads, queries, -1)


def mix_values(
    weights: Float[Tensor, "row head query key"], value: Float[Tensor, "row_or_1 kv_head key dim"]
) -> Float[Tensor, "row head query dim"]:
    """Weights · values for every query, without expanding grouped or shared values."""
    (rows, heads, queries, keys), kv_heads = weights.shape, value.shape[1]
    grouped = weights.reshape(rows, kv_heads, heads // kv_heads * queries, keys)
    if value.shape[0] == rows:
        return (grouped @ value).reshape(rows, heads, queries, value.shape[-1])
    merged = grouped.transpose(0, 1).reshape(kv_heads, -1, keys)
    mixed = (merged @ value[0]).reshape(kv_heads, rows, -1, value.shape[-1])
    return mixed.transpose(0, 1).reshape(rows, heads, queries, -1)


AttentionInterface.register(ATTENTION, attend)
register_mask(ATTENTION)
