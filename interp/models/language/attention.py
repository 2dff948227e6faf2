"""One layer's attention as it reaches the kernel: queries, keys and values, its scores and weights, and its output.

The output is that of torch's fused kernel wherever it can compute the call: grouped keys are never expanded, and nothing of
size queries × keys is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from interp.errors import UserError

SCORES_AT_ONCE = 2**25
"""Attention scores held at one time when rows are computed outside the fused kernel (128 MB in float32)."""
QUERIES_AT_ONCE = 256
"""Queries of one kernel call when a mask is given: the kernel works on masked keys too, so each call gets none that lie
after its last query. Reading on from a long prefix is a quarter faster for it."""


class Segment(NamedTuple):
    """Keys and values of consecutive tokens; a first axis of 1 is shared by all rows of the batch."""

    key: Float[Tensor, "row_or_1 kv_head key dim"]
    value: Float[Tensor, "row_or_1 kv_head key dim"]


class Barred(NamedTuple):
    """Pairs of query and key that some heads may not use; the rest of their weights renormalises."""

    heads: Bool[Tensor, " head"]
    pairs: Bool[Tensor, "row_or_1 query key"]


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
    first_key: int = 0
    """Position of the first key: a cache of transformers' may have dropped those before it."""
    barred: tuple[Barred, ...] = ()
    scores: Float[Tensor, "row head query key"] | None = None
    """Masked scores that an edit has put in place of query · key: float32, -inf where a key is not seen."""
    sinks: Float[Tensor, " head"] | None = None
    """Learned scores, one a head, that join the softmax and have no value: what they take is lost to the keys."""
    passed: tuple[Tensor, Tensor] | None = None
    """What the kernel made of this call, and what of it enters the output projection before edits; known to recordings."""
    padded: bool = False
    """Whether a query may see nothing at all: padding on the left, in a batch that is given to `hf`."""

    @property
    def n_keys(self) -> int:
        """Number of keys over all segments."""
        return sum(segment.key.shape[2] for segment in self.segments)

    def logits(
        self, columns: Int[Tensor, "column_rows chosen"] | None, dtype: torch.dtype
    ) -> Float[Tensor, "row head chosen key"]:
        """Returns the masked attention scores before the softmax for the chosen query columns, or all (-inf where unseen)."""
        if self.scores is not None:
            return _take_queries(self.scores, columns).to(dtype)
        query = _take_queries(self.query, columns).to(dtype)
        scores = [_scores(query, segment.key.to(dtype)) for segment in self.segments]
        logits = (scores[0] if len(scores) == 1 else torch.cat(scores, dim=-1)) * self.scaling
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        if self.mask is not None and self.mask.dtype != torch.bool:
            logits = logits + _take_queries(self.mask, columns).to(dtype)
        return logits.masked_fill(~self.visible(columns), -torch.inf)

    def weights(
        self, columns: Int[Tensor, "column_rows chosen"] | None, dtype: torch.dtype
    ) -> Float[Tensor, "row head chosen key"]:
        """Returns the attention weights of the chosen query columns, or all, float32 (or double); scores are taken in the given dtype.

        For a query that sees nothing they are what transformers computes: 0 by the fused kernel, and with soft-capped
        scores or a float mask, where every score is the same huge negative number, equal for all keys.
        """
        logits = self.logits(columns, dtype)
        weights = self.softmax(logits)
        if self.padded and self.mask is not None:
            blind = logits.isneginf().all(dim=-1, keepdim=True)
            is_even = self.sinks is None and (self.softcap is not None or self.mask.dtype != torch.bool)
            weights = weights.masked_fill(blind, 1 / self.n_keys if is_even else 0.0)
        return weights

    def softmax(self, logits: Float[Tensor, "row head chosen key"]) -> Float[Tensor, "row head chosen key"]:
        """Returns float32 (or double) weights over the keys; with sinks they sum to 1 minus the sink's share."""
        if self.sinks is None:
            return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        sinks = self.sinks.to(logits)[None, :, None, None].expand(*logits.shape[:-1], 1)
        return torch.softmax(
            torch.cat([logits, sinks], dim=-1), dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)
        )[..., :-1]

    def gate(self, columns: Int[Tensor, "column_rows chosen"]) -> Float[Tensor, "row chosen head dim"]:
        """Returns what each number that a head made is multiplied by before the output projection: 1 where nothing stands
        between, else a gate, or a norm with its scale as it was.

        Raises UserError where more or fewer numbers enter the projection than the heads made.
        """
        assert self.passed is not None
        made, entered = self.passed
        if made.numel() != entered.numel():
            raise UserError("The output projection's input is not the heads' outputs, so they cannot be separated.")
        made, entered = (
            torch.take_along_dim(side.reshape(made.shape), columns[:, :, None, None], dim=1) for side in (made, entered)
        )
        return torch.where(made == 0, 1.0, entered.float() / made.float())

    def visible(
        self, columns: Int[Tensor, "column_rows chosen"] | None
    ) -> Bool[Tensor, "row_or_1 head_or_1 chosen key"]:
        """Returns which keys each chosen query may see."""
        seen = self._visible_by_rule(columns)
        for heads, pairs in self.barred:
            chosen = pairs if columns is None else torch.take_along_dim(pairs, columns[:, :, None], dim=1)
            seen = seen & ~(heads[:, None, None] & chosen[:, None])
        return seen

    def _visible_by_rule(
        self, columns: Int[Tensor, "column_rows chosen"] | None
    ) -> Bool[Tensor, "row_or_1 h chosen key"]:
        if self.mask is not None:
            mask = _take_queries(self.mask, columns)
            return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        columns = self.columns() if columns is None else columns
        n_keys, n_queries = self.n_keys, self.query.shape[2]
        keys = torch.arange(n_keys, device=columns.device)
        # As the kernel aligns them: keys past the last query are empty places of a static cache.
        return keys <= columns[:, None, :, None] + (n_keys - 1 if n_queries == 1 else 0)

    def one_row(self, row: int) -> "AttentionCall":
        """Returns the call of one row by itself, as it was before edits."""

        def own(part: Tensor) -> Tensor:
            return part[row : row + 1] if len(part) > 1 else part

        return AttentionCall(
            self.layer,
            own(self.query),
            own(self.starts),
            torch.zeros_like(self.rows[:1]),
            tuple(Segment(own(segment.key), own(segment.value)) for segment in self.segments),
            None if self.mask is None else own(self.mask),
            self.scaling,
            self.softcap,
            self.first_key,
            sinks=self.sinks,
        )

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
    tensor: Shaped[Tensor, "row_or_1 head_or_1 query last"], columns: Int[Tensor, "column_rows chosen"] | None
) -> Shaped[Tensor, "rows head_or_1 chosen last"]:
    """The tensor at the chosen columns of its query axis; columns may differ between rows."""
    if columns is None:
        return tensor
    return torch.take_along_dim(tensor, columns[:, None, :, None], dim=2)


