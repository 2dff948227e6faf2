"""How much of the wanted answer is in a text: stemmed ROUGE-1 recall, as in the reference script."""

from functools import cache
from typing import Any

PASS_RECALL = 0.5
"""An answer passes with strictly more than this recall."""


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True)


def answer_recall(wanted: str, text: str) -> float:
    """Returns the share of the wanted words (with multiplicity, Porter stems) that occur in the text, 0 to 1."""
    return float(_scorer().score(wanted, text)["rouge1"].recall)


def passes(recall: float) -> bool:
    """Returns whether an answer counts as retrieved."""
    return recall > PASS_RECALL
