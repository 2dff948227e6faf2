"""What every policy is held against: everything, chance, position, the keys alone, and the true attention row."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from interp.experiments.bounds import CountOrNone
from interp.retention.policies.base import (
    Event,
    Evict,
    Granularity,
    Keep,
    Policy,
    Select,
    Semantics,
    best,
    with_new_keys,
)
from interp.retention.policies.layer import Allowance, Layer, Prompt, expanded


@dataclass(frozen=True)
class Full(Policy):
    """Keeps every key: what all else is paired with."""

    semantics: ClassVar[Semantics] = "full"
    event: ClassVar[Event] = "never"
    granularity: ClassVar[Granularity] = "layer"
    budget_rule: ClassVar[str] = "none"

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns everything before and at each step."""
        seen = torch.ones(layer.logits.shape[2:], dtype=torch.bool, device=allowed.n.device)
        return seen.tril(layer.prompt.n).expand(len(allowed.n), 1, -1, -1)


@dataclass(frozen=True)
class Random(Evict):
    """Keys drawn by chance, for every key-value head anew."""

    draw: CountOrNone = 0
    """Number of the draw."""

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns random numbers, drawn from the text, the layer and the number of the draw."""
        generator = np.random.default_rng([prompt.seed, prompt.layer, self.draw])
        drawn = torch.from_numpy(generator.random((1, prompt.n_kv_heads, prompt.n)))
        return drawn.to(prompt.keys)


@dataclass(frozen=True)
class Streaming(Evict):
    """The first tokens and the last (Xiao et al. 2023, arXiv:2309.17453). kvpress keeps 4 first ones, as here."""

    granularity: ClassVar[Granularity] = "layer"

    sinks: CountOrNone = 4
    """First tokens."""

    @property
    def held(self) -> tuple[int, int]:
        """The sinks."""
        return self.sinks, 0

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 1 key"]:
        """Returns positions, the sinks above all."""
        places = torch.arange(prompt.n, device=prompt.keys.device).float()
        places[: self.sinks] += prompt.n
        return places[None, None]

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the position of the new token too."""
        scores = scores.clone()
        scores[..., position] = position
        scores[..., : self.sinks] = scores.shape[-1] + 1
        return scores


@dataclass(frozen=True)
class Strided(Evict):
    """The last tokens for half of the budget, and evenly spaced ones before them for the other half.

    The keep rule that SCOUT's checkpoint tokens suggest, without its linear mixer: no result of SCOUT's.
    """

    granularity: ClassVar[Granularity] = "layer"

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns the last tokens and every so-manieth before them."""
        n = layer.prompt.n
        scores = torch.zeros(len(allowed.n), 1, n, device=allowed.n.device)
        for row, budget in enumerate(allowed.n.tolist()):
            before = n - budget // 2
            scores[row, :, torch.linspace(0, before - 1, budget - budget // 2).long()] = 1.0
            scores[row, :, before:] = 1.0
        return with_new_keys(best(scores, allowed.n, allowed.protected(n, n)), layer.n_steps)


@dataclass(frozen=True)
class KNorm(Evict):
    """Keys of small norm first: -|k| (Devoto et al. 2024, arXiv:2406.11430)."""

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns minus the norms of the keys."""
        return -prompt.keys.norm(dim=-1)


@dataclass(frozen=True)
class KeyDiff(Evict):
    """Keys unlike the others first: -cos(k, mean of the normalised keys) (Park et al. 2025, arXiv:2504.15364).

    On the keys as the cache holds them, rotated, as kvpress does.
    """

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns minus the cosines."""
        keys = normalize(prompt.keys, dim=-1)
        return -(keys * normalize(keys.mean(dim=2, keepdim=True), dim=-1)).sum(dim=-1)


@dataclass(frozen=True)
class Oracle(Select):
    """The n prompt keys with the largest true attention of each step (mean over the heads that share a key-value head).

    The most mass that any list of n keys for each key-value head can recover; not the least harm to the output.
    """

    def scores(self, layer: Layer) -> Float[Tensor, "row kv_head step prompt"]:
        """Returns the true weights."""
        return self.reduced(layer.weights, layer.prompt)[..., : layer.prompt.n]


@dataclass(frozen=True)
class OracleHeads(Oracle):
    """The same for every query head by itself: what sparse attention without a cache to share may read."""

    granularity: ClassVar[Granularity] = "query_head"


@dataclass(frozen=True)
class HeadSplit(Evict):
    """The whole prompt for some key-value heads, the first and last tokens for all others (DuoAttention, arXiv:2410.10819).

    Heads are those that a run has found, or random ones; the paper's come from gates that are trained. The budget is what
    the other heads keep.
    """

    budget_rule: ClassVar[str] = "heads_not_spared"

    heads: tuple[tuple[int, int], ...] = ()
    """(layer, key-value head) pairs that keep everything."""
    sinks: CountOrNone = 4
    """First tokens of the other heads."""

    @property
    def held(self) -> tuple[int, int]:
        """The sinks."""
        return self.sinks, 0

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns the scores of `Streaming`."""
        return expanded(Streaming(sinks=self.sinks).scores(prompt), prompt.n_kv_heads)

    def allotted(self, scores: Tensor, allowed: Allowance, prompt: Prompt) -> Tensor:
        """Returns every key for the chosen heads and the budget for the others."""
        whole = torch.tensor([(prompt.layer, head) in self.heads for head in range(prompt.n_kv_heads)])
        return torch.where(whole.to(allowed.n.device), prompt.n, allowed.n[:, None])
