"""A model's rotary embedding, as tables of cosines and sines, for policies that score keys at other positions."""

import inspect
from typing import Any

import torch
from torch import Tensor

from interp.errors import UserError
from interp.models.language.model import LanguageModel
from interp.retention.limits import HALVES
from interp.retention.policies.layer import Rotation


def rotations_of(model: LanguageModel, n_prompt: int, n_positions: int) -> dict[int, Rotation]:
    """Returns by layer the rotation of the first positions: layers with windows may turn keys by other angles than the others.

    Where angles depend on the length of the text, they are those that a prompt of `n_prompt` tokens was read with.
    Raises UserError for a model that turns no keys, or turns them in another way than halves against each other.
    """
    found = [module for name, module in model.hf.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    kinds = {type(module).__name__ for module in found}
    if not found or len(kinds) > 1 or model.hf.config.model_type not in HALVES:
        raise _unknown(model)
    module: Any = found[0]
    by_kind = "layer_type" in inspect.signature(module.forward).parameters
    kinds_of = model.hf.config.layer_types if by_kind else [None] * model.n_layers
    rotations = {kind: _rotation(model, module, kind, n_prompt, n_positions) for kind in dict.fromkeys(kinds_of)}
    return {layer: rotations[kind] for layer, kind in enumerate(kinds_of)}


def _rotation(model: LanguageModel, module: Any, kind: str | None, n_prompt: int, n_positions: int) -> Rotation:
    places = torch.arange(n_positions, device=model.device)
    named = {} if kind is None else {"layer_type": kind}
    own = module(torch.zeros(1, 1, 1, device=model.device), places[None, :n_prompt], **named)
    prefix = "" if kind is None else f"{kind}_"
    frequencies: Tensor = getattr(module, f"{prefix}inv_freq").float()  # as the prompt's length has just set them
    scale = float(getattr(module, f"{prefix}attention_scaling", 1.0))
    angles = (places.float()[:, None] * frequencies).repeat(1, 2)
    rotation = Rotation(angles.cos() * scale, angles.sin() * scale, scale)
    for side, known in zip((rotation.cos, rotation.sin), own, strict=True):
        if side[:n_prompt].shape != known[0].shape or not torch.allclose(side[:n_prompt], known[0].float(), atol=1e-4):
            raise _unknown(model)
    return rotation


def _unknown(model: LanguageModel) -> UserError:
    return UserError(
        f"{model.identity.name} ({model.hf.config.model_type}) has no rotary embedding of one kind in halves, which expected attention "
        "and position-free scores need: leave them out of --policies."
    )
