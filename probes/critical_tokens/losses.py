"""The cDPO loss of Lin et al. 2024 as it is printed and as their script computes it; the two differ."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cdpo_loss_printed(
    chosen: Float[Tensor, "pair chosen_token"],
    rejected: Float[Tensor, "pair rejected_token"],
    scores: Float[Tensor, "pair rejected_token"],
    *,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Returns −mean ln σ(γ Σ_t c_t − γ Σ_t (1 − s_t) r_t), equations 3 to 5: log-ratios summed over each response.

    `chosen` and `rejected` hold ln π(y_t) − ln π_ref(y_t), 0 at padding; `scores` the contrastive s_t of the rejected one.
    """
    margin = chosen.sum(-1) - ((1 - scores) * rejected).sum(-1)
    return -F.logsigmoid(gamma * margin).mean()


def cdpo_loss_released(
    chosen: Float[Tensor, "pair token"],
    rejected: Float[Tensor, "pair token"],
    scores: Float[Tensor, "pair token"],
    *,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Returns the mean over positions of −ln σ(γ (c_t − (1 − s_t) r_t)), as the public script computes it.

    Position t of the chosen response is set against position t of the rejected one, and padding (0, so ln 2) counts too.
    """
    return -F.logsigmoid(gamma * (chosen - (1 - scores) * rejected)).mean()


def contrastive_score(
    positive: Float[Tensor, "*row vocabulary"], negative: Float[Tensor, "*row vocabulary"], beta: float
) -> Float[Tensor, "*row vocabulary"]:
    """Returns ln s of every token: (1 + β) ln P_pos − β ln P_neg, normalised over the vocabulary (equation 1).

    Takes logits: constants of a position cancel.
    """
    return torch.log_softmax((1 + beta) * positive.double() - beta * negative.double(), dim=-1)
