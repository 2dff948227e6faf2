"""Logit-contribution scores: how much what a head takes from the needle raises the token being written.

LOCOS (Gema, Alex, Minervini 2026, arXiv:2607.01002). For an answer step that writes token y,
φ[j, head] = weight[j] · (d · W_O v_j); the score is Σ φ over the needle minus n / N_off times Σ φ elsewhere: n times the
difference of the mean φ inside and outside. Sums need no φ of single positions: Σ over all positions is d · (head output),
and Σ over the needle is d · W_O Σ weight_j v_j.

Two definitions of d: `locos` is the published one, the raw unembedding row of y; `direct` is exact, with the final norm and
the norms after attention at their values in the pass, so that all parts of the model add up to the logit.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.attention import mix_values
from interp.models.logit_directions import LogitDirections, Scales
from interp.models.recording import AttentionRows


class ContributionReader:
    """`locos` and `direct`, [row, head, query, 2]: the sums of φ over the needle and over all positions.

    `direct` is still to be divided by the norms' scales (divide_by_scales). `emitted` is the token each recorded query goes
    on to write, `needle` the positions of the needle's tokens (-1: none); both have one line per row of the batch.
    """

    def __init__(
        self, directions: LogitDirections, emitted: Int[Tensor, "row query"], needle: Int[Tensor, "row n"]
    ) -> None:
        self.directions = directions
        self.needle = needle
        self.toward = {"locos": directions.unembedding(emitted), "direct": directions.frozen(emitted)}

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Reads one layer."""
        real = (self.needle >= 0).to(rows.weights.device)
        needle = self.needle.clamp(min=0).to(rows.weights.device)
        weights = torch.take_along_dim(rows.weights, needle[:, None, None, :], dim=-1) * real[:, None, None, :]
        values = torch.take_along_dim(rows.values, needle[:, None, :, None], dim=2).float()
        parts = (mix_values(weights, values), rows.outputs)
        found = {}
        for name, direction in self.toward.items():
            wanted = direction[:, rows.wanted.to(direction.device)]
            toward = self.directions.to_head(rows.layer, wanted, through_norm=name == "direct")
            found[name] = torch.stack([(part * toward.to(part.device)).sum(dim=-1) for part in parts], dim=-1)
        return found


def contribution_scores(
    sums: Float[Tensor, "layer head step two"],
    n_needle: int,
    n_keys: Int[Tensor, " step"],
    answer: Bool[Tensor, " step"],
) -> Float[Tensor, "layer head"]:
    """Returns each head's score on one sample, the mean over its answer steps; NaN when it has none.

    `sums` holds Σ φ over the needle and over all positions, `n_keys` how many positions each step could see.
    """
    inside, total = sums.double().unbind(dim=-1)
    outside = total - inside
    score = inside - outside * n_needle / (n_keys - n_needle)
    return score[..., answer].mean(dim=-1) if bool(answer.any()) else torch.full_like(score[..., 0], torch.nan)


def divide_by_scales(
    sums: Float[Tensor, "layer row head step two"], scales: Scales
) -> Float[Tensor, "layer row head step two"]:
    """Returns the `direct` sums in logits: over the final norm's scale and that of each layer's norm after attention."""
    final = torch.cat(scales.final, dim=1).cpu()[None, :, None, :, None]
    sums = sums / final
    for layer, scale in scales.after_attention.items():
        sums[layer] = sums[layer] / scale.cpu()[:, None, :, None]
    return sums
