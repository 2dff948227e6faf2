"""One pass over a few tokens, watched and played again: what every module was given and made, and the pass with parts changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.models.language.kept_logits import head_at
from interp.models.language.wrapped import WrappedModel


@dataclass
class Call:
    """One call of a module: the first tensor that it was given, the first that it made, and all that it returned."""

    module: nn.Module
    given: Tensor | None
    made: Tensor | None
    output: Any


def few_tokens(model: WrappedModel, n_tokens: int = 5, step: int = 37) -> Int[Tensor, "1 token"]:
    """Returns one row of token ids that any vocabulary has, different ones unless it is tiny; a longer row begins alike."""
    embedding: Any = model.hf.get_input_embeddings()
    rows = embedding.weight.shape[0]
    return ((torch.arange(n_tokens) * step + 11) % rows)[None].to(model.device)


def watch(model: WrappedModel, ids: Tensor) -> list[Call]:
    """Returns every call of every module in a pass over the tokens, in the order in which they ended."""
    calls: list[Call] = []

    def keep(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        entered = next((one for one in (*given, *options.values()) if isinstance(one, Tensor)), None)
        made = _first_tensor(output)
        # Copies: some layers add to what a part made in place (Falcon).
        calls.append(
            Call(module, None if entered is None else entered.clone(), None if made is None else made.clone(), output)
        )

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in model.hf.modules()]
    try:
        with torch.no_grad():
            model.hf(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _first_tensor(output: Any) -> Tensor | None:
    """What a module made: its tensor, or the first of several."""
    if isinstance(output, Tensor):
        return output
    return next((one for one in output if isinstance(one, Tensor)), None) if isinstance(output, tuple) else None


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two modules handed on the same numbers, in whatever shape."""
    return a is not None and b is not None and a.numel() == b.numel() and torch.equal(a.flatten(), b.flatten())


def outermost(module: nn.Module, called: set[nn.Module]) -> list[nn.Module]:
    """Returns the outermost modules inside a layer that are called."""
    parts: list[nn.Module] = []
    for child in module.children():
        parts += [child] if child in called else outermost(child, called)
    return parts


@contextmanager
def replayed(module: nn.Module, calls: list[Call], changed: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Lets every part of a layer return what it returned before, without computing it; `changed` returns something else.

    A part that handed on the very tensor that it was given (dropout at rest) is left alone.
    """
    inside = set(module.modules())
    made: dict[nn.Module, list[Call]] = {}
    for call in calls:
        if call.module in inside:
            made.setdefault(call.module, []).append(call)
    kept: list[tuple[nn.Module, Any]] = []
    for part in outermost(module, set(made)):
        if all(same(call.given, call.made) for call in made[part]):
            continue
        kept.append((part, part.__dict__.get("forward")))
        part.forward = _answers(made[part], changed.get(part))  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part, forward in kept:
            if forward is None:
                del part.forward
            else:
                part.forward = forward  # accelerate's, or an adapter's


def _answers(calls: list[Call], changed: Tensor | None) -> Callable[..., Any]:
    answers = iter(calls)

    def forward(*_: Any, **__: Any) -> Any:
        call = next(answers)
        answer = changed if changed is not None else call.made
        if answer is None:
            return call.output
        answer = answer.clone()
        if isinstance(call.output, Tensor):
            return answer
        place = next(place for place, one in enumerate(call.output) if isinstance(one, Tensor))
        return (*call.output[:place], answer, *call.output[place + 1 :])

    return forward


def run_to_head(model: WrappedModel) -> None:
    """Reads few_tokens, whose logits are not wanted."""
    with head_at(model, torch.zeros((1, 0), dtype=torch.long)):
        model.hf(input_ids=few_tokens(model), use_cache=False)
