"""Looking at attention for chosen query positions: what a head attends to, how much, and what it writes.

A recording is open on a model between the two ends of a `with` (LanguageModel.record). Inside each attention call the
chosen query rows are computed once more in float32 from the very queries and keys of the kernel, handed to the readers,
and dropped: what stays is what the readers return.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.attention import AttentionCall


class AttentionRows:
    """The attention of chosen queries in one layer, each quantity computed on first use."""

    def __init__(
        self,
        call: AttentionCall,
        output: Float[Tensor, "row every_query head dim"],
        columns: Int[Tensor, "row_or_1 chosen"],
        wanted: Int[Tensor, " chosen"],
    ) -> None:
        self.call = call
        self.layer = call.layer
        self.columns = columns
        self.wanted = wanted
        """Where the chosen queries stand in the recording's list of query positions."""
        self._output = output

    @cached_property
    def logits(self) -> Float[Tensor, "row head query key"]:
        """Masked scores before the softmax, float32, -inf where a key may not be seen."""
        return self.call.logits(self.columns, torch.float32)

    @cached_property
    def weights(self) -> Float[Tensor, "row head query key"]:
        """Attention weights, float32; each row sums to one."""
        return torch.softmax(self.logits, dim=-1)

    @cached_property
    def outputs(self) -> Float[Tensor, "row head query dim"]:
        """What each head hands to the output projection, after edits, float32."""
        return torch.take_along_dim(self._output, self.columns[:, :, None, None], dim=1).transpose(1, 2).float()

    @cached_property
    def values(self) -> Float[Tensor, "row kv_head key dim"]:
        """The values of all keys."""
        return self.call.values()


@runtime_checkable
class Reader(Protocol):
    """Turns attention rows into what is kept: named tensors whose first axes are row, head, query."""

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Returns named tensors of these rows."""
        ...


@dataclass(frozen=True)
class TopKeys:
    """`top_position` and `top_logit`, [row, head, query, n]: the `n` most attended key positions and their scores.

    Scores are float32, before the softmax; among equal scores the lowest position comes first.
    """

    n: int = 2

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Finds the largest scores one after the other."""
        logits = rows.logits
        positions, scores = [], []
        for _ in range(self.n):
            position = logits.argmax(dim=-1, keepdim=True)
            positions.append(position)
            scores.append(logits.gather(-1, position))
            logits = logits.scatter(-1, position, -torch.inf)
        return {"top_position": torch.cat(positions, dim=-1), "top_logit": torch.cat(scores, dim=-1)}


@dataclass(frozen=True)
class Weights:
    """`weights`, [row, head, query, n_keys]: whole attention rows, 0 past a pass's last key. For short contexts."""

    n_keys: int

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Pads the rows to one width."""
        weights = rows.weights
        return {"weights": torch.nn.functional.pad(weights, (0, self.n_keys - weights.shape[-1]))}


@dataclass(frozen=True)
class WeightAt:
    """`weight_at`, [row, head, query, n]: attention weight on given key positions of each query (0 where negative).

    The query axis of `keys` is in the order of the recording's queries.
    """

    keys: Int[Tensor, "row_or_1 query n"]

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Gathers the weights."""
        keys = self.keys.to(rows.weights.device)[:, None, rows.wanted]
        return {"weight_at": torch.take_along_dim(rows.weights, keys.clamp(min=0), dim=-1) * (keys >= 0)}


@dataclass(frozen=True)
class HeadOutputs:
    """`head_output`, [row, head, query, dim]: what each head hands to the output projection."""

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Takes the outputs as they are."""
        return {"head_output": rows.outputs}


class Recording:
    """What the readers returned for the wanted query positions, gathered over layers and forward passes."""

    def __init__(self, queries: Int[Tensor, "row query"], readers: tuple[Reader, ...]) -> None:
        self.queries = queries
        self.readers = readers
        self._kept: dict[str, dict[int, Tensor]] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Returns one named result as a tensor on the CPU: [layer, row, head, query, …].

        Where a wanted position was in no forward pass (or is negative: padding) the entries are 0.
        Raises KeyError when nothing of that name was recorded.
        """
        if name not in self._kept:
            raise KeyError(f"{name} was not recorded; recorded: {', '.join(self._kept) or 'nothing yet'}")
        layers = self._kept[name]
        return torch.stack([layers[layer].cpu() for layer in sorted(layers)])

    def look(self, call: AttentionCall, output: Float[Tensor, "row every_query head dim"]) -> None:
        """Reads the wanted queries among those of this call."""
        queries = self.queries.to(call.query.device)
        queries = queries[call.rows] if len(queries) > 1 else queries
        columns = queries - call.starts.to(queries.device)[:, None]
        inside = (queries >= 0) & (columns >= 0) & (columns < call.query.shape[2])
        wanted = inside.any(dim=0).nonzero().squeeze(-1)
        columns = torch.where(inside, columns, 0)[:, wanted]
        for part in call.chunks(len(wanted)):
            rows = AttentionRows(call, output, columns[:, part], wanted[part])
            for reader in self.readers:
                for name, result in reader(rows).items():
                    self._keep(name, call, result, wanted[part], inside[:, wanted[part]])

    def _keep(self, name: str, call: AttentionCall, result: Tensor, wanted: Tensor, inside: Tensor) -> None:
        layers = self._kept.setdefault(name, {})
        if call.layer not in layers:
            n_rows = max(len(self.queries), int(call.rows.max()) + 1)  # the rows may be chosen from a larger batch
            shape = (n_rows, result.shape[1], self.queries.shape[1], *result.shape[3:])
            layers[call.layer] = result.new_zeros(shape)
        kept = layers[call.layer][call.rows]
        here = inside[:, None].view(len(inside), 1, len(wanted), *[1] * (result.ndim - 3))
        kept[:, :, wanted] = torch.where(here, result, kept[:, :, wanted])
        layers[call.layer][call.rows] = kept
