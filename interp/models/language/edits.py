"""Changes to attention heads while a model runs: output set to zero or to a mean, uniform attention, blocked pairs.

An edit is open on a model inside a `with` block (LanguageModel.edit_heads, LanguageModel.block_attention). All open edits act
together, in any order and nesting: a `uniform` head attends equally to the keys that are not blocked, blocks on one head add up,
and `zero` or `mean` replaces the output. If both `zero` and `mean` are open on one head, the inner one counts.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ArgumentError, UserError, check_choice
from interp.models.language.attention import AttentionCall, Barred
from interp.models.language.hooks import EditPhase, Phase

EditMode = Literal["zero", "mean", "uniform"]


@dataclass(frozen=True, eq=False)
class HeadEdit:
    """Replaces the output of the chosen heads.

    `zero`: the head's part of the output projection's input is 0. `mean`: it is the head's mean (`means`). `uniform`: the
    head attends equally to every key it may see, which is what a zero query does (Wu et al.'s masking script). A first axis
    of 1 in `heads` edits every row alike; otherwise each row of the batch has its own edit, so many conditions run as one
    batch. Raises ArgumentError for an unknown mode or phase, and for means that are missing or not finite.
    """

    heads: Bool[Tensor, "row_or_1 layer head"]
    mode: EditMode
    phase: EditPhase = "both"
    means: Float[Tensor, "layer head dim"] | None = None
    layers: frozenset[int] = field(init=False)
    """The layers in which any head is edited."""

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_choice("mode", self.mode, get_args(EditMode))
        check_choice("phase", self.phase, get_args(EditPhase))
        if self.heads.dtype != torch.bool or self.heads.ndim != 3 or not len(self.heads):
            raise ArgumentError("Heads are a boolean grid [row, layer, head]: give True where a head is edited.")
        if self.mode == "mean":
            self._check_means()
        edited = self.heads.any(dim=2).any(dim=0).nonzero().squeeze(-1).tolist()
        object.__setattr__(self, "layers", frozenset(edited))

    def _check_means(self) -> None:
        if self.means is None:
            raise ArgumentError('Mode "mean" needs means: pass means=model.mean_head_outputs(texts).')
        if self.means.ndim != 3 or self.means.shape[:2] != self.heads.shape[1:] or not self.means.isfinite().all():
            n_layers, n_heads = self.heads.shape[1:]
            raise ArgumentError(
                f"Means are finite numbers [layer, head, dim] for {n_layers} layers of {n_heads} heads, not "
                f"{list(self.means.shape)}: pass means=model.mean_head_outputs(texts)."
            )

    @property
    def n_rows(self) -> int:
        """How many rows have edits of their own; 1 for all alike."""
        return len(self.heads)

    def check(self, n_rows: int) -> None:
        """Raises UserError unless the edit has one row, or as many as the batch."""
        if len(self.heads) not in (1, n_rows):
            raise UserError(
                f"The edit has {len(self.heads)} rows and the batch {n_rows}: give one grid of heads, or one for each row."
            )

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Whether any head of this layer is edited in this phase."""
        return self.phase in ("both", phase) and layer in self.layers

    def evened(self, call: AttentionCall) -> Bool[Tensor, "row_or_1 head"] | None:
        """Returns the uniform heads."""
        return self._chosen(call) if self.mode == "uniform" else None

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns None: every key may be seen."""
        return None

    def replaced(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the heads' outputs as the output projection shall see them."""
        if self.mode == "uniform":
            return output
        chosen = self._chosen(call)[:, None, :, None]
        if self.mode == "zero":
            return output.masked_fill(chosen, 0.0)
        assert self.means is not None
        if self.means.shape[-1] < output.shape[-1]:
            raise ArgumentError(
                f"A head of this model writes {output.shape[-1]} numbers and a mean has {self.means.shape[-1]}: pass "
                "means=model.mean_head_outputs(texts)."
            )
        return torch.where(chosen, self.means[call.layer, :, : output.shape[-1]].to(output), output)

    def _chosen(self, call: AttentionCall) -> Bool[Tensor, "row_or_1 head"]:
        if len(self.heads) == 1:
            return self.heads[:, call.layer].to(call.query.device)
        return self.heads[call.rows.to(self.heads.device), call.layer].to(call.query.device)


@dataclass(eq=False)
class BlockedAttention:
    """Chosen heads may not look from the chosen query positions to the chosen key positions; the rest renormalises.

    Raises ArgumentError for an unknown phase, no keys, no queries, negative positions, and keys that no query may see.
    """

    heads: Bool[Tensor, "layer head"]
    queries: Int[Tensor, " query"] | None
    """Positions of the queries; None means every query."""
    keys: Int[Tensor, " key"]
    phase: EditPhase = "both"
    reached: int = field(default=0, init=False)
    """How many tokens the longest text has that was read in a layer with blocked heads."""
    has_met: bool = field(default=False, init=False)
    """Whether any of the queries was read that comes after one of the keys."""

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_choice("phase", self.phase, get_args(EditPhase))
        for name, positions in (("keys", self.keys), ("queries", self.queries)):
            if positions is None:
                continue
            if not len(positions):
                raise ArgumentError(f"A block needs {name}: give at least one position.")
            if int(positions.min()) < 0:
                raise ArgumentError(
                    f"The {name} of a block are positions from 0 on, not {int(positions.min())}: count from the beginning."
                )
        if self.queries is not None and int(self.keys.min()) > int(self.queries.max()):
            raise ArgumentError(
                f"No query up to position {int(self.queries.max())} sees a key at {int(self.keys.min())} or later: give keys "
                "that come before the queries."
            )

    def check(self, n_rows: int) -> None:
        """A block fits every batch."""

    def check_met(self) -> None:
        """Raises UserError when texts were read and a position was in none of them, or no pair was: the block did nothing."""
        last = max(int(positions.max()) for positions in (self.keys, self.queries) if positions is not None)
        if self.reached and last >= self.reached:
            raise UserError(
                f"Position {last} of the block is in no text that was read while it acted, the longest has {self.reached} tokens: give "
                "positions of the text."
            )
        if self.reached and not self.has_met:
            raise UserError(
                "No query of the block was read while it was open, so it changed nothing: open it before these are read."
            )

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Whether any head of this layer is blocked in this phase."""
        return self.phase in ("both", phase) and bool(self.heads[layer].any())

    def evened(self, call: AttentionCall) -> Bool[Tensor, "row_or_1 head"] | None:
        """Returns None."""
        return None

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns the blocked heads and their pairs."""
        device = call.query.device
        positions = call.starts.to(device)[:, None] + call.columns()
        from_here = (
            torch.ones_like(positions, dtype=torch.bool)
            if self.queries is None
            else torch.isin(positions, self.queries.to(device))
        )
        to_there = torch.isin(call.first_key + torch.arange(call.n_keys, device=device), self.keys.to(device))
        self.reached = max(self.reached, int(positions.max()) + 1)
        if not from_here.any():
            return None
        # A key that a sliding window has dropped was read: a query that no longer sees it is blocked from it all the same.
        self.has_met |= int(positions[from_here].max()) >= int(self.keys.min())
        if not to_there.any():
            return None
        return Barred(self.heads[call.layer].to(device), from_here[:, :, None] & to_there)

    def replaced(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs as they are."""
        return output
