"""The residual stream after a layer: reading it, stopping there, and putting something else in its place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import ArgumentError, UserError
from interp.models.language.kept_logits import check_states
from interp.models.language.model import LanguageModel

Residuals = Float[Tensor, "row token residual"]


def layer_modules(model: LanguageModel) -> nn.ModuleList:
    """Returns the model's layers in order: the list of modules, as long as the model is deep, that holds its attention.

    Without attention (Mamba) it is the only list of that length.

    Raises UserError when the layers are not kept in one such list.
    """
    lists = [
        module for module in model.hf.modules() if isinstance(module, nn.ModuleList) and len(module) == model.n_layers
    ]
    if not model.attention_modules and len(lists) == 1:
        return lists[0]
    attention = (
        dict(zip(model.geometry.layers, model.attention_modules, strict=True)) if model.attention_modules else {}
    )
    for module in lists:
        if attention and all(heads in set(module[layer].modules()) for layer, heads in attention.items()):
            return module
    raise UserError(
        f"{model.identity.name} ({model.hf.config.model_type}) does not keep its {model.n_layers} layers in one list, so its "
        "residual stream cannot be read: name another model."
    )


@torch.inference_mode()
def read_residuals(model: LanguageModel, ids: Int[Tensor, "row token"], layers: Sequence[int]) -> dict[int, Residuals]:
    """Returns the residual stream after each of the layers (TransformerLens: blocks.L.hook_resid_post), in the model's dtype.

    Layers beyond the deepest one asked for, the final norm and the language-model head are not computed. Rows may be
    padded on the right with any id: no earlier position sees the padding.
    Raises ArgumentError for a layer the model does not have, and UserError for one that reads no text and for a model with several
    streams.
    """
    modules = layer_modules(model)
    for layer in layers:
        check_layer(model, layer)
    found: dict[int, Residuals] = {}
    deepest = max(layers)

    def keep(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[layer] = _hidden(model, output)
            if layer == deepest:
                raise _DeepEnough

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in dict.fromkeys(layers)]
    try:
        model.hf(input_ids=ids.to(model.device), use_cache=False)
    except _DeepEnough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    skipped = [layer for layer in layers if layer not in found]
    if skipped:
        raise UserError(
            f"Layer {skipped[0]} of {model.identity.name} ({model.hf.config.model_type}) takes no part in reading a text, so there is no "
            "residual stream after it: ask for another layer."
        )
    for stream in found.values():
        check_states(model, stream)
    return {layer: found[layer] for layer in layers}


@contextmanager
def watched_last(model: LanguageModel, rows: Sequence[int]) -> Iterator[dict[int, Float[Tensor, "row residual"]]]:
    """Yields what the last position of these rows holds after each layer in the last pass inside the `with`: filled as it is read."""
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[layer] = _hidden(model, output)[list(rows), -1].detach()

        return hook

    handles = [module.register_forward_hook(keep(layer)) for layer, module in enumerate(layer_modules(model))]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class _DeepEnough(Exception):  # noqa: N818 (it is no error: it ends a forward pass that has shown what was asked for)
    """Raised inside a forward pass once the deepest layer has run."""


def check_layer(model: LanguageModel, layer: int) -> None:
    """Raises ArgumentError for a layer the model does not have."""
    if not 0 <= layer < model.n_layers:
        raise ArgumentError(
            f"{model.identity.name} has no layer {layer}: its layers go from 0 to {model.n_layers - 1}."
        )


@contextmanager
def changed_residuals(model: LanguageModel, layer: int, change: Callable[[Residuals], Residuals]) -> Iterator[None]:
    """Puts `change(residual stream after the layer)` in its place in every forward pass inside the `with`."""
    check_layer(model, layer)

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return _instead(output, change(_hidden(model, output)))

    handle = layer_modules(model)[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def entering(given: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """Returns the residual stream among what a layer is called with: its first tensor."""
    return next(one for one in (*given, *options.values()) if isinstance(one, Tensor))


@contextmanager
def changed_input(model: LanguageModel, layer: int, change: Callable[[Residuals], Residuals]) -> Iterator[None]:
    """Puts `change(residual stream before the layer)` in its place in every forward pass inside the `with`."""
    check_layer(model, layer)

    def hook(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        place = next((place for place, one in enumerate(given) if isinstance(one, Tensor)), None)
        if place is not None:
            return (*given[:place], change(given[place]), *given[place + 1 :]), options
        name = next(name for name, one in options.items() if isinstance(one, Tensor))
        return given, {**options, name: change(options[name])}

    handle = layer_modules(model)[layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def skipped_layers(model: LanguageModel, runs: Bool[Tensor, "row layer token"]) -> Iterator[None]:
    """Lets each token of texts that are read whole pass only the layers that it `runs`, and hand its state on past the others.

    Later tokens still see what a skipped layer makes of the state that was handed on.
    """

    def skip(layer: int) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
            before, after = entering(given, options), _hidden(model, output)
            kept = torch.where(runs[:, layer, :, None].to(after.device), after, before.to(after.device))
            return _instead(output, kept)

        return hook

    modules = layer_modules(model)
    handles = [module.register_forward_hook(skip(layer), with_kwargs=True) for layer, module in enumerate(modules)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def mean_is_unread(model: LanguageModel, layer: int) -> bool:
    """Returns whether nothing a model computes depends on the mean of its residual stream over the residual dimension.

    So it is where every reading goes through a LayerNorm, which takes the mean off; then writing weights that are centred
    leave the stream as it is but for its mean. Tried out: all norms are LayerNorms, and a constant as large as the stream,
    added after the first layer and after this one, leaves the logits as they are.
    """
    norms = [module for module in model.hf.modules() if type(module).__name__.endswith("Norm")]
    if not norms or not all(isinstance(norm, torch.nn.LayerNorm) for norm in norms):
        return False
    n_ids = int(model.hf.config.get_text_config(decoder=True).vocab_size)
    ids = torch.arange(16)[None].to(model.device) * 7 % n_ids
    plain = model.hf(input_ids=ids, use_cache=False).logits.float()
    size = {
        at: float(stream.float().std()) for at, stream in read_residuals(model, ids.cpu(), sorted({0, layer})).items()
    }
    for at, constant in size.items():
        with changed_residuals(model, at, lambda stream, constant=constant: stream + constant):
            shifted = model.hf(input_ids=ids, use_cache=False).logits.float()
        if not float((shifted - plain).abs().max()) <= 0.02 * float(plain.std()):  # nor where it is no number
            return False
    return True


def _hidden(model: LanguageModel, output: Any) -> Residuals:
    """The stream that a layer hands on: its output, or the first of several.

    Raises UserError where that is not one vector for each token (Gemma 3n, DeepSeek V4): whoever takes the first axis for the rows would
    read other streams for other texts.
    """
    stream = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(stream, Tensor) or stream.ndim != 3:
        raise UserError(
            f"The layers of {model.identity.name} ({model.hf.config.model_type}) hand on something other than one vector for each token, "
            "so there is no one residual stream: name another model."
        )
    return stream


def _instead(output: Any, stream: Residuals) -> Any:
    """A layer's output with another stream in it."""
    return type(output)((stream, *output[1:])) if isinstance(output, tuple | list) else stream
