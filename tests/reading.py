"""Texts, and the same tiny models in transformers' hands and in ours: what tests of reading on compare."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from interp.models.language.model import LanguageModel
from tests.tiny_models import random_ids, tiny, tiny_hf

N = 48
IDS = random_ids(N, seed=7)
ROWS = [IDS[:9], IDS[20:45], IDS[3:17]]  # 9, 25 and 14 tokens: below and above the sliding windows of 16


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0, equal_nan=True)  # NaN only where both say NaN


@cache
def plain(family: str) -> Any:
    """The same weights in transformers' own hands: no cache, no toolkit."""
    return tiny_hf(family)


@cache
def shared(family: str) -> LanguageModel:
    return tiny(family)


def whole(family: str, ids: list[int], **changes: Any) -> Tensor:
    """Logits [token, vocabulary] of a text read at once by transformers."""
    with torch.no_grad():
        hf = tiny_hf(family, **changes) if changes else plain(family)
        return hf(torch.tensor([ids])).logits[0]


def count_reads(model: LanguageModel) -> list[tuple[int, int]]:
    """A list that grows by (rows, tokens per row) with every forward pass."""
    passes: list[tuple[int, int]] = []
    model.hf.get_input_embeddings().register_forward_hook(
        lambda _, inputs, output: passes.append(tuple(output.shape[:2]))
    )
    return passes
