"""What a policy costs a layer, exactly: the mass on kept keys, the change of head outputs, the overlap with the oracle."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.models.language.attention import mix_values
from interp.retention.policies.layer import Layer, expanded, grouped

STEPS_LOOKED_AT = 6
"""Steps, evenly spaced over the scored ones, whose head outputs are compared."""


def mass_recovered(
    weights: Float[Tensor, "row head step key"], keep: Bool[Tensor, "row head step key"]
) -> Float[Tensor, "row head step"]:
    """Returns the share of the full attention's mass that lies on kept keys."""
    return (weights * keep).sum(dim=-1)


def output_change(
    weights: Float[Tensor, "row head step key"],
    keep: Bool[Tensor, "row head step key"],
    values: Float[Tensor, "row kv_head key dim"],
) -> Float[Tensor, "row head step dim"]:
    """Returns the change of a head's output, a vector, when the keys that are not kept are dropped: m / (1 - m) (o - v_D).

    m is the mass on the dropped keys D, v_D their mean value under the attention weights, o the full output. Where nothing is
    dropped it is 0.
    """
    dropped = weights * ~keep
    mass = dropped.sum(dim=-1, keepdim=True)
    output, part = mix_values(weights, values), mix_values(dropped, values)
    return (mass * output - part) / (1 - mass)


def oracle_overlap(
    weights: Float[Tensor, "row head key"], keep: Bool[Tensor, "row head key"], n_kv_heads: int
) -> Float[Tensor, "row kv_head"]:
    """Returns the share of the kept keys that are among as many best ones by the true weights, per key-value head."""
    true = grouped(weights, n_kv_heads)
    kept = grouped(keep.float(), n_kv_heads, "max") > 0
    n = kept.sum(dim=-1, keepdim=True)
    rank = true.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return ((rank < n) & kept).sum(dim=-1) / n.squeeze(-1)


def stand_in_ratio(
    logits: Float[Tensor, "row head step key"],
    scores: Float[Tensor, "row head step key"],
    keep: Bool[Tensor, "row head step key"],
) -> Float[Tensor, "row head"]:
    """Returns the mass of stand-ins over that of the keys they stand for, before any sum to one, mean over steps; NaN without any."""
    gone = logits.masked_fill(keep, -torch.inf).logsumexp(dim=-1)
    stood = scores.masked_fill(keep, -torch.inf).logsumexp(dim=-1)
    return torch.where(stood.isneginf(), torch.nan, (stood - gone).exp()).mean(dim=-1)


@dataclass(eq=False)
class Losses:
    """Watches the layers of one batch of conditions on one text, and keeps what the tables need of them."""

    steps: tuple[int, ...]
    """The steps that are scored: those that predict a scored token."""
    source: tuple[int, int]
    """The prompt's tokens that the scored ones copy."""
    n_prompt: int
    mass: dict[int, Float[Tensor, "row head"]] = field(default_factory=dict)
    change: dict[int, Float[Tensor, "row head"]] = field(default_factory=dict)
    overlap: dict[int, Float[Tensor, "row head"]] = field(default_factory=dict)
    ratio: dict[int, Float[Tensor, "row head"]] = field(default_factory=dict)
    """Mass of stand-ins over that of the keys they stand for; NaN where nothing stands for them."""
    kept: dict[int, Float[Tensor, " row"]] = field(default_factory=dict)
    """Mean number of keys that a head reads at these steps, and the most that any reads."""
    peak: dict[int, Float[Tensor, " row"]] = field(default_factory=dict)
    by_token: dict[int, Float[Tensor, "row prompt"]] = field(default_factory=dict)
    """Share of the heads that read each prompt token at these steps."""
    lost: dict[int, Bool[Tensor, "row source"]] = field(default_factory=dict)
    """Which source tokens no head of the layer reads at any of these steps."""

    def __call__(self, layer: Layer, keep: Bool[Tensor, "row head step key"], scores: Tensor) -> None:
        """Takes one layer, once the steps that are scored have been read."""
        if keep.shape[2] <= max(self.steps):
            return
        number, n_kv_heads = layer.prompt.layer, layer.prompt.n_kv_heads
        chosen = spaced(self.steps)
        weights, seen = torch.softmax(layer.logits[:, :, chosen], dim=-1), keep[:, :, chosen]
        now = torch.softmax(scores[:, :, chosen], dim=-1)
        full = mix_values(weights, layer.values)
        moved = mix_values(now, layer.values) - full
        self.mass[number] = mass_recovered(weights, seen).mean(dim=-1)
        self.change[number] = (moved.norm(dim=-1) / full.norm(dim=-1)).mean(dim=-1)
        self.overlap[number] = expanded(oracle_overlap(weights[:, :, -1], seen[:, :, -1], n_kv_heads), weights.shape[1])
        self.ratio[number] = stand_in_ratio(layer.logits[:, :, chosen], scores[:, :, chosen], seen)
        counts = seen.sum(dim=-1).float()
        self.kept[number], self.peak[number] = counts.mean(dim=(1, 2)), counts.amax(dim=(1, 2))
        prompt = seen[..., : self.n_prompt]
        self.by_token[number] = prompt.float().mean(dim=(1, 2))
        self.lost[number] = ~prompt[..., slice(*self.source)].flatten(1, 2).any(dim=1)


def spaced(steps: tuple[int, ...]) -> list[int]:
    """Returns up to STEPS_LOOKED_AT of the steps, evenly spaced, the first and the last among them."""
    n = min(len(steps), STEPS_LOOKED_AT)
    return [steps[round(place * (len(steps) - 1) / max(1, n - 1))] for place in range(n)]
