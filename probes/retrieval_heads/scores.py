"""Copy-paste scores from what heads attended to while a model answered: pure arithmetic, no model.

Wu et al. 2024 (arXiv:2404.15574), section 2. At the step that emits token w a head copies w when the position it attends
to most lies in the needle and holds w.
"""

import re
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

NEAR_TIE_LOGITS = 2**-8
"""Two attention weights closer than this (one bfloat16 step) may change places in half precision, as in the reference."""


class CopyScores(NamedTuple):
    """Scores of every head on one sample."""

    set_score: Float[Tensor, "layer head"]
    """Distinct needle tokens copied / distinct needle tokens: the paper's definition, at most 1."""
    count_score: Float[Tensor, "layer head"]
    """Copies from the answer's words / number of the answer's tokens: the reference script's, above 1 on repetition."""
    hits: Int[Tensor, "layer head"]
    """Steps at which the head copied from anywhere in the needle."""
    near_ties: Int[Tensor, "layer head"]
    """Steps at which the two most attended positions were nearly equal and only one of them was a copy."""


def copy_hits(
    attended: Int[Tensor, "*axes step"],
    context_ids: Int[Tensor, " key"],
    emitted: Int[Tensor, " step"],
    span: tuple[int, int],
) -> Bool[Tensor, "*axes step"]:
    """Returns at which steps the attended position lies in the span [start, end) and holds the emitted token."""
    inside = (attended >= span[0]) & (attended < span[1])
    return inside & (context_ids[attended] == emitted)


def copy_scores(
    attended: Int[Tensor, "layer head step two"],
    logits: Float[Tensor, "layer head step two"],
    context_ids: Int[Tensor, " key"],
    emitted: Int[Tensor, " step"],
    needle: tuple[int, int],
    gold: tuple[int, int],
) -> CopyScores:
    """Returns both definitions of the copy-paste score for one sample.

    `attended` holds the two most attended positions of each head at each step and `logits` their scores; `needle` and
    `gold` are the spans [start, end) of the needle and of its must-recall part in `context_ids`, the tokens of the prompt
    and the answer. The step that emits token t is the one whose query precedes it; the first query is the last prompt
    token.
    """
    first, second = (copy_hits(attended[..., rank], context_ids, emitted, needle) for rank in (0, 1))
    from_gold = copy_hits(attended[..., 0], context_ids, emitted, gold)
    needle_tokens = context_ids[needle[0] : needle[1]].unique()
    emits = emitted[:, None] == needle_tokens[None, :]
    copied = (first.double() @ emits.double()) > 0
    near = (logits[..., 0] - logits[..., 1]) < NEAR_TIE_LOGITS
    return CopyScores(
        set_score=copied.double().mean(dim=-1),
        count_score=from_gold.double().sum(dim=-1) / (gold[1] - gold[0]),
        hits=first.sum(dim=-1),
        near_ties=(near & (first != second)).sum(dim=-1),
    )


def answer_steps(emitted: list[int], gold: list[int], words: list[str], gold_text: str) -> list[int]:
    """Returns the steps at which a model wrote the gold answer (its first occurrence), or none.

    First the exact token ids are looked for, then, ignoring case, the text in the decoded tokens `words`.
    """
    for start in range(len(emitted) - len(gold) + 1):
        if emitted[start : start + len(gold)] == gold:
            return list(range(start, start + len(gold)))
    text, begins = "", []
    for word in words:
        begins.append(len(text))
        text += word
    match = re.search(re.escape(gold_text), text, re.IGNORECASE) if gold_text else None
    if match is None:
        return []
    found, end = match.span()
    spans = zip(begins, [*begins[1:], len(text)], strict=True)
    return [step for step, (a, b) in enumerate(spans) if a < end and b > found]
