"""Scoring the answers to one question: log-probability, margin, rank with its chance, greedy match, and first tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix
from probes.context_recall.draft import Ids, Question

VALUES_AT_ONCE = 48
"""Values of several tokens that are read as one batch."""


@dataclass(frozen=True)
class Scores:
    """What the first row of a batch makes of the values, and for every row the margin of their first tokens."""

    first_margin: Float[Tensor, " row"]
    """ln p of the likeliest right value's first token minus that of the likeliest other value's."""
    first_old_margin: Float[Tensor, " row"]
    """The right value against the one that it replaced; NaN without one."""
    logp: float
    """ln p of the likeliest right value, all its tokens."""
    margin: float
    """Minus that of the likeliest other value of the context."""
    rank: int
    """1 where no other value is as likely as the right one."""
    said: bool
    """Whether a right value is the greedy answer."""


@torch.inference_mode()
def score_all(
    model: LanguageModel,
    rows: Prefix | History,
    logits: Float[Tensor, "row vocabulary"],
    questions: Sequence[Question],
    firsts: Sequence[int],
) -> list[Scores]:
    """Returns the scores of every question; its rows begin at its number in `firsts`, and the first of them is read on.

    Values of several tokens are read teacher-forced, all of one length together.
    """
    ends = [*firsts[1:], len(logits)]
    values = [[*question.right, *question.wrong] for question in questions]
    rest = _rest(model, rows, [(first, value) for first, own in zip(firsts, values, strict=True) for value in own])
    found = []
    for question, own, first, end in zip(questions, values, firsts, ends, strict=True):
        tokens = torch.tensor([value[0] for value in own], device=logits.device)
        begun = torch.log_softmax(logits[first:end].float(), dim=-1)[:, tokens].cpu()
        top = int(logits[first].argmax())
        logp = begun[0] + torch.tensor([rest[first, value][0] for value in own])
        said = [value[0] == top and rest[first, value][1] for value in question.right]
        found.append(_scores(question, own, begun, logp, any(said)))
    return found


def _scores(
    question: Question,
    values: Sequence[Ids],
    begun: Float[Tensor, "row value"],
    logp: Float[Tensor, " value"],
    said: bool,
) -> Scores:
    n_right = len(question.right)
    old = values.index(question.old) if question.old in values else None
    nothing = torch.full((len(begun),), torch.nan)
    return Scores(
        margin_of(begun, n_right),
        nothing if old is None else begun[:, :n_right].amax(dim=-1) - begun[:, old],
        float(logp[:n_right].max()),
        float(margin_of(logp, n_right)),
        int(rank_of(logp[None], n_right)[0]),
        said,
    )


def margin_of(values: Float[Tensor, "*row value"], n_right: int) -> Float[Tensor, "*row"]:
    """Returns the largest of the first `n_right` values minus the largest of the others."""
    return values[..., :n_right].amax(dim=-1) - values[..., n_right:].amax(dim=-1)


def rank_of(values: Float[Tensor, "row value"], n_right: int) -> Int[Tensor, " row"]:
    """Returns 1 plus the number of others that are at least as large as the largest right value: equal ones count against it."""
    best = values[:, :n_right].amax(dim=-1, keepdim=True)
    return 1 + (values[:, n_right:] >= best).sum(dim=-1)


def _rest(
    model: LanguageModel, rows: Prefix | History, wanted: Sequence[tuple[int, Ids]]
) -> dict[tuple[int, Ids], tuple[float, bool]]:
    """Returns ln p of every value's tokens behind its first, behind a row, and whether each is the likeliest one."""
    found = {one: (0.0, True) for one in wanted if len(one[1]) == 1}
    for length in sorted({len(value) for _, value in wanted} - {1}):
        chosen = [one for one in wanted if len(one[1]) == length]
        for start in range(0, len(chosen), VALUES_AT_ONCE):
            part = chosen[start : start + VALUES_AT_ONCE]
            branches = rows.select([row for row, _ in part])
            logits = model.extend(branches, [list(value[:-1]) for _, value in part], logits="all")
            ids = torch.tensor([value[1:] for _, value in part], device=logits.device)
            logp = torch.log_softmax(logits, dim=-1).gather(-1, ids[..., None]).squeeze(-1).sum(dim=-1)
            is_top = (logits.argmax(dim=-1) == ids).all(dim=-1)
            found |= dict(zip(part, zip(logp.tolist(), is_top.tolist(), strict=True), strict=True))
    return found
