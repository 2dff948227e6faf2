"""The way from each attention block to the logits, found by watching a few tokens pass: norms, gains, what follows the head.

No family is named here. A norm that is given what an attention block wrote is a norm after attention; what the block's output
is multiplied by on its way down the residual stream is the gradient of the final residual with every other block frozen; the
norm last called before the language-model head is the final one.
"""

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import UserError
from interp.models.language.architecture import output_projection
from interp.models.language.logit_head import find_logit_head
from interp.models.language.model import LanguageModel
from interp.models.language.norms import take_apart
from interp.models.language.replay import Call, few_tokens, outermost, replayed, run_to_head, same, watch
from interp.models.language.residuals import layer_modules


@dataclass(frozen=True)
class LogitPath:
    """What stands between the heads of each layer and the logits."""

    blocks: dict[int, nn.Module]
    """By layer, the outermost module that hands on what the output projection made: the attention module, or one around it."""
    attention_norms: dict[int, nn.Module]
    """Norms, by layer, that the attention output passes before it is added to the residual stream."""
    gains: dict[int, Float[Tensor, " residual"]]
    """What the attention output, after its norm, is multiplied by until the final norm; layers with 1 everywhere left out."""
    final_norm: nn.Module
    output_scale: float
    """What the final norm's output is multiplied by beside the unembedding, soft-capping left out."""


_KNOWN: "weakref.WeakKeyDictionary[nn.Module, LogitPath]" = weakref.WeakKeyDictionary()


def logit_path(model: LanguageModel) -> LogitPath:
    """Returns the way to the logits, watched once for each model.

    Raises UserError where the logits are no sum of what the heads wrote: an unknown norm, something else between the output
    projection and the residual stream, norms that the stream itself passes, or logits that are no multiple of the head's.
    """
    if model.hf not in _KNOWN:
        with model.hooks.closed(), torch.inference_mode(mode=False):
            _KNOWN[model.hf] = _path(model, watch(model, few_tokens(model)))
    return _KNOWN[model.hf]


def _path(model: LanguageModel, calls: list[Call]) -> LogitPath:
    layers = layer_modules(model)
    blocks: dict[int, nn.Module] = {}
    norms: dict[int, nn.Module] = {}
    for layer in model.geometry.layers:
        blocks[layer], norm = _end_of_attention(model, layer, layers[layer], calls)
        if norm is not None:
            norms[layer] = norm
    ends = blocks | norms
    head = find_logit_head(model, layers, calls, partial(_refusal, model))
    gains = _gains(model, layers, ends, calls, head.norm)
    return LogitPath(blocks, norms, gains, head.norm, head.before * head.after)


def _end_of_attention(
    model: LanguageModel, layer: int, module: nn.Module, calls: list[Call]
) -> tuple[nn.Module, nn.Module | None]:
    """The module whose output is added to the residual stream, the attention module or one around it, and a norm after it."""
    inside = model.attention_of(layer)
    called = {call.module for call in calls}
    attention = next((part for part in outermost(module, called) if inside in set(part.modules())), None)
    projected = next((call for call in calls if call.module is output_projection(inside)), None)
    written = next((call for call in calls if call.module is attention), None)
    if attention is None or written is None or projected is None:
        raise _refusal(model, f"its layer {layer} does not hold its attention where it is looked for")
    if not same(projected.made, written.made):
        raise _refusal(model, f"in layer {layer} what the heads write is changed after the output projection")
    norm, stream = None, written.made
    parts = set(module.children()) - {attention}
    for call in calls:
        if call.module not in parts or not same(call.given, stream):
            continue
        if same(call.made, stream):
            continue  # dropout
        if norm is not None:
            raise _refusal(model, f"in layer {layer} more than one norm follows the attention")
        head: Any = model.hf.get_output_embeddings()
        take_apart(call.module, head.weight.shape[1])
        norm, stream = call.module, call.made
    return attention, norm


