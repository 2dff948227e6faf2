"""Echo and induction scores on repeated random tokens: heads found without any text.

RazorAttention (Tang et al. 2024, arXiv:2407.15891): random tokens are repeated; for every query from the second copy on, the
weight on the earlier occurrences of the same token is its echo score, the weight on the tokens after them its induction
score, both averaged over queries. Only those few diagonals are read.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.recording import WeightAt
from interp.models.tokens.encoding import beginning
from probes.retrieval_heads.measure import head_columns, of_heads
from probes.retrieval_heads.plan import EchoUnit
from probes.retrieval_heads.settings import Settings

INDUCTION_SHARE = 0.14
ECHO_SHARE = 0.01
"""Shares of key-value heads that RazorAttention keeps by each score (msmodelslim's defaults)."""


def measure_echo(settings: Settings, model: LanguageModel, unit: EchoUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `echo_induction`: the echo and induction scores on one block of random tokens."""
    tokenizer = model.tokenizer
    special = set(tokenizer.all_special_ids)
    digest = hashlib.sha256(f"{settings.seed} {unit.id}".encode()).digest()
    ids = repeated_tokens(
        [id for id in range(len(tokenizer)) if id not in special],
        block_tokens=settings.echo_block_tokens,
        repeats=settings.echo_repeats,
        prefix=beginning(tokenizer, settings.bos),
        generator=np.random.default_rng(list(digest)),
    )
    frame = measure_echo_induction(
        model, ids, block_tokens=settings.echo_block_tokens, repeats=settings.echo_repeats, draw=unit.draw
    )
    return {"echo_induction": frame}


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


def measure_echo_induction(
    model: LanguageModel, ids: Sequence[int], *, block_tokens: int, repeats: int, draw: int
) -> pd.DataFrame:
    """Returns the rows of `echo_induction` for one sequence of repeated tokens."""
    queries, keys = earlier_positions(
        block_tokens=block_tokens, repeats=repeats, n_prefix=len(ids) - block_tokens * repeats
    )
    with model.record(queries, WeightAt(keys)) as recording:
        model.prefix(ids)
    echo, induction = echo_and_induction(recording["weight_at"][:, 0])
    return pd.DataFrame(
        {
            "draw": draw,
            **head_columns(model),
            "echo": of_heads(model, echo.clamp(0, 1)),
            "induction": of_heads(model, induction.clamp(0, 1)),
            "block_tokens": block_tokens,
            "repeats": repeats,
        }
    )


def razor_selection(
    scores: pd.DataFrame, *, induction_share: float = INDUCTION_SHARE, echo_share: float = ECHO_SHARE
) -> set[tuple[int, int]]:
    """Returns the (layer, kv_head) pairs RazorAttention would keep whole, from mean scores per query head.

    A key-value head has the largest score of its group; the best shares by induction and by echo are united.
    """
    groups = scores.groupby(["layer", "kv_head"], as_index=False)[["echo", "induction"]].max()
    chosen: set[tuple[int, int]] = set()
    for column, share in (("induction", induction_share), ("echo", echo_share)):
        best = groups.sort_values(column, ascending=False, kind="stable").head(round(len(groups) * share))
        chosen |= set(zip(best["layer"].astype(int), best["kv_head"].astype(int), strict=True))
    return chosen
