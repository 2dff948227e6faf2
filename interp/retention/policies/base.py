"""What a policy is: a frozen dataclass that says which keys the steps after a prompt may read, in three kinds.

`Evict` drops keys for good, `Select` chooses anew for every query, `Pool` folds what it drops into stand-ins. A policy of
your own is one of these with its scores (docs/adding_a_policy.md).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.errors import ArgumentError, UserError, check_choice
from interp.experiments.bounds import broken, types_of
from interp.retention.policies.layer import Allowance, Layer, Prompt, Reduction, expanded, grouped

Semantics = Literal["full", "evict", "select", "pool"]
Event = Literal["prompt_end", "every_step", "every_window", "never"]
Granularity = Literal["layer", "kv_head", "query_head"]
Keep = Bool[Tensor, "row list step key"]
"""True where a step may read a key. A list is kept by a key-value head, by a query head, or by the whole layer (one list)."""


def best(
    scores: Float[Tensor, "row list *steps key"], n: Int[Tensor, "row *list"], protected: Bool[Tensor, "row *steps key"]
) -> Bool[Tensor, "row list *steps key"]:
    """Returns the n largest scores of each list, protected keys before all others; of equal scores the earliest key.

    Protected keys are kept also where there are more than n.
    """
    largest = torch.finfo(scores.dtype).max
    ranked = scores.clamp(max=largest).masked_fill(protected.unsqueeze(1), torch.inf)
    order = ranked.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.shape[-1], device=scores.device)
    limit = n.reshape(*n.shape, *[1] * (scores.ndim - n.ndim))
    limit = torch.maximum(limit, protected.sum(dim=-1, keepdim=True).unsqueeze(1))
    return torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, order, (places < limit).expand_as(order))


def fitting(policy: "Policy", scores: Tensor, *shape: int) -> Tensor:
    """Returns the scores. Raises UserError where they have another shape, or are not numbers."""
    if tuple(scores.shape) != shape or bool(scores.isnan().any()):
        what = f"scores of shape {list(scores.shape)}" if tuple(scores.shape) != shape else "scores that are NaN"
        raise UserError(
            f"The policy {type(policy).__name__} returned {what}: numbers of shape {list(shape)} are needed."
        )
    return scores


@dataclass(frozen=True)
class Policy:
    """A rule for which keys may be read. Subclasses say what they are in class variables; a run prints them in its tables.

    Bounds of options are written as types (interp.experiments.bounds).
    """

    semantics: ClassVar[Semantics]
    event: ClassVar[Event]
    granularity: ClassVar[Granularity] = "kv_head"
    group_reduction: ClassVar[Reduction] = "mean"
    """How scores of the query heads that share a list become one."""
    positions: ClassVar[Literal["kept", "re-rotated", "re-based"]] = "kept"
    """Where kept keys stand when they are read; scores may be taken elsewhere, which the docstring then says."""
    budget_rule: ClassVar[str] = "each_list"
    """Who keeps the number of keys asked for: each_list, or what a class says of itself. Whether keys after the prompt count, `event`
    says."""
    needs_rotation: ClassVar[bool] = False
    """Whether scores need the model's rotary embedding."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for an option outside its bounds."""
        for option, kind in types_of(type(self)).items():
            value = getattr(self, option, None)
            wanted = broken(value, kind)
            if wanted:
                raise ArgumentError(f"The option {option} of {type(self).__name__} must be {wanted}, not {value}.")

    @property
    def held(self) -> tuple[int, int]:
        """How many first and how many last tokens it keeps whatever their scores, where a prompt has as many."""
        return 0, 0

    @property
    def least(self) -> int:
        """The fewest keys that it can keep, however short the prompt."""
        return 1

    def n_own(self, budget: int) -> int:
        """Returns how many of a budget's keys are the prompt's own; the others are stand-ins."""
        return budget

    def n_stand_ins(self, budget: int) -> int:
        """Returns how many stand-ins a list stores beside the keys that it keeps."""
        return 0

    def is_dense(self, layer: int) -> bool:
        """Whether it leaves a layer alone."""
        return False

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns the keys that each step may read. Rows differ in allowance and in nothing else."""
        raise NotImplementedError

    def n_lists(self, prompt: Prompt) -> int:
        """Returns how many lists of keys a layer has."""
        heads = {"layer": 1, "kv_head": prompt.n_kv_heads, "query_head": prompt.calls[0].query.shape[1]}
        return heads[self.granularity]

    def reduced(self, values: Float[Tensor, "row head *axes"], prompt: Prompt) -> Float[Tensor, "row list *axes"]:
        """Returns numbers of query heads reduced to the policy's lists."""
        return grouped(values, self.n_lists(prompt), self.group_reduction)


