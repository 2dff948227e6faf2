"""Recording attention for chosen query positions: where a head attends, how much, and what it outputs.

A recording is open on a model inside a `with` block (LanguageModel.record). In each attention call, the chosen query rows are
recomputed in float32 from the kernel's own queries and keys, passed to the readers, and dropped: only what the readers return
is kept.

Under open edits a recording shows what the model computed: a blocked key has weight 0 and score -inf, and a `uniform` head
equal weights. `zero` and `mean` change a head's output but not its attention: weights and scores stay those of the
head, and `head_output` is zero or the mean.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.attention import AttentionCall


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
        """Masked scores before the softmax, float32, -inf where a key may not be seen; the key axis is positions."""
        scores = self.call.logits(self.columns, torch.float32)
        return torch.nn.functional.pad(scores, (self.call.first_key, 0), value=-torch.inf)

    @cached_property
    def weights(self) -> Float[Tensor, "row head query key"]:
        """Attention weights, float32; each row sums to one, or to what a learned sink leaves of it.

        What a padding query has is what transformers gives it.
        """
        if self.call.padded:
            weights = self.call.weights(self.columns, torch.float32)
            return torch.nn.functional.pad(weights, (self.call.first_key, 0))
        return self.call.softmax(self.logits)

    @cached_property
    def outputs(self) -> Float[Tensor, "row head query dim"]:
        """What each head hands to the output projection, after edits, float32."""
        return torch.take_along_dim(self._output, self.columns[:, :, None, None], dim=1).transpose(1, 2).float()

    @cached_property
    def gate(self) -> Float[Tensor, "row head query dim"]:
        """What each head's mixed values are multiplied by on their way to the output projection; 1 in most families."""
        return self.call.gate(self.columns).transpose(1, 2)

    @cached_property
    def values(self) -> Float[Tensor, "row kv_head key dim"]:
        """The values of all keys; the key axis is positions."""
        return torch.nn.functional.pad(self.call.values(), (0, 0, self.call.first_key, 0))


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

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.n < 1:
            raise ArgumentError(f"TopKeys keeps 1 or more keys, not {self.n}: give a number from 1 on.")

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
    """`weights`, [row, head, query, n_keys]: whole attention rows, 0 past a pass's last key. For short contexts.

    Raises ArgumentError when a query attends to a key past `n_keys`.
    """

    n_keys: int

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.n_keys < 1:
            raise ArgumentError(f"Weights keeps 1 or more keys, not {self.n_keys}: give the length of the text.")

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Pads the rows to one width."""
        weights = rows.weights
        if bool(weights[..., self.n_keys :].any()):
            raise ArgumentError(
                f"Weights({self.n_keys}) has no room for a key at position {self.n_keys} or later: give the length of the text."
            )
        return {"weights": torch.nn.functional.pad(weights, (0, self.n_keys - weights.shape[-1]))}


@dataclass(frozen=True)
class WeightAt:
    """`weight_at`, [row, head, query, n]: attention weight on given key positions of each query (0 where negative).

    The query axis of `keys` is in the order of the recording's queries.
    """

    keys: Int[Tensor, "row_or_1 query n"]

    def __post_init__(self) -> None:
        """Checks the shape."""
        if self.keys.ndim != 3:
            raise ArgumentError(
                f"Keys are positions [row or 1, query, n], not {list(self.keys.shape)}: add what is missing."
            )

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Gathers the weights."""
        keys = self.keys.to(rows.weights.device)
        keys = keys[rows.call.rows] if len(keys) > 1 else keys
        keys = keys[:, None, rows.wanted]
        return {"weight_at": torch.take_along_dim(rows.weights, keys.clamp(min=0), dim=-1) * (keys >= 0)}


