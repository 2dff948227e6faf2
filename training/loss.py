"""The loss of a model on windows of held-out text."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from training.corpus import in_batches, pad_windows


@torch.inference_mode()
def mean_nats(model: Any, windows: Sequence[list[int]], batch_tokens: int) -> tuple[float, int]:
    """Returns the mean surprisal of the windows' targets in float32, in nats per token, and their number."""
    model.eval()
    total, n_tokens = 0.0, 0
    for batch in in_batches(windows, batch_tokens):
        inputs, targets = pad_windows(batch)
        logits = model(input_ids=inputs, use_cache=False).logits.float()
        total += float(cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        n_tokens += int((targets != -100).sum())
    return total / n_tokens, n_tokens