def attention_output(call: AttentionCall) -> Float[Tensor, "row query head dim"]:
    """Returns softmax(scores) · values for every head, by the fused kernel wherever it can compute this call."""
    if call.scores is not None:
        return _output_in_chunks(call)
    if call.barred:
        return _output_barred(call)
    if call.mask is not None and call.query.shape[2] > QUERIES_AT_ONCE:
        return torch.cat([attention_output(block) for block in call.blocks()], dim=1)
    shared_by_rows = len(call.segments) > 1 and call.query.shape[0] > 1
    if call.softcap is not None or call.sinks is not None or shared_by_rows:
        return _output_in_chunks(call)
    keys, values = ([segment[side] for segment in call.segments] for side in (0, 1))
    key, value = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2) for parts in (keys, values))
    # What transformers' kernel wrapper reads off an attention module; Falcon's module does not have it.
    geometry: Any = SimpleNamespace(num_key_value_groups=call.query.shape[1] // key.shape[1], is_causal=True)
    output, _ = sdpa_attention_forward(geometry, call.query, key, value, call.mask, scaling=call.scaling)
    return output


def _output_barred(call: AttentionCall) -> Float[Tensor, "row query head dim"]:
    """The kernel once for all heads as if nothing was barred, and once more for the heads with barred pairs."""
    free = replace(call, barred=())
    chosen = torch.stack([heads for heads, _ in call.barred]).any(dim=0).nonzero().squeeze(-1)
    if not len(chosen):
        return attention_output(free)
    seen = call._visible_by_rule(call.columns())
    seen = seen if seen.shape[1] == 1 else seen[:, chosen]
    allowed = seen
    for heads, pairs in call.barred:
        alike = bool(heads[chosen].all())  # then one mask serves all chosen heads
        allowed = allowed & ~(pairs[:, None] if alike else heads[chosen][:, None, None] & pairs[:, None])
    if not (allowed.any(dim=-1) | ~seen.any(dim=-1)).all():
        raise UserError(
            "The block leaves a query with no key to attend to: leave each its own position, or one that it selected."
        )
    mask = allowed
    if call.mask is not None and call.mask.dtype != torch.bool:
        bias = call.mask if call.mask.shape[1] == 1 else call.mask[:, chosen]
        mask = bias.masked_fill(~allowed, torch.finfo(bias.dtype).min)
    if len(chosen) == call.query.shape[1]:
        return attention_output(replace(free, mask=mask))
    group = call.query.shape[1] // call.segments[0].key.shape[1]
    segments = tuple(Segment(s.key[:, chosen // group], s.value[:, chosen // group]) for s in call.segments)
    sinks = None if call.sinks is None else call.sinks[chosen]
    output = attention_output(free).clone()
    some = replace(free, query=call.query[:, chosen], segments=segments, mask=mask, sinks=sinks)
    output[:, :, chosen] = attention_output(some)
    return output


def _output_in_chunks(call: AttentionCall) -> Float[Tensor, "row query head dim"]:
    """The same sum without a fused kernel: for soft-capped scores, and for rows that share a trunk (no key is copied)."""
    dtype = call.query.dtype
    parts = []
    columns = call.columns()
    sizes = [segment.key.shape[2] for segment in call.segments]
    for part in call.chunks(columns.shape[1]):
        chosen = columns[:, part]
        weights = call.weights(None if chosen.shape == columns.shape else chosen, dtype).to(dtype)
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
