"""Changes to attention heads while a model runs: output set to zero or to a mean, uniform attention, blocked pairs.

An edit is open on a model between the two ends of a `with` (LanguageModel.edit_heads, LanguageModel.block_attention);
edits nest, and the inner one sees what the outer one left.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UserError
from interp.models.attention import AttentionCall, Phase, Segment, attention_output

EditMode = Literal["zero", "mean", "uniform"]
EditPhase = Literal["both", "prefill", "decode"]


@dataclass(frozen=True, eq=False)
class HeadEdit:
    """Replaces what the chosen heads write.

    `zero`: the head's output is 0. `mean`: it is the head's mean output (`means`). `uniform`: the head attends equally to
    every key it may see, which is what a zero query does (Wu et al.'s masking script). A first axis of 1 in `heads` edits
    every row alike; otherwise each row of the batch has its own edit, so many conditions run as one batch.
    """

    heads: Bool[Tensor, "row_or_1 layer head"]
    mode: EditMode
    phase: EditPhase = "both"
    means: Float[Tensor, "layer head dim"] | None = None

    def applies(self, layer: int, phase: Phase) -> bool:
        """Whether any head of this layer is edited in this phase."""
        return self.phase in ("both", phase) and bool(self.heads[:, layer].any())

    def before(self, call: AttentionCall) -> AttentionCall:
        """Returns the call the kernel should compute."""
        if self.mode != "uniform":
            return call
        chosen = self._chosen(call)[:, :, None, None]
        mask = call.mask
        if mask is not None and mask.dtype != torch.bool:
            unseen = torch.zeros_like(mask).masked_fill(~call.visible(call.columns()), torch.finfo(mask.dtype).min)
            mask = torch.where(chosen, unseen, mask)
        return replace(call, query=call.query.masked_fill(chosen, 0.0), mask=mask)

    def after(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the heads' outputs as the rest of the model shall see them."""
        if self.mode == "uniform":
            return output
        chosen = self._chosen(call)[:, None, :, None]
        if self.mode == "zero":
            return output.masked_fill(chosen, 0.0)
        if self.means is None:
            raise ValueError("mode 'mean' needs means: LanguageModel.mean_head_outputs gives them")
        return torch.where(chosen, self.means[call.layer].to(output), output)

    def _chosen(self, call: AttentionCall) -> Bool[Tensor, "row_or_1 head"]:
        if len(self.heads) == 1:
            return self.heads[:, call.layer].to(call.query.device)
        if int(call.rows.max()) >= len(self.heads):
            raise ValueError(f"the edit has {len(self.heads)} rows and the batch more: give one row or as many")
        return self.heads[call.rows.to(self.heads.device), call.layer].to(call.query.device)


@dataclass(frozen=True, eq=False)
class BlockedAttention:
    """Chosen heads may not look from the chosen query positions to the chosen key positions; the rest renormalises."""

    heads: Bool[Tensor, "layer head"]
    queries: Int[Tensor, " query"] | None
    """Positions of the queries; None means every query."""
    keys: Int[Tensor, " key"]
    phase: EditPhase = "both"

    def applies(self, layer: int, phase: Phase) -> bool:
        """Whether any head of this layer is blocked in this phase."""
        return self.phase in ("both", phase) and bool(self.heads[layer].any())

    def before(self, call: AttentionCall) -> AttentionCall:
        """Returns the call unchanged: the fast kernel serves the heads that are not blocked."""
        return call

    def after(
        self, call: AttentionCall, output: Float[Tensor, "row query head dim"]
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs with the blocked heads computed anew under their own mask."""
        chosen = self.heads[call.layer].nonzero().squeeze(-1).to(call.query.device)
        seen = call.visible(call.columns())
        seen = seen if seen.shape[1] == 1 else seen[:, chosen]
        allowed = seen & ~self._blocked(call)
        if not allowed.any(dim=-1).all():
            raise UserError("The block leaves a query with no key to attend to: leave each query its own position.")
        group = call.query.shape[1] // call.segments[0].key.shape[1]
        blocked_heads = replace(
            call,
            query=call.query[:, chosen],
            segments=tuple(Segment(s.key[:, chosen // group], s.value[:, chosen // group]) for s in call.segments),
            mask=self._mask_of(call, chosen, allowed),
        )
        output = output.clone()
        output[:, :, chosen] = attention_output(blocked_heads)
        return output

    def _blocked(self, call: AttentionCall) -> Bool[Tensor, "row 1 query key"]:
        device = call.query.device
        positions = call.starts.to(device)[:, None] + call.columns()
        from_here = (
            torch.ones_like(positions, dtype=torch.bool)
            if self.queries is None
            else torch.isin(positions, self.queries.to(device))
        )
        to_there = torch.isin(torch.arange(call.n_keys, device=device), self.keys.to(device))
        return (from_here[:, :, None] & to_there)[:, None]

    @staticmethod
    def _mask_of(call: AttentionCall, chosen: Int[Tensor, " head"], allowed: Bool[Tensor, "row h query key"]) -> Tensor:
        if call.mask is None or call.mask.dtype == torch.bool:
            return allowed
        bias = call.mask if call.mask.shape[1] == 1 else call.mask[:, chosen]
        return bias.masked_fill(~allowed, torch.finfo(bias.dtype).min)
