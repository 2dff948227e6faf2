"""Echo and induction scores by head, and the key-value heads that RazorAttention would keep whole (see interp.heads.finding)."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.heads.finding import (
    ECHO_SHARE,
    INDUCTION_SHARE,
    measured_echo_induction,
    ordinary_tokens,
    repeated_tokens,
)
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning
from probes.retrieval_heads.measure import head_columns, of_heads
from probes.retrieval_heads.plan import EchoUnit
from probes.retrieval_heads.settings import Settings


def measure_echo(settings: Settings, model: LanguageModel, unit: EchoUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `echo_induction`: the echo and induction scores on one block of random tokens."""
    digest = hashlib.sha256(f"{settings.seed} {unit.id}".encode()).digest()
    ids = repeated_tokens(
        ordinary_tokens(model.tokenizer),
        block_tokens=settings.echo_block_tokens,
        repeats=settings.echo_repeats,
        prefix=beginning(model.tokenizer, settings.bos),
        generator=np.random.default_rng(list(digest)),
    )
    frame = measure_echo_induction(
        model, ids, block_tokens=settings.echo_block_tokens, repeats=settings.echo_repeats, draw=unit.draw
    )
    return {"echo_induction": frame}


def measure_echo_induction(
    model: LanguageModel, ids: Sequence[int], *, block_tokens: int, repeats: int, draw: int
) -> pd.DataFrame:
    """Returns the rows of `echo_induction` for one sequence of repeated tokens."""
    echo, induction = measured_echo_induction(model, ids, block_tokens=block_tokens, repeats=repeats)
    return pd.DataFrame(
        {
            "draw": draw,
            **head_columns(model),
            "echo": of_heads(model, echo),
            "induction": of_heads(model, induction),
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
