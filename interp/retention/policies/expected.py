"""A policy that drops keys by the queries that are to come."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.experiments.bounds import CountOrNone
from interp.retention.limits import FUTURE
from interp.retention.policies.base import Evict
from interp.retention.policies.layer import Prompt, grouped


@dataclass(frozen=True)
class Expected(Evict):
    """Expected attention of future queries (Devoto et al. 2025, arXiv:2510.00636): exp(k mu / sqrt d + k Sigma k / 2d) |v|.

    mu and Sigma of the prompt's queries before rotation, without the first four, turned by the mean rotation of the next
    positions. kvpress' leaderboard runs AdaKV of it with epsilon .01; this is the bare score.
    """

    needs_rotation: ClassVar[bool] = True

    ahead: Annotated[int, Ge(1), Le(FUTURE)] = 512
    """Future positions that the rotation is averaged over."""
    sinks: CountOrNone = 4
    """First tokens that are always kept, and whose queries do not count."""
    whole: bool = True
    """Whether these keys are in the softmax whose weights are averaged over a group; kvpress leaves them out."""

    @property
    def held(self) -> tuple[int, int]:
        """The sinks."""
        return self.sinks, 0

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns expected weights times the norms of the values.

        Raises ArgumentError for a prompt of nothing but sinks, which has no queries that count.
        """
        if prompt.n <= self.sinks:
            raise ArgumentError(
                f"{type(self).__name__} takes no account of the first {self.sinks} tokens' queries and the prompt has {prompt.n}: give a "
                "longer one, or lower its option sinks."
            )
        assert prompt.rotation is not None
        places = torch.arange(prompt.n, device=prompt.keys.device)
        queries = prompt.rotation.unturned(prompt.queries, places)[:, :, self.sinks :]
        mean = queries.mean(dim=2)
        spread = queries - mean[:, :, None]
        turn = prompt.rotation.mean_matrix(prompt.n, prompt.n + self.ahead, queries.shape[-1])
        mean, spread = mean @ turn.T, spread @ turn.T
        keys = prompt.keys.repeat_interleave(queries.shape[1] // prompt.n_kv_heads, dim=1) * prompt.scaling
        logits = torch.einsum("rhkd,rhd->rhk", keys, mean) + (keys @ spread.mT).square().mean(dim=-1) / 2
        if not self.whole:
            logits[..., : self.sinks] = -torch.inf
        expected = grouped(torch.softmax(logits, dim=-1), prompt.n_kv_heads) * prompt.values.norm(dim=-1)
        return expected.index_fill(-1, torch.arange(self.sinks, device=keys.device), torch.inf)
