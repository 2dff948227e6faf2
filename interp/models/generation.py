"""Greedy decoding of a batch of rows from a shared or own prefix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from interp.models.prefix import Prefix

if TYPE_CHECKING:
    from interp.models.language import LanguageModel


@torch.inference_mode()
def greedy(
    model: "LanguageModel",
    prefix: Prefix,
    pending: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int] = (),
) -> list[list[int]]:
    """Returns each row's most likely next tokens after it has read its pending tokens (at least one each), in place.

    A row ends with the first of the stop ids (kept in the result) or after max_new_tokens tokens. Reading the pending
    tokens and every step after it is the `decode` phase. Equal logits go to the lowest token id. The prefix has then read
    more than was asked of rows that ended early: crop it before using it again.
    """
    stop = set(stop_ids)
    written: list[list[int]] = [[] for _ in pending]
    open_rows = set(range(len(pending)))
    prefix.cache.reserve(max(prefix.lengths) + max(len(row) for row in pending) + max_new_tokens)
    step = [list(row) for row in pending]
    while open_rows:
        chosen = model.extend(prefix, step, phase="decode")[:, -1].argmax(dim=-1).tolist()
        for row in list(open_rows):
            written[row].append(chosen[row])
            if chosen[row] in stop or len(written[row]) == max_new_tokens:
                open_rows.discard(row)
        step = [[token] for token in chosen]
    return written
