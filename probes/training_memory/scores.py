"""What is recognised and recalled: losses of sentences and foils, completions of first halves."""

from collections.abc import Sequence

import torch

from interp.models.language.model import LanguageModel
from probes.training_memory.stimuli import Item, begun

ROWS_AT_ONCE = 16


def mean_nats(model: LanguageModel, rows: Sequence[Sequence[int]]) -> list[float]:
    """Returns the mean −ln p of each row's tokens behind the beginning of the sequence, all but the first that nothing stands before."""
    found: list[float] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = [begun(model.tokenizer, row) for row in rows[first : first + ROWS_AT_ONCE]]
        found += model.surprisal(part).nanmean(dim=1).tolist()
    return found


@torch.inference_mode()
def completions(model: LanguageModel, prompts: Sequence[Sequence[int]], n_tokens: Sequence[int]) -> list[list[int]]:
    """Returns the greedy continuation of each prompt, exactly as long as it is asked for."""
    rows = model.rows(len(prompts), max(map(len, prompts)) + max(n_tokens))
    written: list[list[int]] = [[] for _ in prompts]
    step = [list(prompt) for prompt in prompts]
    for _ in range(max(n_tokens)):
        chosen = model.extend(rows, step, logits="last")[:, -1].argmax(dim=-1).tolist()
        for row, token in zip(written, chosen, strict=True):
            row.append(token)
        step = [[token] for token in chosen]
    return [row[:n] for row, n in zip(written, n_tokens, strict=True)]


def second_halves(model: LanguageModel, items: Sequence[Item]) -> list[list[int]]:
    """Returns what the model writes behind each item's first half, as long as its second."""
    found: list[list[int]] = []
    for first in range(0, len(items), ROWS_AT_ONCE):
        part = items[first : first + ROWS_AT_ONCE]
        prompts = [begun(model.tokenizer, item.ids[: item.half]) for item in part]
        found += completions(model, prompts, [len(item.ids) - item.half for item in part])
    return found


def shared(written: Sequence[int], wanted: Sequence[int]) -> float:
    """Returns ROUGE-L's F score of two token sequences: the longest common subsequence over their lengths' mean."""
    before = [0] * (len(wanted) + 1)
    for token in written:
        row = [0]
        for place, other in enumerate(wanted):
            row.append(before[place] + 1 if token == other else max(row[-1], before[place + 1]))
        before = row
    return 2 * before[-1] / (len(written) + len(wanted))


def exact(written: Sequence[int], wanted: Sequence[int]) -> float:
    """Returns the share of places with the right token."""
    return sum(a == b for a, b in zip(written, wanted, strict=True)) / len(wanted)
