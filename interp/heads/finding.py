"""Finding heads by where they look: those that copy an answer, and those that look back when random tokens are repeated."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.heads.repeats import measured_echo_induction, ordinary_tokens, repeated_tokens
from interp.models.language.model import LanguageModel
from interp.models.language.recording import TopKeys

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
