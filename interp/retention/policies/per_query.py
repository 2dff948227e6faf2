"""Policies that choose keys anew for every query from a cache that keeps all of them."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from interp.errors import ArgumentError, check_choice
from interp.experiments.bounds import Count, CountOrNone
from interp.retention.limits import FUTURE
from interp.retention.policies.base import Granularity, Select
from interp.retention.policies.layer import Layer, Prompt, expanded


@dataclass(frozen=True)
class Blocks(Select):
    """Chooses whole blocks of keys by a score of each block; a budget that is no multiple of a block takes part of the last."""

    granularity: ClassVar[Granularity] = "query_head"

    block: Count = 16
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

    dense_layers: CountOrNone = 2
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


@dataclass(frozen=True)
class TokenSelectFree(TokenSelect):
    """The same votes as the code takes them: keys not rotated, queries rotated once to `local`, so every key at one angle."""

    needs_rotation: ClassVar[bool] = True

    local: Annotated[int, Ge(0), Le(FUTURE)] = 512
    """The position that every query is rotated to: the code's local window."""

    def scores(self, layer: Layer) -> Float[Tensor, "row 1 step prompt"]:
        """Returns the votes on keys at one relative position."""
        rotation, n = layer.prompt.rotation, layer.prompt.n
        assert rotation is not None
        places = torch.arange(n + layer.n_steps, device=layer.keys.device)
        keys = rotation.unturned(layer.keys, places)
        queries = rotation.unturned(layer.queries, places[n:])
        queries = rotation.turned(queries, torch.full_like(places[n:], self.local))
        return super().scores(replace(layer, keys=keys, queries=queries))


@dataclass(frozen=True)
class Recycled(Select):
    """The top keys of a full step, read again for the steps after it (Xu et al. 2024, arXiv:2411.05787). Full steps are exact.

    The authors' code could not be had; notes on it have a full step every 50 and, every 5, one if the query has turned (cosine .8).
    """

    stride: Count = 8
    """Steps from one full step to the next; the first step after the prompt is one."""
    refresh: Annotated[float, Ge(-1), Le(1)] = -1.0
    """A step is full as well, at every fifth after one, where its query's cosine with that one's is below this; -1: never."""

    def scores(self, layer: Layer) -> Float[Tensor, "row kv_head step prompt"]:
        """Returns the true weights of the last full step."""
        weights = self.reduced(layer.weights, layer.prompt)[..., : layer.prompt.n]
        queries = normalize(layer.queries.transpose(1, 2).flatten(2), dim=-1)
        rows, last, found = torch.arange(len(queries)), torch.zeros(len(queries), dtype=torch.long), []
        for step in range(layer.n_steps):
            turned = (queries[:, step] * queries[rows, last]).sum(dim=-1).cpu() < self.refresh
            since = step - last
            last = torch.where((since >= self.stride) | (turned & (since % 5 == 0)), step, last)
            found.append(weights[rows, :, last])
        return torch.stack(found, dim=2)


@dataclass(frozen=True)
class Landmark(Blocks):
    """Blocks by the raw score of one key in each (Mohtashami and Jaggi 2023, arXiv:2305.16300), a list for each query head.

    The model is not trained for landmarks: the last delimiter of a block stands in, or its last key where it has none.
    """

    block: Count = 50
    """Keys of a block: the paper's distance between landmarks."""
    by: str = "delimiter"
    """Which key stands for its block: delimiter, last, or mean (of all)."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for a stand-in that is none of the three."""
        super().__post_init__()
        check_choice("landmark", self.by, ("delimiter", "last", "mean"))

    def block_scores(self, layer: Layer, keys: Tensor) -> Float[Tensor, "row head step block"]:
        """Returns q k of the landmarks."""
        if self.by == "mean":
            return layer.queries @ keys.nanmean(dim=3).mT
        n = layer.prompt.n
        chosen = []
        for start in range(0, n, self.block):
            last = min(start + self.block, n) - 1
            marks = [mark for mark in layer.prompt.delimiters if start <= mark <= last]
            chosen.append(marks[-1] if marks and self.by == "delimiter" else last)
        return layer.queries @ expanded(layer.keys[:, :, chosen], layer.queries.shape[1]).mT


@dataclass(frozen=True)
class ActQKV(Blocks):
    """Blocks by cosine with a probe query that tokens enter by how unusual they are (Xiao et al. 2025, arXiv:2502.13542).

    Bias b_ic = (q_ic - mu_c)^2 / (s2_c + mean(s2) / 100), weights w_i = mean_c b_ic / sum, probe sum_i w_i q_i, over the last `window`
    queries; heads concatenated, nothing rotated. As in the code, but: mu and s2 of the prompt, by layer (the code has one set for all
    layers, as `shared` has, and returns even weights for its first 1001 calls); a block's representative is the mean of its keys
    (the code's: of its four best by local score); no question term; equal budgets (the released constants make the code's cut-off
    give equal ones too).
    """

    granularity: ClassVar[Granularity] = "layer"
    needs_rotation: ClassVar[bool] = True

    block: Count = 32
    """Keys of a block."""
    window: Count = 16
    """Last queries that the probe is made of; the paper's execution block is 256."""
    weighted: bool = True
    """Whether unusual tokens weigh more; else all alike."""
    shared: bool = False
    """Whether mu and s2 are those of all layers together."""

    def block_scores(self, layer: Layer, keys: Tensor) -> Float[Tensor, "row 1 step block"]:
        """Returns the cosines of probe and blocks.

        Raises ArgumentError for a prompt that is shorter than the window of the first step.
        """
        rotation, n = layer.prompt.rotation, layer.prompt.n
        assert rotation is not None
        if n < self.window - 1:
            raise ArgumentError(
                f"{type(self).__name__} looks at the last {self.window} queries and the prompt has {n} tokens: give a longer one, or lower "
                "its option window."
            )
        places = torch.arange(n + layer.n_steps, device=keys.device)
        before = self._unturned(layer.prompt)
        after = rotation.unturned(layer.queries, places[n:]).transpose(1, 2).flatten(2)
        known = torch.cat([self._unturned(one) for one in layer.prompt.text.values()], dim=1) if self.shared else before
        mean, variance = known.mean(dim=1), known.var(dim=1)
        queries = torch.cat([before[:, n - self.window + 1 :].expand(len(after), -1, -1), after], dim=1)
        bias = ((queries - mean) ** 2 / (variance + variance.mean() / 100)).mean(dim=-1)
        bias = bias if self.weighted else torch.ones_like(bias)
        windows, weights = queries.unfold(1, self.window, 1), bias.unfold(1, self.window, 1)
        probe = torch.einsum("rscw,rsw->rsc", windows, weights / weights.sum(dim=-1, keepdim=True))
        free = pad(rotation.unturned(layer.keys[:, :, :n], places[:n]), (0, 0, 0, -n % self.block), value=torch.nan)
        blocks = expanded(free, layer.queries.shape[1]).unflatten(2, (-1, self.block)).nanmean(dim=3)
        blocks = blocks.transpose(1, 2).flatten(2)
        return (normalize(probe, dim=-1) @ normalize(blocks, dim=-1).mT)[:, None]

    @staticmethod
    def _unturned(prompt: Prompt) -> Float[Tensor, "one query channel"]:
        """The prompt's queries before rotation, heads concatenated."""
        assert prompt.rotation is not None
        places = torch.arange(prompt.n, device=prompt.queries.device)
        return prompt.rotation.unturned(prompt.queries, places).transpose(1, 2).flatten(2)
