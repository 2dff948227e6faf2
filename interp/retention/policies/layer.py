"""What a policy sees: one layer's queries, keys, values and attention scores, of the prompt and of the steps after it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.models.language.attention import AttentionCall

Reduction = Literal["mean", "sum", "max"]
_WEIGHTS = "weights"


def grouped(
    values: Float[Tensor, "row head *axes"], n_lists: int, reduction: Reduction = "mean"
) -> Float[Tensor, "row list *axes"]:
    """Returns numbers of query heads reduced to `n_lists` lists: one per key-value head, or 1 for the whole layer."""
    parts = values.unflatten(1, (n_lists, values.shape[1] // n_lists))
    if reduction == "max":
        return parts.amax(dim=2)
    return parts.mean(dim=2) if reduction == "mean" else parts.sum(dim=2)


def expanded(values: Tensor, n_heads: int) -> Tensor:
    """Returns numbers of lists (a layer's one, or one per key-value head) for every query head that reads them."""
    return values.repeat_interleave(n_heads // values.shape[1], dim=1)


def precise(values: Tensor) -> Tensor:
    """Returns numbers in float32, or in double precision where they have it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class Prompt:
    """One layer's attention while the prompt was read. It is full: policies act from its end on."""

    layer: int
    dropping: tuple[int, ...]
    """The layers that policies drop keys from, in order: those with keys that see the whole text."""
    calls: Sequence[AttentionCall]
    """The attention calls that read it, one row each, in order."""
    seed: int = 0
    """A number of the text that random policies draw from."""
    delimiters: tuple[int, ...] = ()
    """Positions of tokens without letters and digits."""
    rotation: "Rotation | None" = None
    """How the model turns queries and keys by their position; None where it does not."""
    memory: dict[object, Tensor] = field(default_factory=dict)
    """What a policy has computed once for all its rows."""
    text: "dict[int, Prompt]" = field(default_factory=dict)
    """The same prompt in every layer, by number: all of it has been read before any policy acts."""

    @cached_property
    def n(self) -> int:
        """Number of tokens."""
        return sum(call.query.shape[2] for call in self.calls)

    @cached_property
    def queries(self) -> Float[Tensor, "one head query dim"]:
        """Queries, float32."""
        return precise(torch.cat([call.query for call in self.calls], dim=2))

    @cached_property
    def keys(self) -> Float[Tensor, "one kv_head key dim"]:
        """Keys as the cache holds them, float32."""
        return precise(torch.cat([segment.key for segment in self.calls[-1].segments], dim=2))

    @cached_property
    def values(self) -> Float[Tensor, "one kv_head key value"]:
        """Values, float32."""
        return precise(self.calls[-1].values())

    @property
    def scaling(self) -> float:
        """What the model multiplies q k by."""
        return self.calls[0].scaling

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads."""
        return self.keys.shape[1]

    def logits(self, last: int | None = None) -> Float[Tensor, "one head query key"]:
        """Returns the masked scores of all queries, or of the last ones: float32, -inf where a key is not seen."""
        found, needed = [], self.n if last is None else last
        for call in reversed(self.calls):
            n_queries = call.query.shape[2]
            first = max(0, n_queries - needed)
            columns = torch.arange(first, n_queries, device=call.query.device)[None] if first else None
            scores = call.logits(columns, torch.promote_types(call.query.dtype, torch.float32))
            found.insert(0, pad(scores, (0, self.n - scores.shape[-1]), value=-torch.inf))
            needed -= n_queries
            if needed <= 0:
                break
        return torch.cat(found, dim=2)

    def weights(self, last: int | None = None) -> Float[Tensor, "one head query key"]:
        """Returns the attention weights of all queries, or of the last ones."""
        if last is not None:
            return torch.softmax(self.logits(last), dim=-1)
        if _WEIGHTS not in self.memory:
            self.memory[_WEIGHTS] = torch.softmax(self.logits(), dim=-1)
        return self.memory[_WEIGHTS]

    def forget(self) -> None:
        """Lets go of the weights: those of all layers together are large."""
        self.memory.pop(_WEIGHTS, None)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of some rows that share a prompt: the steps after it, with the model's own scores on all keys."""

    prompt: Prompt
    queries: Float[Tensor, "row head step dim"]
    keys: Float[Tensor, "row kv_head key dim"]
    """Keys of the prompt and of the steps, float32."""
    values: Float[Tensor, "row kv_head key value"]
    logits: Float[Tensor, "row head step key"]
    """Masked scores before the softmax, float32, -inf where a key is not seen."""
    softcap: float | None = None

    @property
    def n_steps(self) -> int:
        """Tokens read after the prompt."""
        return self.logits.shape[2]

    @cached_property
    def weights(self) -> Float[Tensor, "row head step key"]:
        """Attention weights of the steps if every key may be read."""
        return torch.softmax(self.logits, dim=-1)

    @cached_property
    def visible(self) -> Bool[Tensor, "row head step key"]:
        """The keys that the model itself lets each step read."""
        return ~self.logits.isneginf()

    def rows(self, rows: Sequence[int]) -> "Layer":
        """Returns some of the rows."""
        # Rows of one policy stand together: a slice copies nothing.
        together = list(rows) == list(range(rows[0], rows[-1] + 1))
        chosen = slice(rows[0], rows[-1] + 1) if together else list(rows)
        return Layer(
            self.prompt,
            self.queries[chosen],
            self.keys[chosen],
            self.values[chosen],
            self.logits[chosen],
            self.softcap,
        )


@dataclass(frozen=True, eq=False)
class Allowance:
    """How many prompt keys each row may keep, and which it must: the first, the last, and named spans."""

    n: Int[Tensor, " row"]
    first: Int[Tensor, " row"]
    last: Int[Tensor, " row"]
    spans: tuple[tuple[int, int], ...] = ()
    """Token ranges [start, end) that rows with `by_span` protect."""
    by_span: Bool[Tensor, " row"] | None = None

    def protected(self, n_read: int, n_keys: int) -> Bool[Tensor, "row key"]:
        """Returns the keys that must be kept once `n_read` tokens have been read."""
        keys = torch.arange(n_keys, device=self.n.device)
        kept = (keys < self.first[:, None]) | ((keys >= n_read - self.last[:, None]) & (keys < n_read))
        if self.by_span is not None:
            for start, end in self.spans:
                kept = kept | (self.by_span[:, None] & (keys >= start) & (keys < end))
        return kept

    def rows(self, rows: Sequence[int]) -> "Allowance":
        """Returns some of the rows."""
        chosen = list(rows)
        by_span = None if self.by_span is None else self.by_span[chosen]
        return Allowance(self.n[chosen], self.first[chosen], self.last[chosen], self.spans, by_span)


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotary embedding: cosines and sines of every position, halves of a head's dimensions turned against each other."""

    cos: Float[Tensor, "position rotated"]
    sin: Float[Tensor, "position rotated"]
    scale: float = 1.0
    """What turned vectors are lengthened by (YaRN, LongRoPE): cosines and sines hold it."""

    def turned(self, x: Float[Tensor, "... position dim"], positions: Int[Tensor, " position"]) -> Tensor:
        """Returns vectors without rotation as they are at the given positions."""
        return self._apply(x, self.cos[positions], self.sin[positions])

    def unturned(self, x: Float[Tensor, "... position dim"], positions: Int[Tensor, " position"]) -> Tensor:
        """Returns rotated vectors as they were before."""
        cos, sin = self.cos[positions] / self.scale**2, self.sin[positions] / self.scale**2
        return self._apply(x, cos, -sin)

    def mean_matrix(self, start: int, end: int, dim: int) -> Float[Tensor, "dim dim"]:
        """Returns the mean rotation of the positions [start, end) as a matrix that acts on columns."""
        cos, sin = (side[start:end].mean(dim=0) for side in (self.cos, self.sin))
        return self._apply(torch.eye(dim, device=cos.device), cos, sin).T

    def _apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        n = cos.shape[-1]
        part, rest = x[..., :n], x[..., n:]
        first, second = part.chunk(2, dim=-1)
        return torch.cat([part * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)
