"""Finding heads by where they look: those that copy an answer, and those that look back when random tokens are repeated.

RazorAttention (Tang et al. 2024, arXiv:2407.15891): for every query from the second copy of random tokens on, the weight on the
earlier occurrences of the same token is its echo score, the weight on the tokens after them its induction score, both averaged over
queries. Only those few diagonals are read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.recording import TopKeys, WeightAt

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


Head = tuple[int, int]
"""A layer and a query head in it."""
BLOCK_TOKENS, REPEATS = 64, 4
"""Random tokens that are repeated (RazorAttention: 2500, four times)."""


def copied_share(
    model: LanguageModel, ids: Sequence[int], queries: Sequence[int], source: tuple[int, int]
) -> Float[Tensor, "layer head"]:
    """Returns the share of an answer's tokens that each head copies, teacher-forced: its top key is that very token of the source.

    `queries` are the positions before the answer's tokens, `source` the token range [start, end) that they copy.
    """
    with model.record(torch.tensor([list(queries)]), TopKeys(1)) as recording:
        model.prefix(ids)
    looked = recording["top_position"][:, 0, :, :, 0]
    wanted = torch.arange(*source)
    n = min(len(wanted), looked.shape[-1])
    return (looked[..., :n] == wanted[:n]).float().mean(dim=-1)


def repeat_weights(
    model: LanguageModel, lead: Sequence[int], key: Sequence[int]
) -> dict[str, Float[Tensor, "layer head"]]:
    """Returns mean weights on repeated random tokens: `echo`, on earlier places of the same token, and `induction`, behind these.

    Both are summed over the earlier places. The tokens are drawn from the key.
    """
    sizes = {"block_tokens": BLOCK_TOKENS, "repeats": REPEATS}
    ids = repeated_tokens(
        ordinary_tokens(model.tokenizer), prefix=lead, generator=np.random.default_rng(list(key)), **sizes
    )
    echo, induction = measured_echo_induction(model, ids, **sizes)
    return {"induction": induction, "echo": echo}


def role_rows(model: LanguageModel, text_id: str, role: str, scores: Float[Tensor, "layer head"]) -> pd.DataFrame:
    """Returns one row for each head, none for layers without heads: text_id, layer, head, kv_head, role, score."""
    geometry = model.geometry
    scores = scores[list(geometry.layers)]
    layer = np.repeat(geometry.layers, geometry.n_heads)
    head = np.tile(np.arange(geometry.n_heads), len(geometry.layers))
    return pd.DataFrame(
        {
            "text_id": text_id,
            "layer": layer,
            "head": head,
            "kv_head": head // geometry.group_size,
            "role": role,
            "score": scores.numpy().ravel().astype(float),
        }
    )


def ranked_by_role(scores: pd.DataFrame, roles: Sequence[str], given: pd.DataFrame | None) -> dict[str, list[Head]]:
    """Returns all (layer, head) pairs by role, best mean score first; retrieval heads those that were given, where they were."""
    means = scores.groupby(["role", "layer", "head"], as_index=False)["score"].mean()
    ranking = {}
    for role in roles:
        rows = means[means["role"] == role].sort_values("score", ascending=False, kind="stable")
        ranking[role] = list(zip(rows["layer"].astype(int), rows["head"].astype(int), strict=True))
    if given is not None:
        first = list(zip(given["layer"].astype(int), given["head"].astype(int), strict=True))
        ranking["retrieval"] = [*first, *(head for head in ranking["retrieval"] if head not in set(first))]
    return ranking
