"""What policies remember of the steps that rows have read after a prompt: scores and queries, in the order of the text.

Rows may stand at different places: each has as many steps as it has read, whatever the others did and however passes were padded.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps from the prompt's end on."""

    logits: Float[Tensor, "row head step key"]
    """Masked scores before the softmax, -inf where a key is not seen."""
    queries: Float[Tensor, "row head step dim"]

    def behind(self, before: "Steps", n_before: Int[Tensor, " row"]) -> "Steps":
        """Returns these steps behind each row's first `n_before` earlier ones.

        Rows with fewer steps than the longest are filled up with ones that come after all of theirs.
        """
        n_keys, n_earlier = self.logits.shape[-1], before.logits.shape[2]
        earlier = before.logits[..., :n_keys]
        earlier = pad(earlier, (0, n_keys - earlier.shape[-1]), value=-torch.inf)
        place = torch.arange(int(n_before.max()) + self.logits.shape[2], device=n_before.device)
        own = (place - n_before[:, None]).clamp(max=self.logits.shape[2])  # the last one: filled up
        index = torch.where(own < 0, place, n_earlier + own)[:, None, :, None]
        sides = ((earlier, self.logits), (before.queries, self.queries))
        logits, queries = (
            torch.take_along_dim(torch.cat([old, pad(new, (0, 0, 0, 1))], dim=2), index, dim=2) for old, new in sides
        )
        return Steps(logits, queries)


@dataclass(frozen=True, eq=False)
class Memory:
    """The steps of all rows of a batch, and how many each row may go back to."""

    steps: Steps
    n_steps: Int[Tensor, " row"]

    def rows(self, rows: Int[Tensor, " chosen"]) -> Steps:
        """Returns the steps of some rows."""
        return Steps(self.steps.logits[rows], self.steps.queries[rows])


def remembered(
    steps: Steps, n_steps: Int[Tensor, " row"], rows: Int[Tensor, " row"], n_rows: int, before: Memory | None
) -> Memory:
    """Returns the memory of a batch of `n_rows` after some of its rows have read on; what the others read stays."""
    sides = []
    for name, blank in (("logits", -torch.inf), ("queries", 0.0)):
        new, old = getattr(steps, name), None if before is None else getattr(before.steps, name)
        size = new.shape[2:] if old is None else [max(pair) for pair in zip(new.shape[2:], old.shape[2:], strict=True)]
        whole = new.new_full((n_rows, new.shape[1], *size), blank)
        if old is not None:
            whole[:, :, : old.shape[2], : old.shape[3]] = old
        whole[rows] = blank
        whole[rows, :, : new.shape[2], : new.shape[3]] = new
        sides.append(whole)
    known = n_steps.new_zeros(n_rows) if before is None else before.n_steps.clone()
    known[rows] = n_steps
    return Memory(Steps(*sides), known)
