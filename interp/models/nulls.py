"""Damaged copies of a model: what a measure gives when a part of the model knows nothing."""

import copy
from typing import Any, Literal, get_args

import torch
from torch import nn

from interp.errors import UserError
from interp.models.architecture import attention_modules
from interp.models.language import LanguageModel

Null = Literal["random_init", "qk_shuffled", "qk_shuffled_per_head"]
NULLS: tuple[Null, ...] = get_args(Null)


def null_model(model: LanguageModel, null: Null, seed: int) -> LanguageModel:
    """Returns a copy of a model with a part of its weights drawn anew or shuffled; the model itself is left alone.

    random_init: fresh weights from the model's own initialisation. qk_shuffled: the entries of every query and key matrix
    shuffled. qk_shuffled_per_head: shuffled within each head only, so every head keeps its scale. Values, feed-forward
    layers and embeddings stay (Armeni et al. 2022, appendix; their per-head split takes the number of layers for the
    number of heads, which is right for GPT-2 small alone).
    Raises UserError for shuffles of a model whose query and key matrices are not found.
    """
    generator = torch.Generator().manual_seed(seed)
    if null == "random_init":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hf: Any = type(model.hf)(copy.deepcopy(model.hf.config))
        hf = hf.to(device=model.device, dtype=model.hf.dtype)
        return LanguageModel(hf, model.tokenizer, model.identity)
    hf = copy.deepcopy(model.hf)
    heads = model.geometry
    for module in attention_modules(hf):
        for name, n_heads in (("q_proj", heads.n_heads), ("k_proj", heads.n_kv_heads)):
            for block in _head_blocks(module, name, 1 if null == "qk_shuffled" else n_heads, model.identity.name):
                _shuffle(block, generator)
    return LanguageModel(hf, model.tokenizer, model.identity)


def _head_blocks(module: nn.Module, name: str, n_blocks: int, model: str) -> list[torch.Tensor]:
    """Views of a projection's weight, one block of rows per head."""
    projection = getattr(module, name, None)
    if not isinstance(projection, nn.Linear):
        raise UserError(f"{model} keeps no {name} of its own in its attention layers: leave out the shuffled nulls.")
    return list(projection.weight.data.chunk(n_blocks, dim=0))


def _shuffle(block: torch.Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(block.numel(), generator=generator).to(block.device)
    block.copy_(block.flatten()[order].view_as(block))
