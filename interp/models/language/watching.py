"""Where a model is watched: its passes when others call it (a user, `generate`, nnsight), and what enters output projections.

Positions in passes of `model.hf` are columns of the text as given, padding counted, as in transformers' own attention
outputs. They are asked of the cache before the pass, and not guessed from the sizes of tensors.

The input of the output projection is where a head's output is replaced by edits and seen by recordings. Gates and norms that
some families put between attention and the projection have acted there, so `zero` is a zero of what the head hands on,
whatever the family.
"""

import inspect
import sys
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.generation.utils import GenerationMixin

from interp.errors import UserError
from interp.models.language.architecture import layers_with_heads
from interp.models.language.hooks import (
    HOOKS_ATTRIBUTE,
    NOTHING_OPEN,
    AttentionHooks,
    Pass,
    Phase,
    check_begun,
    standing,
)

_MIXED_ROWS = "_beam_search"
_MIXED_TOKENS = "_assisted_decoding"


# ---------------------------------------------------------------------- passes


def watch_calls(base: nn.Module, hooks: AttentionHooks) -> None:
    """Lets the hooks know of every pass of a decoder (`hf.base_model`). A copy of it watches itself."""
    known = HOOKS_ATTRIBUTE in vars(base)
    setattr(base, HOOKS_ATTRIBUTE, hooks)
    if not known:
        base.register_forward_pre_hook(_begin, with_kwargs=True)
        base.register_forward_hook(_end, always_call=True)


