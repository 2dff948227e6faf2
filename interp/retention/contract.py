"""Requirements on every policy: a budget with room for protected keys, and a mask that shows no later key and restores no dropped one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.model import LanguageModel
from interp.retention.limits import LONGEST_CONTINUATION, SHORTEST_PROMPT
from interp.retention.policies.base import Keep, Policy
from interp.retention.policies.layer import Layer


@dataclass(frozen=True)
class Setting:
    """One row of a simulation: a policy, how many prompt keys it may keep, and what is protected whatever its scores."""

    policy: Policy
    budget: int
    first: int = 0
    """First tokens that are protected."""
    last: int = 0
    """Last tokens that are protected."""
    spans: bool = False
    """Whether the named spans are protected."""


@runtime_checkable
class Watcher(Protocol):
    """Looks at what the policies left of a layer.

    A model that reads on token by token calls it after each, with all steps so far.
    """

    def __call__(self, layer: Layer, keep: Bool[Tensor, "row head step key"], scores: Tensor) -> None:
        """Takes the layer, what each head of each row may read, and the scores by which it reads: -inf where nothing is left."""
        ...


def checked(policy: Policy, keep: Keep, layer: Layer) -> Keep:
    """Returns what a policy keeps.

    Raises UserError for a wrong shape, keys of the future, a step that may not read itself, and keys that an eviction brings back.
    """
    name, (rows, _, steps, keys) = type(policy).__name__, layer.logits.shape
    lists = policy.n_lists(layer.prompt)
    wanted = (rows, lists, steps, keys)
    if keep.dtype != torch.bool or tuple(keep.shape) != wanted:
        raise UserError(
            f"The policy {name} returned {keep.dtype} {list(keep.shape)}: a boolean mask [row, list, step, key] of {list(wanted)} is "
            "needed."
        )
    own = torch.arange(keys - steps, keys, device=keep.device)
    later = torch.arange(keys, device=keep.device) > own[:, None]
    if bool((keep & later).any()):
        raise UserError(f"The policy {name} lets a step read what comes after it: set keys after the step to False.")
    if not bool(keep.gather(-1, own[None, None, :, None].expand(rows, lists, -1, -1)).all()):
        raise UserError(f"The policy {name} does not let a step read itself: set its own key to True.")
    if policy.semantics == "evict" and steps > 1:
        back = keep[:, :, 1:] & ~keep[:, :, :-1]
        back = back & (torch.arange(keys, device=keep.device) < own[1:, None])
        if bool(back.any()):
            raise UserError(
                f"The policy {name} reads keys again that it had dropped: make it a Select, which drops nothing."
            )
    return keep


def check_room(setting: Setting, n_prompt: int, spans: Sequence[tuple[int, int]]) -> None:
    """Raises ArgumentError where the budget, the policy's own window or what is protected does not fit the prompt."""
    name, budget = type(setting.policy).__name__, setting.budget
    if not 1 <= budget <= n_prompt:
        raise ArgumentError(
            f"A budget of {budget} keys does not fit a prompt of {n_prompt} tokens: give 1 to {n_prompt}."
        )
    if budget < setting.policy.least:
        raise ArgumentError(
            f"{name} keeps at least {setting.policy.least} keys and the budget is {budget}: raise --budgets or --prompt-tokens."
        )
    outside = [span for span in spans if setting.spans and not 0 <= span[0] < span[1] <= n_prompt]
    if outside:
        raise ArgumentError(
            f"The span {outside[0]} lies outside a prompt of {n_prompt} tokens: give token ranges [start, end) in it."
        )
    n_sure, n_protected = n_sure_keys(setting, n_prompt, spans), _n_kept(setting, n_prompt, spans, (0, 0))
    room = setting.policy.n_own(budget)
    if max(n_sure, n_protected) > room:
        own = f" and {name} always keeps {n_sure - n_protected} more" if n_sure > n_protected else ""
        part = "" if room == budget else f", of which {name} keeps {room} as they are"
        raise ArgumentError(
            f"{n_protected} tokens are protected{own}, and the budget is {budget} keys of {n_prompt}{part}: raise --budgets or protect "
            "fewer."
        )


def n_sure_keys(setting: Setting, n_prompt: int, spans: Sequence[tuple[int, int]]) -> int:
    """Returns how many keys of a prompt are kept whatever their scores: the protected ones and those that the policy holds."""
    first, last = (min(own, n_prompt) for own in setting.policy.held)
    return _n_kept(setting, n_prompt, spans, (first, last))


def _n_kept(setting: Setting, n_prompt: int, spans: Sequence[tuple[int, int]], held: tuple[int, int]) -> int:
    first, last = max(setting.first, held[0]), max(setting.last, held[1])
    sure = set(range(first)) | {place for start, end in spans for place in range(start, end) if setting.spans}
    if setting.policy.event in ("every_step", "every_window"):
        return len(sure) + last  # the last tokens are others after every step, so none of them is another protected one
    return len(sure | set(range(n_prompt - last, n_prompt)))


def check_sinks(model: LanguageModel) -> None:
    """Raises UserError for a model whose attention has learned sinks."""
    if any(name.rpartition(".")[2] == "sinks" for name, _ in model.hf.named_parameters()):
        raise UserError(
            f"{model.identity.name} has learned attention sinks, which take attention mass from all keys and which no policy "
            "here accounts for: name a model without them."
        )


def evictable_layers(model: LanguageModel, n_tokens: int) -> tuple[int, ...]:
    """Returns the layers whose queries see the whole of a text: a layer with a shorter window or chunks drops keys by itself.

    Raises UserError where no layer sees all of it.
    """
    found = whole_layers(model, n_tokens)
    if found:
        return found
    kinds, window = _kinds(model)
    if window is None:
        own = ", ".join(sorted({kinds[layer] for layer in model.geometry.layers}))
        raise UserError(
            f"No layer of {model.identity.name} lets every query see the whole text ({own}), so it drops keys by itself: name another "
            "model."
        )
    room = window - LONGEST_CONTINUATION
    way = f"use prompts of at most {room} tokens, or name" if room >= SHORTEST_PROMPT else "name"
    raise UserError(
        f"Every layer of {model.identity.name} has a window of {window} tokens and drops keys by itself: {way} another model."
    )


def whole_layers(model: LanguageModel, n_tokens: int) -> tuple[int, ...]:
    """Returns the layers whose queries see the whole of a text, of which there may be none."""
    kinds, window = _kinds(model)
    in_window = window is None or window >= n_tokens
    whole = ("full_attention", "attention", "global", "hybrid")  # hybrid: attention beside a state, in one layer
    sees_all = {**dict.fromkeys(whole, True), **dict.fromkeys(("sliding_attention", "local"), in_window)}
    return tuple(layer for layer in model.geometry.layers if sees_all.get(kinds[layer], False))


def _kinds(model: LanguageModel) -> tuple[Sequence[str], int | None]:
    """The kind of every layer, as configurations name them, and the window of those that have one."""
    config: Any = model.hf.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)  # GPT-Neo: global, local
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    window = window or getattr(config, "window_size", None)
    return kinds or ["sliding_attention" if window else "full_attention"] * model.n_layers, window