@dataclass(frozen=True)
class Evict(Policy):
    """Drops keys for good. At the prompt's end each list keeps its n best; then, if asked, n in all after every step or window."""

    semantics: ClassVar[Semantics] = "evict"
    every: ClassVar[int] = 1
    """Steps between two cuts, of policies that cut after the prompt."""

    event: Event = "prompt_end"  # type: ignore[misc]
    """prompt_end: what is read later is kept; every_step: the n best of all tokens so far, after each step."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for an event that is none of an eviction's, or one that the policy has no rule for."""
        super().__post_init__()
        kind, later = type(self), "every_window" if self.every > 1 else "every_step"
        check_choice("event", self.event, ("prompt_end", later))
        if self.event == later and kind.updated is Evict.updated:
            raise ArgumentError(
                f"{kind.__name__} scores the prompt's keys alone and cannot cut after every step: leave out event={later}, or give the "
                "class a method `updated` that scores what is read later."
            )

    def scores(self, prompt: Prompt) -> Float[Tensor, "one list key"]:
        """Returns the score of every prompt key, the larger the better; or what `ranked` makes scores of."""
        raise NotImplementedError

    def updated(
        self, scores: Float[Tensor, "row list key"], weights: Float[Tensor, "row head key"], layer: Layer, position: int
    ) -> Float[Tensor, "row list key"]:
        """Returns the scores after a step, given its attention on the keys that were left. A policy without it cuts only once."""
        return scores

    def ranked(self, scores: Float[Tensor, "row list key"], n_read: int) -> Float[Tensor, "row list key"]:
        """Returns what keys are ranked by, given what `scores` and `updated` returned; the same, unless a policy counts more."""
        return scores

    def allotted(self, scores: Float[Tensor, "row list key"], allowed: Allowance, prompt: Prompt) -> Tensor:
        """Returns how many keys each row (or each list of it) keeps."""
        return allowed.n

    def prompt_scores(self, prompt: Prompt) -> Float[Tensor, "one list key"]:
        """Returns the scores, computed once for all rows of a prompt."""
        if self not in prompt.memory:
            scores = self.scores(prompt)
            n_lists = (
                scores.shape[1] if scores.ndim == 3 else self.n_lists(prompt)
            )  # what `ranked` makes of them is looked at later
            prompt.memory[self] = fitting(self, scores, 1, n_lists, prompt.n)
        return prompt.memory[self]

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns the keys that are left at every step."""
        prompt, n_rows = layer.prompt, len(allowed.n)
        scores = self.prompt_scores(prompt).expand(n_rows, -1, -1)
        ranked = fitting(self, self.ranked(scores, prompt.n), n_rows, self.n_lists(prompt), prompt.n)
        n = self.allotted(ranked, allowed, prompt)
        kept = best(ranked, n, allowed.protected(prompt.n, prompt.n))
        if self.event == "prompt_end":
            return with_new_keys(kept, layer.n_steps)
        return self._step_by_step(layer, allowed, scores, n, kept)

    def _step_by_step(self, layer: Layer, allowed: Allowance, scores: Tensor, n: Tensor, kept: Tensor) -> Keep:
        n_heads, n_prompt, n_keys = layer.logits.shape[1], layer.prompt.n, layer.logits.shape[-1]
        alive, scores = (pad(part, (0, n_keys - part.shape[-1])) for part in (kept, scores))
        steps = []
        for step in range(layer.n_steps):
            position = n_prompt + step
            alive = alive.clone()
            alive[..., position] = True
            steps.append(alive)
            logits = layer.logits[:, :, step].masked_fill(~expanded(alive, n_heads), -torch.inf)
            scores = self.updated(scores, torch.softmax(logits, dim=-1), layer, position)
            if (step + 1) % self.every == 0:
                ranked = self.ranked(scores, position + 1).masked_fill(~alive, -torch.inf)
                alive = alive & best(ranked, n, allowed.protected(position + 1, n_keys))
        return torch.stack(steps, dim=2)


def with_new_keys(kept: Bool[Tensor, "row list prompt"], n_steps: int) -> Keep:
    """Returns what steps may read when these prompt keys are left and every later key is kept."""
    own = torch.ones((n_steps, n_steps), dtype=torch.bool, device=kept.device).tril()
    prompt = kept[:, :, None].expand(-1, -1, n_steps, -1)
    return torch.cat([prompt, own.expand(*kept.shape[:2], -1, -1)], dim=-1)


@dataclass(frozen=True)
class Select(Policy):
    """Chooses n prompt keys anew for every step; nothing is lost, and what is read after the prompt is always kept."""

    semantics: ClassVar[Semantics] = "select"
    event: ClassVar[Event] = "never"

    def scores(self, layer: Layer) -> Float[Tensor, "row list step prompt"]:
        """Returns the score of every prompt key for every step, the larger the better."""
        raise NotImplementedError

    def keep(self, layer: Layer, allowed: Allowance) -> Keep:
        """Returns the keys that each step reads."""
        n_prompt, n_keys = layer.prompt.n, layer.logits.shape[-1]
        protected = allowed.protected(n_prompt, n_prompt)[:, None].expand(-1, layer.n_steps, -1)
        scores = fitting(self, self.scores(layer), len(allowed.n), self.n_lists(layer.prompt), layer.n_steps, n_prompt)
        kept = best(scores, allowed.n, protected)
        own = torch.ones((layer.n_steps, n_keys - n_prompt), dtype=torch.bool, device=kept.device).tril()
        return torch.cat([kept, own.expand(*kept.shape[:2], -1, -1)], dim=-1)


@dataclass(frozen=True)
class Pool(Policy):
    """Drops keys and lets stand-ins speak for them, by scores that the dropped keys are given together.

    A stand-in whose key and value are weighted means of some keys and values reads exactly as if each of these had the
    weighted mean of their scores, plus the logarithm of its weight and of how many keys the stand-in counts for.
    """

    semantics: ClassVar[Semantics] = "pool"
    event: ClassVar[Event] = "prompt_end"

    def stand_ins(self, layer: Layer, keep: Keep) -> Float[Tensor, "row head step key"]:
        """Returns the scores of the dropped keys; -inf where none stands for them. Kept keys are not looked at."""
        raise NotImplementedError
