"""A model's rotary embedding, as tables of cosines and sines, for policies that score keys at other positions."""

import inspect
from typing import Any

import torch

from interp.errors import UserError
from interp.models.language.model import LanguageModel
from interp.retention.limits import HALVES
from interp.retention.policies.layer import Rotation


def rotations_of(model: LanguageModel, n_positions: int) -> dict[int, Rotation]:
    """Returns by layer the rotation of the first positions: layers with windows may turn keys by other angles than the others.

    Raises UserError for a model that turns no keys, or turns them in another way than halves against each other.
    """
    found = [module for name, module in model.hf.named_modules() if name.rpartition(".")[2] == "rotary_emb"]
    kinds = {type(module).__name__ for module in found}
    if not found or len(kinds) > 1 or model.hf.config.model_type not in HALVES:
        raise UserError(
            f"{model.identity.name} ({model.hf.config.model_type}) has no rotary embedding of one kind in halves, which expected attention "
            "and position-free scores need: leave them out of --policies."
        )
    module: Any = found[0]
    places = torch.arange(n_positions, device=model.device)[None]
    by_kind = "layer_type" in inspect.signature(module.forward).parameters
    kinds_of = model.hf.config.layer_types if by_kind else [None] * model.n_layers
    rotations = {}
    for kind in dict.fromkeys(kinds_of):
        named = {} if kind is None else {"layer_type": kind}
        cos, sin = module(torch.zeros(1, 1, 1, device=model.device), places, **named)
        rotations[kind] = Rotation(cos[0].float(), sin[0].float())
    return {layer: rotations[kind] for layer, kind in enumerate(kinds_of)}