def _begin(base: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
    hooks: AttentionHooks = getattr(base, HOOKS_ATTRIBUTE)
    if hooks.current is not None and hooks.current.cache is not None:
        return  # a pass of interp.models.language.forward, which said where it stands
    begun = hooks.begin()
    if not begun.is_watched:
        hooks.current = NOTHING_OPEN
        return
    given = dict(zip(list(inspect.signature(type(base).forward).parameters)[1:], inputs, strict=False)) | options
    _place(begun, base, given)
    hooks.current = begun


def _end(base: nn.Module, _inputs: Any, output: Any) -> None:
    hooks: AttentionHooks = getattr(base, HOOKS_ATTRIBUTE)
    if hooks.current is not None and hooks.current.cache is None:
        ended, hooks.current = hooks.current, None
        if output is not None:  # None: the pass failed
            hooks.check_arrived(ended)


def _place(begun: Pass, base: nn.Module, given: dict[str, Any]) -> None:
    """Writes where the rows stand and which phase it is."""
    tokens: Tensor | None = given.get("input_ids")
    tokens = given.get("inputs_embeds") if tokens is None else tokens
    if tokens is None:
        raise UserError("A model is read from input_ids or inputs_embeds while edits or recordings are open: pass one.")
    n_rows, n_new = tokens.shape[:2]
    cache = given.get("past_key_values")
    n_read = 0
    if cache is not None:
        if not isinstance(cache, Cache) or isinstance(cache, EncoderDecoderCache):
            raise UserError(
                f"The positions of keys in a {type(cache).__name__} are not known: read with model.extend or "
                "model.generate while edits or recordings are open."
            )
        n_read = int(cache.get_seq_length())
        config: Any = base.config
        n_layers: int = config.get_text_config(decoder=True).num_hidden_layers
        layers = layers_with_heads(config) or range(n_layers)
        keeping = [layer for layer in layers if layer >= len(cache.layers) or not cache.is_dummy[layer]]
        begun.spans = {layer: cache.get_mask_sizes(n_new, layer) for layer in keeping}
        begun.n_tokens = n_read + n_new
    begun.starts, begun.rows = standing(n_rows, n_read, tokens.device)
    around = _generating()
    begun.phase = _phase(around, n_read, n_new, given.get("use_cache"))
    _check_rows_stay(begun, around)
    check_begun(begun, n_rows)


def _check_rows_stay(begun: Pass, around: list[str]) -> None:
    by_row = bool(begun.observers) or any(getattr(edit, "n_rows", 1) > 1 for edit in begun.edits)
    if (_MIXED_ROWS in around and by_row) or (_MIXED_TOKENS in around and begun.observers):
        raise UserError(
            "Beam search and assisted decoding read rows and tokens that are not in the end result, so recordings and "
            "edits row by row would show a mixture: use model.generate, or num_beams=1 and no assistant."
        )


_STEPS = {
    inspect.unwrap(getattr(GenerationMixin, name)).__code__: name
    for name in ("generate", "_prefill", "_sample", _MIXED_ROWS, _MIXED_TOKENS)
}


def _generating() -> list[str]:
    """The functions of transformers' `generate` that this pass is called from, innermost first.

    Nothing that a forward pass is given says whether `generate` reads the prompt (in chunks, or on from a cache) or a token
    that it wrote, but the function that calls it does.
    """
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _STEPS:
            found.append(_STEPS[frame.f_code])
        frame = frame.f_back
    return found


def _phase(around: list[str], n_read: int, n_new: int, use_cache: bool | None) -> Phase | None:
    """Returns the phase of a pass, or None where it mixes both or cannot be told."""
    if not around:  # a call of one's own: a text from its beginning, or one token after what was read
        return "prefill" if n_read == 0 else "decode" if n_new == 1 else None
    if _MIXED_TOKENS in around or use_cache is False or around[0] == "generate":
        return None
    if around[0] == "_prefill":
        return "prefill"
    return "decode" if n_new == 1 else None


# ---------------------------------------------------------------------- output projections


def watch_projection(projection: nn.Module, hooks: AttentionHooks) -> None:
    """Lets edits and recordings act on what enters an output projection. A copy of it goes by hooks of its own."""
    known = HOOKS_ATTRIBUTE in vars(projection)
    setattr(projection, HOOKS_ATTRIBUTE, hooks)
    if not known:
        projection.register_forward_pre_hook(_enter)


def _enter(projection: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    hooks: AttentionHooks = getattr(projection, HOOKS_ATTRIBUTE)
    if hooks.waiting is None:
        return None
    here, call, made = hooks.waiting
    hooks.waiting = None
    if here is not hooks.current and hooks.current is not None:
        return None  # left behind by a pass that failed
    rows, heads, queries, _ = call.query.shape
    hidden = inputs[0]
    if hidden.numel() % (rows * heads * queries) or hidden.shape[-1] % heads:
        raise UserError(
            f"{hidden.shape[-1]} numbers enter the output projection of {heads} heads, so what a head writes cannot be told: "
            "close edits and recordings, or name another model."
        )
    output = hidden.reshape(rows, queries, heads, -1)
    for edit in here.acting(call.layer):
        output = edit.replaced(call, output)
    if here.observers:
        call = replace(call, passed=(made, hidden))
    for observer in here.observers:
        observer.look(call, output)
    return (output.reshape(hidden.shape), *inputs[1:])


# ---------------------------------------------------------------------- what a pass must not take over from what was done before


def restart_rotary(model: nn.Module) -> None:
    """Makes growing rotary embeddings forget, before every pass, the longest text so far, which transformers would rotate others for."""
    for module in model.modules():
        if hasattr(module, "max_seq_len_cached") and hasattr(module, "rope_type"):
            module.register_forward_pre_hook(_restarted, with_kwargs=True)


def _restarted(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    kind = options.get("layer_type", args[2] if len(args) > 2 else None) if isinstance(module.rope_type, dict) else None
    if "dynamic" not in (module.rope_type if kind is None else module.rope_type[kind]):
        return
    prefix = "" if kind is None else f"{kind}_"
    original = getattr(module, f"{prefix}original_inv_freq")
    setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
    setattr(module, f"{prefix}inv_freq", original.to(getattr(module, f"{prefix}inv_freq").device))


def refuse_training(model: Any, _: Any) -> None:
    """Raises UserError before a pass of a model of which a part is being trained, where dropout or jitter draws anew in every pass."""
    trained = [module for module in model.modules() if module.training]
    drawn = any(isinstance(module, _DropoutNd) and module.p > 0 for module in trained)
    if drawn or (
        trained and any(_draws(config) for config in (model.config, model.config.get_text_config(decoder=True)))
    ):
        raise UserError(
            f"A part of {type(model).__name__} is set to train, where dropout acts: call eval() on the model."
        )


def _draws(config: Any) -> bool:
    """Whether a configuration has a rate of dropout or jitter, which modules may apply by a function and not by a module."""
    return any(
        isinstance(value, float) and value > 0 and ("drop" in name or "jitter" in name)
        for name, value in vars(config).items()
    )