def _gains(
    model: LanguageModel,
    layers: nn.ModuleList,
    ends: dict[int, nn.Module],
    calls: list[Call],
    final_norm: nn.Module,
) -> dict[int, Float[Tensor, " residual"]]:
    """The gradient of the final residual by each attention block's output, everything else as it was."""
    leaves = [next(call.made for call in calls if call.module is end) for end in ends.values()]
    leaves = [leaf.detach().clone() for leaf in leaves if leaf is not None]
    shifts = [1 + layer / len(leaves) for layer in range(len(leaves))]
    with torch.no_grad():
        shifted = [leaf + shift for leaf, shift in zip(leaves, shifts, strict=True)]
        moved = _final_residual(model, layers, ends, calls, final_norm, shifted)
        before = next(call.given for call in calls if call.module is final_norm)
        assert before is not None
        change = (moved - before).float()
    if torch.allclose(change, torch.full_like(change, sum(shifts)), rtol=1e-4, atol=0.0):
        return {}  # every block's output arrives as it was written: no gradient is needed to see that
    with torch.enable_grad():
        leaves = [leaf.requires_grad_() for leaf in leaves]
        residual = _final_residual(model, layers, ends, calls, final_norm, leaves)
        if not residual.requires_grad:
            raise _refusal(model, "other parts of its layers hand on the residual stream with what they add to it")
        found = torch.autograd.grad(residual.sum(), leaves, allow_unused=True)
    gains: dict[int, Tensor] = {}
    for layer, gradient in zip(ends, found, strict=True):
        rows = None if gradient is None else gradient.float().flatten(0, -2)
        if rows is None or not torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-3, atol=1e-6):
            raise _refusal(model, f"the residual stream is no sum behind the attention of layer {layer}")
        if not bool((rows == 1).all()):
            gains[layer] = rows[0]
    return gains


def _final_residual(
    model: LanguageModel,
    layers: nn.ModuleList,
    ends: dict[int, nn.Module],
    calls: list[Call],
    final_norm: nn.Module,
    written: Sequence[Tensor],
) -> Float[Tensor, "row token residual"]:
    """What enters the final norm when the attention blocks write this, every other block what it wrote before."""
    caught: list[Tensor] = []
    outputs = dict(zip(ends, written, strict=True))
    with ExitStack() as stack:
        for layer, module in enumerate(layers):
            changed = {ends[layer]: outputs[layer]} if layer in ends else {}
            stack.enter_context(replayed(module, calls, changed))
        handle = final_norm.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            run_to_head(model)
        finally:
            handle.remove()
    return caught[0]


def residuals_without_heads(
    model: LanguageModel, layers: Sequence[int]
) -> tuple[Float[Tensor, "token residual"], list[Float[Tensor, "token residual"]]]:
    """Returns the final norm's input for few_tokens as it is, and for each layer with nothing entering its output projection.

    Every block but that one, feed-forward and attention, writes what it wrote: the frozen change that contributions stand for.
    The norm after attention, where there is one, divides by what it divided by.
    """
    caught: list[Tensor] = []
    with model.hooks.closed(), torch.inference_mode(mode=False), torch.no_grad():
        calls = watch(model, few_tokens(model))
        if model.hf not in _KNOWN:  # one watched pass serves both
            _KNOWN[model.hf] = _path(model, calls)
        path = _KNOWN[model.hf]
        handle = path.final_norm.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            for layer in layers:
                changed = {path.attention_norms.get(layer, path.blocks[layer]): _silent(model, path, calls, layer)}
                with ExitStack() as stack:
                    for module in layer_modules(model):
                        stack.enter_context(replayed(module, calls, changed))
                    run_to_head(model)
        finally:
            handle.remove()
    whole = next(call.given for call in calls if call.module is path.final_norm)
    assert whole is not None
    return whole.flatten(0, -2), [residual.flatten(0, -2) for residual in caught]


def _silent(model: LanguageModel, path: LogitPath, calls: list[Call], layer: int) -> Tensor:
    """What a layer's attention adds to the residual stream when nothing enters its output projection."""
    attention = model.attention_of(layer)
    projection = output_projection(attention)
    entered = next(call.given for call in calls if call.module is projection)
    written = next(call.made for call in calls if call.module is path.blocks[layer])
    assert entered is not None
    assert written is not None
    silent = projection(torch.zeros_like(entered)).reshape(written.shape)
    if layer not in path.attention_norms:
        return silent
    norm = take_apart(path.attention_norms[layer], written.shape[-1])
    x = silent.float() - silent.float().mean(-1, keepdim=True) if norm.centred else silent.float()
    return (norm.gain * x / norm.scale(written)[..., None] + norm.bias).to(written.dtype)


def _refusal(model: LanguageModel, reason: str) -> UserError:
    return UserError(
        f"Logit contributions cannot be computed for {model.identity.name} ({model.hf.config.model_type}): {reason}; heads can still be "
        "recorded and edited."
    )