@dataclass(frozen=True)
class HeadOutputs:
    """`head_output`, [row, head, query, dim]: what each head hands to the output projection."""

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Takes the outputs as they are."""
        return {"head_output": rows.outputs}


class Recording:
    """What the readers returned for the wanted query positions, gathered over layers and forward passes."""

    def __init__(self, queries: Int[Tensor, "row query"], readers: tuple[Reader, ...], n_layers: int = 0) -> None:
        """Of a model with so many layers; those without heads hold 0 in what is recorded."""
        if queries.ndim != 2 or queries.dtype.is_floating_point or queries.dtype == torch.bool:
            raise ArgumentError(
                f"Queries are positions [row or 1, query], not {list(queries.shape)} of {queries.dtype}: give "
                "torch.tensor([[position, …]])."
            )
        if not readers:
            raise ArgumentError("A recording needs a reader: give TopKeys(1), Weights(n_tokens) or another.")
        for reader in readers:
            if not callable(reader) or isinstance(reader, type):
                raise ArgumentError(
                    f"{reader!r} is no reader: give TopKeys(1), Weights(n_tokens) or a function of rows."
                )
            if isinstance(reader, WeightAt) and reader.keys.shape[1] != queries.shape[1]:
                raise ArgumentError(
                    f"WeightAt has keys for {reader.keys.shape[1]} queries and the recording {queries.shape[1]}: give keys for "
                    "each query."
                )
        self.queries = queries
        self.readers = readers
        self.n_layers = n_layers
        self._kept: dict[str, dict[int, Tensor]] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Returns one named result as a tensor on the CPU: [layer, row, head, query, …].

        Where a wanted position was in no forward pass (or is negative: padding) the entries are 0, and so are those of layers
        without heads. Where layers differ in width, narrower ones are filled up with 0.
        Raises KeyError when nothing of that name was recorded.
        """
        if name not in self._kept:
            raise KeyError(f"{name} was not recorded; recorded: {', '.join(self._kept) or 'nothing yet'}")
        layers = {layer: kept.cpu() for layer, kept in self._kept[name].items()}
        width = max(kept.shape[-1] for kept in layers.values())
        if len({kept.shape[-1] for kept in layers.values()}) > 1:
            layers = {
                layer: torch.nn.functional.pad(kept, (0, width - kept.shape[-1])) for layer, kept in layers.items()
            }
        nothing = torch.zeros_like(next(iter(layers.values())))
        return torch.stack([layers.get(layer, nothing) for layer in range(max(self.n_layers, max(layers) + 1))])

    def check(self, n_rows: int) -> None:
        """Raises UserError unless the queries, and the keys of a reader, have one row or as many as the batch."""
        keys = [len(reader.keys) for reader in self.readers if isinstance(reader, WeightAt)]
        if any(rows not in (1, n_rows) for rows in (len(self.queries), *keys)):
            raise UserError(
                f"The recording has positions for {max(len(self.queries), *keys, 1)} rows and the batch {n_rows} rows: give "
                "one row, or one for each."
            )

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
            _check_scores(rows, inside[:, wanted[part]])
            for reader in self.readers:
                for name, result in reader(rows).items():
                    self._keep(name, call, result, wanted[part], inside[:, wanted[part]])

    def _keep(self, name: str, call: AttentionCall, result: Tensor, wanted: Tensor, inside: Tensor) -> None:
        layers = self._kept.setdefault(name, {})
        if call.layer not in layers:
            n_rows = max(len(self.queries), int(call.rows.max()) + 1)  # the rows may be chosen from a larger batch
            shape = (n_rows, result.shape[1], self.queries.shape[1], *result.shape[3:])
            layers[call.layer] = result.new_zeros(shape)
        missing = int(call.rows.max()) + 1 - len(layers[call.layer])
        if missing > 0:  # a trunk was read before its branches
            layers[call.layer] = torch.cat(
                [layers[call.layer], layers[call.layer].new_zeros((missing, *layers[call.layer].shape[1:]))]
            )
        kept = layers[call.layer][call.rows]
        here = inside[:, None].view(len(inside), 1, len(wanted), *[1] * (result.ndim - 3))
        kept[:, :, wanted] = torch.where(here, result, kept[:, :, wanted])
        layers[call.layer][call.rows] = kept


def _check_scores(rows: AttentionRows, inside: Bool[Tensor, "row query"]) -> None:
    """Raises UserError where what the wanted queries ask with is no number, as in float16 past its range: nobody may ask for logits."""
    query = torch.take_along_dim(rows.call.query, rows.columns[:, None, :, None], dim=2)
    if bool((~query.isfinite().all(dim=-1).all(dim=1) & inside).any()):
        raise UserError(
            f"What layer {rows.call.layer} looks for on this text is not a number in {str(query.dtype).removeprefix('torch.')}: use "
            "--dtype float32, or bfloat16."
        )
