"""How the layers of a model keep what they have read: keys and values, recurrent and convolution states, both, or nothing.

transformers' own cache for a configuration says which. States are replaced and never written into, so that what stood before a
pass, or at the end of one, is still there for as long as somebody holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicIndexedLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

Limit = Literal["copies", "level", "single", "whole"]
"""`copies`: branches get copies of the keys of a common beginning, since the model changes keys once they are kept (latents that
are projected anew). `level`: rows that stand at different places are read apart. `single`: tokens are read one by one behind a
state. `whole`: nothing is kept, every text is read whole."""


@dataclass(frozen=True)
class CacheLayout:
    """What each layer keeps, and how it may be read on."""

    keys: tuple[bool, ...]
    """Per layer, whether it keeps keys and values."""
    states: tuple[int, ...]
    """Per layer, how many pairs of states it keeps."""
    limits: frozenset[Limit] = frozenset()
    """What the model does not allow; the check at load finds out."""

    @classmethod
    def of_keys(cls, n_layers: int) -> "CacheLayout":
        """Returns the layout of a model with attention in every layer."""
        return cls((True,) * n_layers, (0,) * n_layers)

    @property
    def has_states(self) -> bool:
        """Whether any layer keeps states."""
        return any(self.states)


def cache_layout(config: PreTrainedConfig, n_layers: int) -> CacheLayout:
    """Returns what the layers of a model keep, as transformers' cache for its configuration has it."""
    try:
        layers: list[Any] = DynamicCache(config=config).layers
    except (KeyError, TypeError, AttributeError):  # a family whose cache has layers of its own
        layers = []
    if len(layers) != n_layers:
        return CacheLayout.of_keys(n_layers)
    keys = tuple(isinstance(layer, CacheLayerMixin) for layer in layers)
    states = tuple(
        layer.number_of_states if isinstance(layer, LinearAttentionCacheLayerMixin) else 0 for layer in layers
    )
    chooses = any(isinstance(layer, DynamicIndexedLayer) for layer in layers)
    return CacheLayout(keys, states, frozenset(("copies",)) if chooses else frozenset())


RowStates = dict[tuple[int, str, int], Tensor]
"""States of some rows by layer, kind and number."""


class StateLayer(LinearAttentionLayer):
    """States of one layer; the first axis is rows."""

    def update_conv_state(
        self, conv_states: Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **_: Any
    ) -> Tensor:
        """Returns what the convolution shall see, the kept columns before the new ones, and keeps the last columns."""
        before = self.conv_states[state_idx]
        if before is not None:
            whole = torch.cat([before, conv_states], dim=-1)
            width = before.shape[-1]
        else:
            width = conv_states.shape[-1] if conv_kernel_size is None else conv_kernel_size
            whole = torch.nn.functional.pad(conv_states, (max(0, width - conv_states.shape[-1]), 0))
        self.put("conv", state_idx, whole[..., -width:].clone())
        return whole

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **_: Any) -> Tensor:
        """Keeps a state, and returns it."""
        self.put("recurrent", state_idx, recurrent_states.clone())
        return recurrent_states

    def put(self, kind: str, number: int, state: Tensor | None) -> None:
        """Puts a state in the place of what was kept; None is what a layer begins with."""
        is_conv = kind == "conv"
        (self.conv_states if is_conv else self.recurrent_states)[number] = state
        (self.is_conv_states_initialized if is_conv else self.is_recurrent_states_initialized)[number] = (
            state is not None
        )
        self.has_previous_state[number] = any(
            states[number] is not None for states in (self.conv_states, self.recurrent_states)
        )
        if is_conv and state is not None:
            self.conv_kernel_size[number] = state.shape[-1]
        if state is not None:
            self.dtype, self.device = state.dtype, state.device


def states_of(layers: Sequence[Any]) -> RowStates:
    """Returns the states of all rows, as they stand."""
    found: RowStates = {}
    for place, layer in enumerate(layers):
        if isinstance(layer, StateLayer):
            for kind, states in (("conv", layer.conv_states), ("recurrent", layer.recurrent_states)):
                found |= {(place, kind, number): state for number, state in states.items() if state is not None}
    return found


def set_states(layers: Sequence[Any], states: RowStates) -> None:
    """Makes these the states of all rows; layers that are not named begin anew."""
    for place, layer in enumerate(layers):
        if isinstance(layer, StateLayer):
            for number in range(layer.number_of_states):
                for kind in ("conv", "recurrent"):
                    layer.put(kind, number, states.get((place, kind, number)))


def rows_of(states: RowStates, rows: Sequence[int]) -> RowStates:
    """Returns the states of some rows, or of one row several times."""
    return {name: state[list(rows)] for name, state in states.items()}


def with_rows(states: RowStates, rows: Sequence[int], others: RowStates, n_rows: int) -> RowStates:
    """Returns the states with those of some rows replaced; what one side does not have is zero, as before the first token."""
    found: RowStates = {}
    for name in states.keys() | others.keys():
        whole, part = states.get(name), others.get(name)
        if whole is None:
            assert part is not None
            whole = part.new_zeros((n_rows, *part.shape[1:]))
        whole = whole.clone()
        whole[list(rows)] = torch.zeros_like(whole[list(rows)]) if part is None else part
        found[name] = whole
    return found
