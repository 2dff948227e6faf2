"""A policy of one's own: keys whose values are unlike the others' stay."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from interp.retention.policies.base import Evict
from interp.retention.policies.layer import Prompt


@dataclass(frozen=True)
class OddValues(Evict):
    """Keeps keys by how far their value points away from the mean value of the prompt."""

    power: float = 1.0
    """How much a long value counts beside an odd one."""

    def scores(self, prompt: Prompt) -> Tensor:
        """Returns one score for each key-value head and key: [1, kv_head, key], the larger the better."""
        values = prompt.values
        mean = normalize(values.mean(dim=2, keepdim=True), dim=-1)
        return (1 - (normalize(values, dim=-1) * mean).sum(dim=-1)) * values.norm(dim=-1) ** self.power
