"""Exact simulation of retention policies: a mask before the softmax, with the prompt read once and each condition a row.

A policy acts from the prompt's end on: the prompt's own queries read everything, as in every published code. What a step may
read is decided from the layer's own scores, so one teacher-forced pass gives what incremental decoding with a real cache gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.attention import AttentionCall, Barred
from interp.models.language.hooks import EditPhase, Phase
from interp.models.language.model import LanguageModel
from interp.models.language.positions import MOVED
from interp.models.language.prefix import Prefix
from interp.retention.contract import Setting, Watcher, check_room, check_sinks, checked, evictable_layers, whole_layers
from interp.retention.limits import FUTURE, LONGEST_CONTINUATION
from interp.retention.policies.base import Policy, Pool
from interp.retention.policies.layer import Allowance, Layer, Prompt, expanded, precise
from interp.retention.rotation import rotations_of
from interp.retention.steps import Memory, Steps, remembered


@dataclass(eq=False)
class ReadPrompt:
    """A prompt that has been read: its keys and values, and every layer's attention calls, which policies score."""

    prefix: Prefix
    prompts: dict[int, Prompt] = field(default_factory=dict)
    """By layer, with what policies have computed of it."""


@dataclass(eq=False)
class _Calls:
    """Keeps the attention calls of a reading, by layer."""

    of: dict[int, list[AttentionCall]] = field(default_factory=dict)

    def check(self, n_rows: int) -> None:
        """Any number of rows is read."""

    def look(self, call: AttentionCall, output: Float[Tensor, "row query head dim"]) -> None:
        """Keeps the call."""
        self.of.setdefault(call.layer, []).append(call)


def read_prompt(
    model: LanguageModel,
    ids: Sequence[int],
    *,
    rotary: bool = False,
    seed: int = 0,
    delimiters: Sequence[int] = (),
) -> ReadPrompt:
    """Returns a prompt that has been read with full attention.

    `rotary`: for policies that turn keys to other positions; `seed` is what random ones draw from; `delimiters`: positions of tokens
    without letters and digits, for landmarks.
    """
    (read,) = read_prompts(model, [ids], rotary=rotary, seeds=[seed], delimiters=[delimiters])
    return read


def read_prompts(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    *,
    rotary: bool,
    seeds: Sequence[int],
    delimiters: Sequence[Sequence[int]],
) -> list[ReadPrompt]:
    """Returns prompts of one length that have been read as one batch: see `read_prompt`."""
    model.needs("heads")
    check_sinks(model)
    _ = model.geometry  # refuses models without heads
    prefix, calls = Prefix.empty(model.layout, len(texts)), _Calls()
    with model.hooks.opened(observer=calls):
        model.extend(prefix, [list(ids) for ids in texts], logits="none")
    rotations = rotations_of(model, len(texts[0]), len(texts[0]) + FUTURE) if rotary else {}
    dropping = whole_layers(model, len(texts[0]) + LONGEST_CONTINUATION)
    found = []
    for row in range(len(texts)):
        read = ReadPrompt(prefix if len(texts) == 1 else prefix.select([row]))
        for layer, of_layer in calls.of.items():
            own = [call.one_row(row) for call in of_layer] if len(texts) > 1 else of_layer
            read.prompts[layer] = Prompt(
                layer, dropping, own, seeds[row], tuple(delimiters[row]), rotations.get(layer), text=read.prompts
            )
        found.append(read)
    return found


