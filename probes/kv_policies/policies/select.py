"""Policies that choose keys anew for every query from a cache that keeps all of them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from probes.kv_policies.policies.base import Granularity, Select
from probes.kv_policies.policies.layer import Layer, expanded


@dataclass(frozen=True)
class Blocks(Select):
    """Chooses whole blocks of keys by a score of each block; a budget that is no multiple of a block takes part of the last."""

    granularity: ClassVar[Granularity] = "query_head"

    block: int = 16
    """Keys of a block."""

    def block_scores(self, layer: Layer, keys: Float[Tensor, "row head block key dim"]) -> Tensor:
        """Returns the score of every block for every step, [row, list, step, block]; short blocks hold NaN keys."""
        raise NotImplementedError

    def scores(self, layer: Layer) -> Float[Tensor, "row head step prompt"]:
        """Returns the score of each key's block."""
        n, n_heads = layer.prompt.n, layer.logits.shape[1]
        keys = pad(layer.keys[:, :, :n], (0, 0, 0, -n % self.block), value=torch.nan)
        blocks = expanded(keys, n_heads).unflatten(2, (-1, self.block))
        return self.block_scores(layer, blocks).repeat_interleave(self.block, dim=-1)[..., :n]


@dataclass(frozen=True)
class Quest(Blocks):
    """Pages by the most that any key in them could score (Tang et al. 2024, arXiv:2406.10774): sum_c max(q_c min_c, q_c max_c).

    A list for each query head, as in the code, which leaves the first two layers dense and reads at least three pages.
    """

    dense_layers: int = 2
    """First layers that read everything."""

    def block_scores(self, layer: Layer, keys: Tensor) -> Float[Tensor, "row head step block"]:
        """Returns the upper bounds."""
        low = keys.nan_to_num(nan=torch.inf).amin(dim=3)
        high = keys.nan_to_num(nan=-torch.inf).amax(dim=3)
        up, down = layer.queries.clamp(min=0), layer.queries.clamp(max=0)
        return up @ high.mT + down @ low.mT

    def is_dense(self, layer: int) -> bool:
        """Whether a layer reads everything."""
        return layer < self.dense_layers


@dataclass(frozen=True)
class TokenSelect(Select):
    """A soft vote of all heads (Wu et al. 2024, arXiv:2411.02886): sum_h softmax_j(q_h k_j), one list for the layer.

    The code takes raw q k, without 1 / sqrt d. Its kernel scores query head h on key-value head h mod n_kv, though head h
    belongs to h div group: `modulo` does the same.
    """

    granularity: ClassVar[Granularity] = "layer"

    scaled: bool = False
    """Whether scores are divided by sqrt d (and soft-capped) as the model's are."""
    modulo: bool = False
    """Whether query heads vote on the key-value heads that the released kernel gives them."""

    def scores(self, layer: Layer) -> Float[Tensor, "row 1 step prompt"]:
        """Returns the votes."""
        n, n_heads = layer.prompt.n, layer.logits.shape[1]
        keys = layer.keys[:, :, :n]
        heads = torch.arange(n_heads, device=keys.device)
        heads = heads % keys.shape[1] if self.modulo else heads // (n_heads // keys.shape[1])
        logits = layer.queries @ keys[:, heads].mT * (layer.prompt.scaling if self.scaled else 1.0)
        return torch.softmax(logits, dim=-1).sum(dim=1, keepdim=True)
