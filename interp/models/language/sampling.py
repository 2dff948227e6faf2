"""Sampling many continuations of one text: a policy, random streams with keys, and a decoding loop with refilled slots.

spine = model.prefix(prompt).fork(1)                      # the prompt is read once,
model.extend(spine, [answer], logits="none")              # the text to branch off from too
rollouts = sample(model, spine, jobs, Policy(), stop)     # each job keeps a part of it and goes on by itself

What a job writes depends on its text and its key alone, never on what else is in the batch. Arithmetic does depend on it in
the last digits, so a draw that falls within NEAR_TIE of the border between two tokens is decided again on the job's text
read alone from its first token. In half precision the differences can be larger than that: a token that was drawn may even
lie outside the top-p set when its text is read again. So every rollout keeps the probability that each of its tokens was
drawn with.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.prefix import Prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from interp.models.language.model import LanguageModel

NEAR_TIE = 1e-4
"""Probability within which a draw counts as lying on the border of two tokens; float32 passes differ by about 1e-5."""
BATCH_ROWS = 32
_TAIL_TOKENS = 24


class Distribution(NamedTuple):
    """Next-token probabilities, and how much of each row's mass a last-digit difference could let in or out."""

    probability: Float[Tensor, "*row vocabulary"]
    doubtful: Float[Tensor, "*row"]


@dataclass(frozen=True)
class Policy:
    """How a next token is drawn: softmax(logits / temperature), restricted to the top_k most likely tokens and to the smallest set
    of most likely tokens with total probability top_p, renormalised.

    Raises ArgumentError for values under which nothing can be drawn.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        """Refuses policies under which nothing can be drawn."""
        if not self.temperature > 0:
            raise ArgumentError(
                f"The temperature must be above 0, not {self.temperature:g}: for greedy decoding use --top-k 1."
            )
        if not 0 < self.top_p <= 1:
            raise ArgumentError(f"--top-p lies above 0 and at most at 1, not at {self.top_p:g}: 1 keeps every token.")
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentError(f"--top-k is at least 1, not {self.top_k}; leave it out to keep every token.")

    def distribution(self, logits: Float[Tensor, "*row vocabulary"]) -> Distribution:
        """Returns the policy's next-token probabilities, float64; tokens that are cut off have 0."""
        probability = torch.softmax(logits.double() / self.temperature, dim=-1)
        doubtful = torch.zeros_like(probability[..., 0])
        if self.top_k is not None and self.top_k < probability.shape[-1]:
            ranked = probability.topk(self.top_k + 1, dim=-1)
            border = ranked.values[..., -2:]
            doubtful += torch.where(border[..., 0] - border[..., 1] < NEAR_TIE, border.sum(-1), 0.0)
            kept = torch.zeros_like(probability).scatter_(-1, ranked.indices[..., :-1], ranked.values[..., :-1])
            probability = kept / kept.sum(-1, keepdim=True)
        if self.top_p < 1:
            ordered = probability.sort(dim=-1, descending=True, stable=True)
            before = ordered.values.cumsum(-1) - ordered.values
            close = (before - self.top_p).abs() < NEAR_TIE
            doubtful += torch.where(close, ordered.values, 0.0).sum(-1)
            kept = torch.zeros_like(probability).scatter_(
                -1, ordered.indices, torch.where(before < self.top_p, ordered.values, 0.0)
            )
            probability = kept / kept.sum(-1, keepdim=True)
        return Distribution(probability, doubtful)


def stream(*key: int | str) -> np.random.Generator:
    """Returns the random stream of a key: equal keys give equal numbers, whatever else is drawn."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def draw(
    probability: Float[Tensor, "row vocabulary"], uniform: Float[Tensor, " row"]
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """Returns the token of each row at a uniform number in [0, 1), and how far that lies from the next token's share.

    Shares lie side by side in the order of token ids, which no rounding can change.
    """
    shares = probability.cumsum(-1)
    target = uniform * shares[:, -1]
    token = torch.searchsorted(shares, target[:, None], right=True).clamp(max=shares.shape[1] - 1)
    upper = shares.gather(1, token).squeeze(1)
    lower = upper - probability.gather(1, token).squeeze(1)
    return token.squeeze(1), torch.minimum(upper - target, target - lower)


class StopRule:
    """When a text has ended: at one of the given tokens, or when its last tokens read as one of the given strings."""

    def __init__(
        self, ids: Sequence[int], strings: Sequence[str] = (), tokenizer: "PreTrainedTokenizerBase | None" = None
    ) -> None:
        """Keeps the rule; strings need a tokenizer."""
        if strings and tokenizer is None:
            raise ValueError("strings can only be looked for with a tokenizer")
        self.ids = frozenset(ids)
        self.strings = tuple(strings)
        self.tokenizer = tokenizer

    def ended(self, written: Sequence[int]) -> bool:
        """Whether a text that ends in these tokens has ended."""
        if not written:
            return False
        if written[-1] in self.ids:
            return True
        if not self.strings or self.tokenizer is None:
            return False
        text = str(self.tokenizer.decode(list(written[-_TAIL_TOKENS:])))
        return any(string in text for string in self.strings)


class Job(NamedTuple):
    """One continuation to write: keep the first `kept` tokens of the spine, read `pending`, then draw with the key's stream."""

    kept: int
    pending: tuple[int, ...]
    room: int
    """Tokens it may write at most, `pending` not counted."""
    key: tuple[int | str, ...]
    lead: int = 0
    """How many of the pending tokens belong to what is asked: they cannot end the text."""

    @property
    def begun(self) -> tuple[int, ...]:
        """The pending tokens that are the beginning of the text."""
        return self.pending[self.lead :]