class PolicyEdit:
    """Lets every row of a batch that continues a prompt read what its policy keeps. See interp.models.language.hooks.CallEdit."""

    phase: EditPhase = "both"

    def __init__(
        self,
        model: LanguageModel,
        read: ReadPrompt,
        settings: Sequence[Setting],
        *,
        spans: Sequence[tuple[int, int]] = (),
        watchers: Sequence[Watcher] = (),
        remember: bool = False,
    ) -> None:
        """`remember` what was read in earlier calls: needed to read on in several, as generation does.

        Raises ArgumentError for a budget or a protection that the prompt has no room for.
        """
        self.remember = remember or "single" in model.layout.limits  # which reads on token by token
        self.settings, self.watchers, self.spans = settings, watchers, tuple(spans)
        self.n_prompt = read.prefix.lengths[0]
        for setting in settings:
            check_room(setting, self.n_prompt, self.spans)
        self.touched = evictable_layers(model, self.n_prompt + LONGEST_CONTINUATION)
        self._prompts = read.prompts
        self._memory: dict[int, Memory] = {}
        groups: dict[Policy, list[int]] = {}
        for row, setting in enumerate(settings):
            groups.setdefault(setting.policy, []).append(row)
        self.groups = groups

    def check(self, n_rows: int) -> None:
        """Raises UserError unless the batch has a row for each setting."""
        if n_rows != len(self.settings):
            raise UserError(f"The batch has {n_rows} rows and there are {len(self.settings)} policies: fork as many.")

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Whether the layer has a cache to evict from."""
        return layer in self.touched

    def evened(self, call: AttentionCall) -> None:
        """Returns None."""

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns None."""

    def replaced(self, call: AttentionCall, output: Tensor) -> Tensor:
        """Returns the outputs as they are."""
        return output

    def rewritten(self, call: AttentionCall) -> AttentionCall:
        """Returns the call in which each row reads what its policy keeps.

        Raises UserError where positions are moved and a policy turns queries by them.
        """
        self._check_moved()
        layer = self._layer(call)
        rows = call.rows.tolist()
        n_heads = call.query.shape[1]
        keep, stood_for = layer.visible.clone(), {}
        for policy, members in self.groups.items():
            places = [place for place, row in enumerate(rows) if row in members]
            if not places or policy.is_dense(call.layer):
                continue
            part = layer.rows(places)
            kept = policy.keep(part, self._allowance([rows[place] for place in places], call))
            keep[places] = expanded(checked(policy, kept, part), n_heads) & part.visible
            if isinstance(policy, Pool):
                stood_for[policy] = (places, policy.stand_ins(part, kept))
        scores = layer.logits.masked_fill(~keep, -torch.inf)
        for places, stand_ins in stood_for.values():
            scores[places] = torch.where(keep[places], scores[places], stand_ins)
        for watch in self.watchers:
            watch(layer, keep, scores)
        layer.prompt.forget()
        return replace(call, scores=self._of_call(scores, call), barred=())

    def _layer(self, call: AttentionCall) -> Layer:
        """The steps so far, those of this call included."""
        steps = Steps(call.logits(None, torch.promote_types(call.query.dtype, torch.float32)), precise(call.query))
        n_before, memory = self._n_before(call), self._memory.get(call.layer)
        n_known = torch.zeros_like(n_before) if memory is None else memory.n_steps[call.rows]
        n_steps = int(n_before.max()) + call.query.shape[2]
        if bool(((n_before < 0) | (n_before > n_known)).any()) or steps.logits.shape[-1] != self.n_prompt + n_steps:
            raise UserError(
                f"The policies were opened for what follows {self.n_prompt} tokens, and other tokens were read between: "
                "fork the prompt, and open them with remember=True to read on in several steps."
            )
        if memory is not None and bool(n_before.any()):
            steps = steps.behind(memory.rows(call.rows), n_before)
        if self.remember:
            n_read = n_before + call.query.shape[2]
            self._memory[call.layer] = remembered(steps, n_read, call.rows, len(self.settings), memory)
        keys, values = (
            precise(torch.cat([segment[side].expand(len(call.query), -1, -1, -1) for segment in call.segments], dim=2))
            for side in (0, 1)
        )
        prompt = self._prompts[call.layer]
        last = prompt.keys[:, :, -1].to(keys.device)
        if not torch.equal(keys[:, :, prompt.n - 1], last.expand(len(keys), -1, -1)):
            raise UserError(
                "The policies were opened for another prompt than the one that is read on: fork the prompt that they were given."
            )
        return Layer(prompt, steps.queries, keys, values, steps.logits, call.softcap)

    def _check_moved(self) -> None:
        by = MOVED.get()
        turning = [type(policy).__name__ for policy in self.groups if policy.needs_rotation]
        if turning and by is not None and bool(by.any()):
            raise UserError(
                f"{turning[0]} turns keys or queries by where they stand, and positions are moved here: leave it out, or do not move them."
            )

    def _n_before(self, call: AttentionCall) -> Int[Tensor, " row"]:
        """How many steps each row read before this call."""
        return call.starts.to(call.query.device) - self.n_prompt

    def _of_call(self, scores: Tensor, call: AttentionCall) -> Tensor:
        """The scores of the steps that a call reads."""
        n_now = call.query.shape[2]
        if scores.shape[2] == n_now:
            return scores
        steps = self._n_before(call)[:, None] + torch.arange(n_now, device=scores.device)
        return torch.take_along_dim(scores, steps[:, None, :, None], dim=2)

    def _allowance(self, rows: Sequence[int], call: AttentionCall) -> Allowance:
        chosen = [self.settings[row] for row in rows]
        device = call.query.device

        def column(values: Sequence[Any]) -> Tensor:
            return torch.tensor(list(values), device=device)

        return Allowance(
            column([one.budget for one in chosen]),
            column([one.first for one in chosen]),
            column([one.last for one in chosen]),
            self.spans,
            column([one.spans for one in chosen]),
        )


