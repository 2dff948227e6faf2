"""Policies that drop keys and let a stand-in speak for them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ArgumentError, check_choice
from interp.experiments.bounds import CountOrNone
from interp.retention.policies.base import Keep, Pool, best, with_new_keys
from interp.retention.policies.baselines import HeadSplit
from interp.retention.policies.layer import Allowance, Layer, expanded


def dropped(layer: Layer, keep: Keep) -> Bool[Tensor, "row head step key"]:
    """Returns the keys that the model would let each step read and the policy does not."""
    return layer.visible & ~expanded(keep, layer.logits.shape[1])


def uncapped(scores: Tensor, softcap: float | None) -> Tensor:
    """Returns scores as they were before the soft cap: those of a mean key are means of these."""
    if softcap is None:
        return scores
    return softcap * torch.atanh((scores / softcap).clamp(-1 + 1e-6, 1 - 1e-6))


def capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Returns scores under the soft cap."""
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


@dataclass(frozen=True)
class Razor(Pool):
    """Some heads whole; the others keep first and last tokens and one compensation token (Tang et al. 2024, arXiv:2407.15891).

    Its key and value are the means of the N dropped ones and its score gets + log N. By Jensen it never has more mass than
    they had: N e^(q mean k) <= sum e^(q k). Heads: the best 14 % by induction and 1 % by echo score. The authors published no
    code; their buffer (4000 tokens, or a fifth of the text) is longer than a whole text here: the budget is what others keep.
    """

    budget_rule: ClassVar[str] = "heads_not_spared"

    heads: tuple[tuple[int, int], ...] = ()
    """(layer, key-value head) pairs that keep everything."""
    sinks: CountOrNone = 4
    """First tokens of the other heads."""
    compensate: bool = True
    """Whether the dropped tokens get their compensation token."""

    @property
    def held(self) -> tuple[int, int]:
        """The sinks."""
        return self.sinks, 0

    def n_stand_ins(self, budget: int) -> int:
        """One compensation token."""
        return int(self.compensate)

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns what `HeadSplit` keeps."""
        return HeadSplit(heads=self.heads, sinks=self.sinks).keep(layer, allowed)

    def stand_ins(self, layer: Layer, keep: Keep) -> Float[Tensor, "row head step key"]:
        """Returns the mean score of the dropped keys for each of them."""
        gone = dropped(layer, keep)
        raw = uncapped(layer.logits, layer.softcap).masked_fill(~gone, 0.0)
        mean = capped(raw.sum(dim=-1, keepdim=True) / gone.sum(dim=-1, keepdim=True).clamp(min=1), layer.softcap)
        nothing = torch.full_like(layer.logits, -torch.inf)
        return torch.where(gone, mean, nothing) if self.compensate else nothing


@dataclass(frozen=True)
class Core(Pool):
    """The last tokens, and one core token for each group before them (Core Context Aware attention, Chen et al. 2024,
    arXiv:2412.12465), untrained: the paper fine-tunes for it, so this is none of its results.

    A core token is the mean of its group, weighted by the group's last query; half of the budget is for the last tokens, the other
    half for cores, which sets the size of groups. Keys are pooled rotated, at their own positions.
    """

    budget_rule: ClassVar[str] = "half_as_stand_ins"

    pool: str = "last_query"
    """What weighs a group's tokens: last_query, or mean (all alike)."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for a pool that is none of the two."""
        super().__post_init__()
        check_choice("pool", self.pool, ("last_query", "mean"))

    @property
    def least(self) -> int:
        """One last token and one core."""
        return 2

    def n_own(self, budget: int) -> int:
        """Half of it."""
        return budget // 2

    def n_stand_ins(self, budget: int) -> int:
        """As many cores as tokens are kept."""
        return budget // 2

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns the last tokens: half of the budget.

        Raises ArgumentError where that half has no room for what is protected.
        """
        n, n_lists = layer.prompt.n, self.n_lists(layer.prompt)
        protected = allowed.protected(n, n)
        if bool((protected.sum(dim=-1) > allowed.n // 2).any()):
            raise ArgumentError(
                f"cca keeps tokens with half of its budget, and {int(protected.sum(dim=-1).max())} are protected: raise --budgets or "
                "protect fewer."
            )
        places = torch.arange(n, device=allowed.n.device).float().expand(len(allowed.n), n_lists, -1)
        kept = best(places, allowed.n // 2, protected)
        return with_new_keys(kept, layer.n_steps)

    def stand_ins(self, layer: Layer, keep: Keep) -> Float[Tensor, "row head step key"]:
        """Returns, for each dropped key, its core token's score and the logarithm of its weight in it."""
        gone, raw = dropped(layer, keep), uncapped(layer.logits, layer.softcap)
        prompt, found = layer.prompt.logits()[0], torch.full_like(raw, -torch.inf)
        for row in range(len(gone)):
            places = gone[row, 0, 0].nonzero().squeeze(-1)
            if not len(places):
                continue
            n_cores = min(len(places), max(1, int(keep[row, 0, 0, : layer.prompt.n].sum())))
            groups = [len(group) for group in places.tensor_split(n_cores)]
            sizes = torch.tensor(groups, device=raw.device)
            member = torch.eye(n_cores).to(raw).repeat_interleave(sizes, dim=0)
            last = places[sizes.cumsum(0) - 1].repeat_interleave(sizes)
            votes = prompt[:, last, places] if self.pool == "last_query" else raw.new_zeros(1, len(places))
            shares = torch.cat([part.softmax(dim=-1) for part in votes.split(groups, dim=-1)], dim=-1)[:, None]
            cores = capped((raw[row][..., places] * shares) @ member, layer.softcap)
            found[row][..., places] = cores @ member.T + shares.log()
        return found
