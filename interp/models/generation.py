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
    """Returns each row's most likely next tokens after it has read its pending tokens (at least one each).

    A row ends with the first of the stop ids (kept in the result) or after max_new_tokens tokens. Reading the pending
    tokens and every step after it is the `decode` phase. Equal logits go to the lowest token id. The prefix reads on in
    place, for as long as at least half of its rows are being written: crop it before using it again.
    """
    stop = set(stop_ids)
    written: list[list[int]] = [[] for _ in pending]
    prefix.cache.reserve(max(prefix.lengths) + max(len(row) for row in pending) + max_new_tokens)
    rows = list(range(len(pending)))
    step = [list(row) for row in pending]
    while rows:
        chosen = model.extend(prefix, step, phase="decode")[:, -1].argmax(dim=-1).tolist()
        for row, token in zip(rows, chosen, strict=True):
            if not _ended(written[row], max_new_tokens, stop):
                written[row].append(token)
        step = [[token] for token in chosen]
        still = [place for place, row in enumerate(rows) if not _ended(written[row], max_new_tokens, stop)]
        window = model.context_window
        full = window is not None and max(prefix.lengths) >= window
        if len(still) <= len(rows) // 2 or full:  # ended rows cost as much as open ones: leave them behind
            prefix, rows, step = prefix.select(still), [rows[i] for i in still], [step[i] for i in still]
    return written


def _ended(written: list[int], max_new_tokens: int, stop: set[int]) -> bool:
    return len(written) == max_new_tokens or bool(written and written[-1] in stop)