# ---------------------------------------------------------------------- for people who build caches


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a model does under one policy after a prompt."""

    logits: Float[Tensor, "step vocabulary"]
    """Next-token logits after every token that follows the prompt, float32."""
    keep: dict[int, Bool[Tensor, "head step key"]]
    """By layer: which keys each query head reads at each step."""
    outputs: dict[int, Float[Tensor, "step head dim"]]
    """By layer: what the heads hand to the output projection."""


@dataclass(eq=False)
class _Kept:
    """Keeps what `simulate` returns."""

    keep: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, layer: Layer, keep: Tensor, scores: Tensor) -> None:
        self.keep[layer.prompt.layer] = keep[0]

    def check(self, n_rows: int) -> None:
        """Any batch will do."""

    def look(self, call: AttentionCall, output: Tensor) -> None:
        """Keeps the outputs, behind those of the steps before."""
        before = self.outputs.get(call.layer)
        self.outputs[call.layer] = output[0] if before is None else torch.cat([before, output[0]])


def simulate(
    model: LanguageModel,
    policy: Policy,
    ids: Sequence[int],
    *,
    n_prompt: int,
    budget: int,
    first: int = 0,
    last: int = 0,
    spans: Sequence[tuple[int, int]] = (),
) -> Simulation:
    """Returns keep sets, head outputs and logits of a text whose first `n_prompt` tokens are read in full, then by a policy.

    Protected are the first and last tokens of the prompt and the token ranges [start, end) in `spans`. Logits are those of the tokens
    after the prompt, each given all before it. Layers that the policy does not touch (windows) have no keep set.
    Raises ArgumentError for a budget or protection that does not fit, and UserError for a policy that keeps what it cannot.
    """
    if not 0 < n_prompt < len(ids):
        raise ArgumentError(f"A prompt of {n_prompt} tokens leaves nothing of {len(ids)}: give 1 to {len(ids) - 1}.")
    read, kept = read_prompt(model, ids[:n_prompt], rotary=policy.needs_rotation), _Kept()
    asked = Setting(policy, budget, first, last, bool(spans))
    edit = PolicyEdit(model, read, [asked], spans=spans, watchers=[kept])
    with model.hooks.opened(edit, kept):
        logits = model.extend(read.prefix.fork(1), [list(ids[n_prompt:])], logits="all")
    return Simulation(logits[0], kept.keep, kept.outputs)
