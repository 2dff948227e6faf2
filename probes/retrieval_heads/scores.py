"""Scores of one sample: how much of the answer was recalled, what each head copied, and what it contributed to the logits.

Copy-paste scores (Wu et al. 2024, arXiv:2404.15574, section 2): at the step that emits token w a head copies w when the position
it attends to most lies in the needle and holds w.

Logit contributions (LOCOS; Gema, Alex, Minervini 2026, arXiv:2607.01002): how much what a head takes from the needle raises the
token being written. For an answer step that writes token y, φ[j, head] = weight[j] · (d · W_O v_j); the score is Σ φ over the
needle minus n / N_off times Σ φ elsewhere: n times the difference of the mean φ inside and outside. Sums need no φ of single
positions: Σ over all positions is d · (head output), and Σ over the needle is d · W_O Σ weight_j v_j. Two definitions of d:
`locos` is the published one, the raw unembedding row of y; `direct` is exact, with the final norm and the norms after attention
at their values in the pass, so that all parts of the model add up to the logit.
"""

import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import regex
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.models.language.attention import mix_values
from interp.models.language.logit_directions import LogitDirections, Scales
from interp.models.language.recording import AttentionRows
from probes.retrieval_heads.needles import spellings_of, stem, words_of

RecallMeasure = Literal["words", "reference"]

PASS_RECALL = 0.5
"""An answer passes with strictly more than this recall."""
NEAR_TIE_LOGITS = 2**-8
"""Two attention weights closer than this (one bfloat16 step) may change places in half precision, as in the reference."""


# ---------------------------------------------------------------------- recall of an answer


def answer_recall(wanted: str, text: str, measure: RecallMeasure = "words") -> float:
    """Returns the share of the wanted words (with multiplicity) that occur in the text, 0 to 1.

    "words": letters, marks and digits of any script, case ignored and accents kept, English words as Porter stems; where a
    script has no spaces, characters; an answer without words by its signs. On English it equals "reference": stemmed ROUGE-1
    recall, which sees a-z and 0-9 only.
    """
    if measure == "reference":
        return float(_scorer().score(wanted, text)["rouge1"].recall)
    if _stems(words_of(wanted)):
        needed, found = _stems(words_of(wanted)) + _telling(wanted), _stems(spellings_of(text)) + _telling(text)
    else:
        needed, found = _signs(wanted), _signs(text)
    return (Counter(needed) & Counter(found)).total() / max(1, len(needed))


def passes(recall: float) -> bool:
    """Returns whether the recall of an answer counts as success (above 0.5)."""
    return recall > PASS_RECALL


def reference_reads(text: str) -> bool:
    """Returns whether the reference's measure sees all words of a text."""
    return bool(words_of(text)) and all(word.isascii() for word in words_of(text))


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True)


def _stems(words: list[str]) -> list[str]:
    return [stem(word) for word in words]


# Signs without which an answer is another one: pictures, arrows, sharps and flats, the + and # of C++ and C#, the sign before a number.
_TELLING = regex.compile(
    r"(?=\p{So}|[\u2190-\u21ff♯]|\p{Emoji_Presentation}|\p{RI})\X|(?<=[\p{L}\p{N}+#])[+#]|(?<![\p{L}\p{N}])[+\-−](?=\d)"
)


def _telling(text: str) -> list[str]:
    found = _TELLING.findall(text.replace("\ufe0f", ""))
    return [
        sign.replace("−", "-") for sign in found if sign not in "©®" and unicodedata.normalize("NFKC", sign) == sign
    ]


def _signs(text: str) -> list[str]:
    """Characters as a reader sees them, in one spelling (！ is !), blanks left out."""
    plain = unicodedata.normalize("NFKC", text.replace("\ufe0f", ""))
    return [sign for sign in regex.findall(r"\X", plain) if not sign.isspace()]


