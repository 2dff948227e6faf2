"""Keys and values of what a model has read: rows at their own positions, over a trunk that all rows may share.

Every token keeps the column of its position: rows of different length need no padding, sliding windows are measured
right, and a recorded key index is a token position. Full keys are kept for sliding-window layers too.
"""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DummyLayer

from interp.errors import UserError
from interp.models.language.attention import Segment
from interp.models.language.states import CacheLayout, RowStates, StateLayer, rows_of, set_states, states_of, with_rows


class RowCache(Cache):
    """One transformers cache for a batch of rows.

    `lengths` counts the tokens each row has read, the trunk's included. A forward pass writes its tokens between `begin`
    and `end`; where rows read different numbers of tokens the pass is padded on the right, and what padding wrote is
    neither seen (it lies after every query of its row) nor kept (the row's length does not count it).
    """

    def __init__(self, layout: CacheLayout, lengths: list[int], trunk: dict[int, Segment] | None = None) -> None:
        self.layout = layout
        self.lengths = list(lengths)
        self.trunk = trunk
        """Keys and values, by layer, that all rows share."""
        self.trunk_tokens = next(iter(trunk.values())).key.shape[2] if trunk else 0
        self.capacity = 0
        self.pass_tokens = 0
        self._before: RowStates = {}
        layers = [_layer(self, keys, states) for keys, states in zip(layout.keys, layout.states, strict=True)]
        self.buffers = {place: layer for place, layer in enumerate(layers) if isinstance(layer, _RowLayer)}
        super().__init__(layers=layers)

    @property
    def states(self) -> RowStates:
        """Recurrent and convolution states of all rows."""
        return states_of(self.layers) if self.layout.has_states else {}

    @states.setter
    def states(self, states: RowStates) -> None:
        set_states(self.layers, states)

    @property
    def used(self) -> int:
        """Own columns in use, those of the pass under way included."""
        return max(self.lengths) - self.trunk_tokens + self.pass_tokens

    def reserve(self, n_tokens: int) -> None:
        """Makes room for rows of that many tokens, so that later passes do not copy what is there."""
        self.capacity = max(self.capacity, n_tokens - self.trunk_tokens)

    def begin(self, n_tokens: int) -> None:
        """Announces a pass of that many (padded) tokens per row."""
        self.pass_tokens = n_tokens
        self._before = self.states
        if self.used > self.capacity:
            self.capacity = max(self.used, self.capacity + self.capacity // 4)

    def end(self, n_read: list[int]) -> None:
        """Closes the pass: row i has read n_read[i] more tokens."""
        self._close()
        self.lengths = [length + read for length, read in zip(self.lengths, n_read, strict=True)]

    def abandon(self) -> None:
        """Closes a pass that failed: nothing of it was read."""
        self.states = self._before
        self._close()

    def _close(self) -> None:
        self.pass_tokens, self._before = 0, {}
        for buffer in self.buffers.values():
            buffer.given = None

    def gave(self, layer: int, own: Segment) -> bool:
        """Whether these are the very keys and values that the cache handed out for a layer in the pass under way."""
        given = self.buffers[layer].given
        return given is not None and given.key is own.key and given.value is own.value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns the tokens read before the pass under way (of the longest row).

        Raises UserError when a layer asks it of rows of different length, to compute with it: one number would be wrong.
        """
        if self.pass_tokens and len(set(self.lengths)) > 1 and hasattr(_asking_module(), "layer_idx"):
            raise UserError(
                "This model's attention counts the tokens of a text and takes one number for all rows, so rows of different "
                "length cannot be read together: read them one by one."
            )
        return super().get_seq_length(layer_idx)

    def put(self, row: int, source: "RowCache") -> None:
        """Copies what a single-row cache keeps into one row."""
        self.take([row], source)

    def take(self, rows: Sequence[int], source: "RowCache") -> None:
        """Copies what another cache of the same trunk keeps into some rows."""
        for row, length in zip(rows, source.lengths, strict=True):
            self.lengths[row] = length
        n_rows = len(self.lengths)
        if self.layout.has_states:
            self.states = with_rows(self.states, rows, source.states, n_rows)
        if not source.used:
            return
        self.capacity = max(self.capacity, source.used)
        for layer, sides in source.segments(source.used).items():
            like = [side[:1].expand(n_rows, -1, -1, -1) for side in sides]
            for own, side in zip(self.buffers[layer].with_room(*like), sides, strict=True):
                own[list(rows), :, : source.used] = side
        for layer, buffer in source.buffers.items():
            self.buffers[layer].take_index(rows, n_rows, buffer)

    def select(self, rows: Sequence[int]) -> "RowCache":
        """Returns a cache with copies of the given rows; the trunk stays shared."""
        chosen = RowCache(self.layout, [self.lengths[row] for row in rows], self.trunk)
        chosen.capacity = self.capacity
        chosen.states = rows_of(self.states, rows)
        for layer, source in self.buffers.items():
            buffer = chosen.buffers[layer]
            if source.keys is not None and source.values is not None:
                buffer.keys, buffer.values = source.keys[list(rows)], source.values[list(rows)]
                buffer.is_initialized = True
            if source.index is not None:
                buffer.index = source.index[list(rows)]
        return chosen

    def segments(self, n_columns: int | None = None) -> dict[int, Segment]:
        """Returns, by layer, views of the own keys and values in use; nothing before the first pass."""
        used = self.used if n_columns is None else n_columns
        filled = {layer: (buffer.keys, buffer.values) for layer, buffer in self.buffers.items()}
        return {
            layer: Segment(k[:, :, :used], v[:, :, :used])
            for layer, (k, v) in filled.items()
            if used and k is not None and v is not None
        }


def _layer(cache: RowCache, keys: bool, n_states: int) -> Any:
    """What keeps one layer's part."""
    if keys:
        return _BothLayer(cache, n_states) if n_states else _RowLayer(cache)
    return StateLayer(number_of_states=n_states) if n_states else DummyLayer()


class _RowLayer(CacheLayerMixin):
    """Buffers of one layer: [row, kv_head, capacity, dim]."""

    is_sliding = False

    def __init__(self, cache: RowCache) -> None:
        CacheLayerMixin.__init__(self)
        self.index: Tensor | None = None
        """Keys by which a layer chooses what it attends to, where it does: [row, 1, capacity, dim]."""
        self.given: Segment | None = None
        """What the last update of the pass under way returned."""
        self._cache = weakref.ref(cache)  # a cycle would keep gigabytes until the garbage collector comes by

    @property
    def cache(self) -> RowCache:
        """The cache this layer belongs to."""
        cache = self._cache()
        assert cache is not None
        return cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:  # type: ignore[override]
        """Allocates the buffers, or larger ones that keep what is there."""
        self.keys = self._grown(self.keys, key_states)
        self.values = self._grown(self.values, value_states)
        self.is_initialized = True

    def with_room(self, key: Tensor, value: Tensor) -> Segment:
        """Returns the buffers, allocated or enlarged (like the given tensors) where they are too small."""
        if self.keys is None or self.values is None or self.keys.shape[2] < self.cache.capacity:
            _RowLayer.lazy_initialization(self, key, value)
        assert self.keys is not None
        assert self.values is not None
        return Segment(self.keys, self.values)

    def _grown(self, buffer: Tensor | None, like: Tensor) -> Tensor:
        rows, kv_heads, _, dim = like.shape
        grown = like.new_zeros((rows, kv_heads, self.cache.capacity, dim))
        if buffer is not None:
            grown[:, :, : buffer.shape[2]] = buffer
        return grown

    def update(
        self,
        key_states: Float[Tensor, "row kv_head new dim"],
        value_states: Float[Tensor, "row kv_head new value_dim"],
        *args: Any,
        **options: Any,
    ) -> tuple[Float[Tensor, "row kv_head key dim"], Float[Tensor, "row kv_head key value_dim"]]:
        """Writes the pass's keys and values at each row's own position; returns all own columns in use."""
        keys, values = self.with_room(key_states, value_states)
        self._place(keys, key_states)
        self._place(values, value_states)
        self.given = Segment(keys[:, :, : self.cache.used], values[:, :, : self.cache.used])
        return self.given

    def _place(self, buffer: Tensor, new: Tensor) -> None:
        """Writes new columns at each row's own position."""
        starts = [length - self.cache.trunk_tokens for length in self.cache.lengths]
        if len(set(starts)) == 1:
            buffer[:, :, starts[0] : starts[0] + new.shape[2]] = new
        else:
            buffer.scatter_(2, _columns(starts, new)[:, None, :, None].expand_as(new), new)

    def update_indexer(self, indexer_key_states: Float[Tensor, "row new dim"]) -> Float[Tensor, "row key dim"]:
        """Writes the pass's choosing keys; returns all in use."""
        new = indexer_key_states[:, None]
        if self.index is None or self.index.shape[2] < self.cache.capacity:
            self.index = self._grown(self.index, new)
        self._place(self.index, new)
        return self.index[:, 0, : self.cache.used]

    def take_index(self, rows: Sequence[int], n_rows: int, source: "_RowLayer") -> None:
        """Copies another layer's choosing keys into some rows."""
        if source.index is None:
            return
        used = source.cache.used
        if self.index is None or self.index.shape[2] < self.cache.capacity:
            self.index = self._grown(self.index, source.index[:1].expand(n_rows, -1, -1, -1))
        self.index[list(rows), :, :used] = source.index[:, :, :used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns how many keys a pass sees (trunk and own) and the position of the first."""
        return self.cache.trunk_tokens + self.cache.used, 0

    def get_seq_length(self) -> int:
        """Returns the tokens read before the pass under way (of the longest row)."""
        return max(self.cache.lengths)

    def get_max_length(self) -> int:
        """Returns -1: the buffers grow."""
        return -1


class _BothLayer(StateLayer, _RowLayer):
    """A layer that keeps keys and states."""

    def __init__(self, cache: RowCache, n_states: int) -> None:
        _RowLayer.__init__(self, cache)
        StateLayer.__init__(self, number_of_states=n_states)


def _asking_module() -> nn.Module | None:
    """The module whose forward method asks this cache something: the model itself, or one of its layers."""
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), nn.Module):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["self"]


def _columns(starts: list[int], new: Tensor) -> Int[Tensor, "row new"]:
    first = torch.tensor(starts, device=new.device)[:, None]
    return first + torch.arange(new.shape[2], device=new.device)