@dataclass(frozen=True)
class Rollout:
    """The tokens that a job generated after its pending tokens, and whether it ended by itself (not at its length limit)."""

    token_ids: list[int]
    ended: bool
    draw_probability: list[float] = field(default_factory=list, compare=False)
    """The policy's probability of each token as it was drawn, above 0; its last digits depend on the batch."""


@torch.inference_mode()
def sample(
    model: "LanguageModel",
    spine: Prefix,
    jobs: Sequence[Job],
    policy: Policy,
    stop: StopRule,
    *,
    batch_rows: int = BATCH_ROWS,
) -> list[Rollout]:
    """Returns the rollout of each job, in the order of the jobs; a text that its pending tokens end is not continued.

    The spine is one row; its keys and values are copied, those of its trunk shared. Jobs take the slots of a batch; a slot
    that has ended takes the next job. Memory grows with batch_rows, results do not depend on it.
    """
    written: list[list[int]] = [[] for _ in jobs]
    drawn_with: list[list[float]] = [[] for _ in jobs]
    ended = [stop.ended(job.begun) for job in jobs]
    waiting = iter(index for index, job in enumerate(jobs) if not ended[index] and job.room > 0)
    for index, token, probability in _decode(model, spine, jobs, waiting, policy, stop, written, batch_rows):
        written[index].append(token)
        drawn_with[index].append(probability)
        ended[index] = stop.ended([*jobs[index].begun, *written[index]])
    return [Rollout(*one) for one in zip(written, ended, drawn_with, strict=True)]


def _decode(
    model: "LanguageModel",
    spine: Prefix,
    jobs: Sequence[Job],
    waiting: Iterator[int],
    policy: Policy,
    stop: StopRule,
    written: list[list[int]],
    batch_rows: int,
) -> Iterator[tuple[int, int, float]]:
    """Yields (job, token, its probability) for every token drawn, until no job is left."""
    placed = list(islice(waiting, batch_rows))
    if not placed:
        return
    _check_open(model, one_each=len(placed) == len(jobs))
    slots = spine.select([0] * len(placed))
    slots.crop([jobs[index].kept for index in placed])
    slots.cache.reserve(max(jobs[index].kept + len(jobs[index].pending) + jobs[index].room for index in placed))
    streams = {index: stream(*jobs[index].key) for index in placed}
    step = [list(jobs[index].pending) for index in placed]
    while placed:
        logits = model.extend(slots, step, phase="decode")[:, -1]
        uniform = torch.tensor([streams[index].random() for index in placed], dtype=torch.float64)
        tokens, drawn_with = _decide(model, slots, [jobs[index].kept for index in placed], logits, uniform, policy)
        yield from zip(placed, tokens, drawn_with, strict=True)
        step = [[token] for token in tokens]
        open_, freed = [], []
        for slot, index in enumerate(placed):
            job = jobs[index]
            done = len(written[index]) >= job.room or stop.ended([*job.begun, *written[index]])
            (freed if done else open_).append(slot)
        for slot, index in zip(list(freed), waiting, strict=False):
            slots.put(slot, spine)
            slots.crop([jobs[index].kept if row == slot else length for row, length in enumerate(slots.lengths)])
            placed[slot], step[slot], streams[index] = index, list(jobs[index].pending), stream(*jobs[index].key)
            freed.remove(slot)
            open_.append(slot)
        if freed:  # nothing waits any more: what has ended is left behind
            open_.sort()
            slots = slots.select(open_)
            placed, step = [placed[slot] for slot in open_], [step[slot] for slot in open_]


def _check_open(model: "LanguageModel", *, one_each: bool) -> None:
    """Raises UserError for what goes by rows: rows write several texts in turn, and some are read once more by themselves."""
    by_row = not one_each and any(getattr(edit, "n_rows", 1) > 1 for edit in model.hooks.edits)
    if model.hooks.observers or by_row:
        raise UserError(
            "While texts are sampled, rows write one text after the other, so a recording, or an edit row by row, would show a mixture: "
            "close it, record what was written with model.rows afterwards, or give one grid of heads for all rows."
        )


def _read_alone(model: "LanguageModel", ids: list[int], kept: int) -> Float[Tensor, "one vocabulary"]:
    """The logits after a text that is read by itself, in the phases in which it was written."""
    rows = model.rows(1)
    if all(edit.phase == "both" for edit in model.hooks.edits):
        return model.extend(rows, [ids])[:, -1]
    if kept:
        model.extend(rows, [ids[:kept]], logits="none")
    return model.extend(rows, [ids[kept:]], phase="decode")[:, -1]


def _decide(
    model: "LanguageModel",
    slots: Prefix,
    kept: Sequence[int],
    logits: Float[Tensor, "row vocabulary"],
    uniform: Float[Tensor, " row"],
    policy: Policy,
) -> tuple[list[int], list[float]]:
    """Draws every row's next token, near-ties on the row's text read alone; returns the tokens and their probabilities."""
    probability, doubtful = policy.distribution(logits)
    tokens, margin = draw(probability, uniform.to(probability.device))
    drawn_with = probability.gather(1, tokens[:, None]).squeeze(1)
    for row in (margin < NEAR_TIE + doubtful).nonzero().flatten().tolist():
        alone = policy.distribution(_read_alone(model, slots.ids[row], kept[row])).probability
        tokens[row] = draw(alone, uniform[row : row + 1].to(alone.device))[0][0]
        drawn_with[row] = alone[0, tokens[row]]
    return tokens.tolist(), drawn_with.tolist()
