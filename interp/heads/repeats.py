"""Echo and induction scores on repeated random tokens: heads found without any text.

RazorAttention (Tang et al. 2024, arXiv:2407.15891): random tokens are repeated; for every query from the second copy on, the
weight on the earlier occurrences of the same token is its echo score, the weight on the tokens after them its induction
score, both averaged over queries. Only those few diagonals are read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.recording import WeightAt

INDUCTION_SHARE, ECHO_SHARE = 0.14, 0.01
"""Shares of key-value heads that RazorAttention keeps by each score (msmodelslim's defaults)."""


def ordinary_tokens(tokenizer: Any) -> list[int]:
    """Returns the ids that are not special."""
    special = set(tokenizer.all_special_ids)
    return [token for token in range(len(tokenizer)) if token not in special]


def repeated_tokens(
    vocabulary: Sequence[int], *, block_tokens: int, repeats: int, prefix: Sequence[int], generator: np.random.Generator
) -> list[int]:
    """Returns the prefix and one block of random tokens, drawn with replacement, repeated."""
    block = generator.choice(np.asarray(vocabulary), size=block_tokens).tolist()
    return [*prefix, *(block * repeats)]


def earlier_positions(
    *, block_tokens: int, repeats: int, n_prefix: int
) -> tuple[Int[Tensor, "1 query"], Int[Tensor, "1 query twice"]]:
    """Returns the queries from the second copy on, and for each the earlier places of its token, then those after them.

    Places that do not exist are -1.
    """
    queries = torch.arange(n_prefix + block_tokens, n_prefix + block_tokens * repeats)
    steps = torch.arange(1, repeats)
    same = queries[:, None] - steps * block_tokens
    same = torch.where(same >= n_prefix, same, -1)
    after = torch.where(same >= 0, same + 1, -1)
    return queries[None], torch.cat([same, after], dim=-1)[None]


def echo_and_induction(
    weights: Float[Tensor, "layer head query twice"],
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """Returns both scores from the weights at `earlier_positions`: summed over places, averaged over queries."""
    half = weights.shape[-1] // 2
    mass = weights.double()
    return mass[..., :half].sum(dim=-1).mean(dim=-1), mass[..., half:].sum(dim=-1).mean(dim=-1)


def measured_echo_induction(
    model: LanguageModel, ids: Sequence[int], *, block_tokens: int, repeats: int
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """Returns the echo and induction scores of every head on tokens as `repeated_tokens` returns them, 0 to 1."""
    n_prefix = len(ids) - block_tokens * repeats
    queries, keys = earlier_positions(block_tokens=block_tokens, repeats=repeats, n_prefix=n_prefix)
    with model.record(queries, WeightAt(keys)) as recording:
        model.prefix(ids)
    echo, induction = echo_and_induction(recording["weight_at"][:, 0])
    return echo.clamp(0, 1), induction.clamp(0, 1)