# ---------------------------------------------------------------------- what heads copied


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
    """Returns the copy-paste score of every head on one sample, by both definitions.

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


def answer_steps(emitted: list[int], gold: list[int], beginnings: list[str], gold_text: str) -> list[int]:
    """Returns the steps at which a model wrote the gold answer (its first occurrence), or none.

    First the exact token ids are looked for, then the text, case and kinds of apostrophes and hyphens ignored. `beginnings` are
    the texts of the first token, the first two, …: single tokens lose the space before them, and parts of a letter are none.
    """
    for start in range(len(emitted) - len(gold) + 1):
        if emitted[start : start + len(gold)] == gold:
            return list(range(start, start + len(gold)))
    if not emitted or not gold_text:
        return []
    letters = [(letter, place) for place, sign in enumerate(beginnings[-1]) for letter in _one_spelling(sign)]
    wanted = "".join(_one_spelling(sign) for sign in gold_text)
    at = "".join(letter for letter, _ in letters).find(wanted)
    if at < 0:
        return []
    found, end = letters[at][1], letters[at + len(wanted) - 1][1] + 1
    ends = [len(text.rstrip("\ufffd")) for text in beginnings]
    spans = [
        (start, max(stop, start + 1)) for start, stop in pairwise([0, *ends])
    ]  # a part of a letter counts as that letter
    return [step for step, (a, b) in enumerate(spans) if a < end and b > found]


_APOSTROPHES_AND_HYPHENS = str.maketrans(
    dict.fromkeys("‘’ʻʼ", "'") | dict.fromkeys("‐‑‒–−", "-") | {"İ": "i", "ı": "i"}
)


def _one_spelling(sign: str) -> str:
    return sign.translate(_APOSTROPHES_AND_HYPHENS).casefold()


# ---------------------------------------------------------------------- what heads contributed


class ContributionReader:
    """`locos` and `direct`, [row, head, query, 2]: the sums of φ over the needle and over all positions.

    `direct` is still to be divided by the norms' scales (divide_by_scales). `emitted` is the token each recorded query goes
    on to write, `needle` the positions of the needle's tokens (-1: none); both have one line per row of the batch.
    """

    def __init__(
        self, directions: LogitDirections, emitted: Int[Tensor, "row query"], needle: Int[Tensor, "row n"]
    ) -> None:
        self.directions = directions
        self.needle = needle
        self.toward = {"locos": directions.unembedding(emitted), "direct": directions.frozen(emitted)}

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Reads one layer."""
        real = (self.needle >= 0).to(rows.weights.device)
        needle = self.needle.clamp(min=0).to(rows.weights.device)
        weights = torch.take_along_dim(rows.weights, needle[:, None, None, :], dim=-1) * real[:, None, None, :]
        values = torch.take_along_dim(rows.values, needle[:, None, :, None], dim=2).float()
        parts = (mix_values(weights, values) * rows.gate, rows.outputs)
        found = {}
        for name, direction in self.toward.items():
            wanted = direction[:, rows.wanted.to(direction.device)]
            toward = self.directions.to_head(rows.layer, wanted, through_norm=name == "direct")
            found[name] = torch.stack([(part * toward.to(part.device)).sum(dim=-1) for part in parts], dim=-1)
        return found


def contribution_scores(
    sums: Float[Tensor, "layer head step two"],
    n_needle: int,
    n_keys: Int[Tensor, " step"],
    answer: Bool[Tensor, " step"],
) -> Float[Tensor, "layer head"]:
    """Returns each head's score on one sample, the mean over its answer steps; NaN when it has none.

    `sums` holds Σ φ over the needle and over all positions, `n_keys` how many positions each step could see.
    """
    inside, total = sums.double().unbind(dim=-1)
    outside = total - inside
    score = inside - outside * n_needle / (n_keys - n_needle)
    return score[..., answer].mean(dim=-1) if bool(answer.any()) else torch.full_like(score[..., 0], torch.nan)


def divide_by_scales(
    sums: Float[Tensor, "layer row head step two"], scales: Scales
) -> Float[Tensor, "layer row head step two"]:
    """Returns the `direct` sums in logits: over the final norm's scale and that of each layer's norm after attention."""
    final = torch.cat(scales.final, dim=1).cpu()[None, :, None, :, None]
    sums = sums / final
    for layer, scale in scales.after_attention.items():
        sums[layer] = sums[layer] / scale.cpu()[:, None, :, None]
    return sums
