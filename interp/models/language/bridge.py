"""The same weights as a TransformerLens model, if that computes the same numbers."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from interp.errors import UserError
from interp.models.language.forward import read_on
from interp.models.language.out_of_memory import is_out_of_memory
from interp.models.language.wrapped import WrappedModel

PROBE_BLOCK_TOKENS = 32
"""The probe text is a block of random tokens, twice: what attention does shows on repetition."""
TOLERANCE = 1e-3
"""Largest error of the logits, relative to their spread. In float32 rounding makes about 1e-6, a wrong model 1e-2 and more."""


def build_bridge(model: WrappedModel) -> Any:
    """Returns a TransformerBridge over a copy of the model's weights, whose logits were found to be the model's own.

    Hook names are TransformerLens' (`blocks.12.hook_resid_post`), `run_with_cache` and SAELens dictionaries work on it. It
    is a copy because the bridge rewires the modules it is given: on a shared model, recordings and edits would silently
    stop working. Nothing is folded or centred.

    TransformerLens boots some architectures and computes something else, so a text of 64 tokens is read both ways, in
    float32: rounding in half precision hides errors of that size. A half-precision model is therefore first compared as a
    float32 copy in the processor's memory, which is then dropped. What only a longer text shows (a sliding window of
    thousands of tokens) is not seen.

    Raises UserError when TransformerLens cannot read the model or computes other logits.
    """
    single = model.hf.dtype == torch.float32
    twin = copy.deepcopy(model.hf) if single else copy.deepcopy(model.hf).cpu().float()
    alone = WrappedModel(twin, copy.deepcopy(model.tokenizer), model.identity)  # without the edits open on the model
    ids = _probe_text(alone)
    _ = alone.geometry  # refuses models without heads
    ours = read_on(alone, alone.rows(1), [ids], kept="all", phase="prefill")[0]
    bridge = _boot(alone, twin)
    with torch.no_grad():
        theirs = bridge(torch.tensor([ids], device=alone.device))[0]
    error = _relative_error(theirs.float(), ours)
    if not error <= TOLERANCE:
        raise UserError(
            f"TransformerLens computes other logits for {model.identity.name} ({model.hf.config.model_type}): they are off by "
            f"{error:.1%} of their spread, so use record and edit_heads of the model itself instead of bridge()."
        )
    return bridge if single else _boot(model, copy.deepcopy(model.hf))


def _boot(model: WrappedModel, hf: PreTrainedModel) -> Any:
    """Rewires a copy of the model."""
    from transformer_lens.model_bridge import TransformerBridge

    hf.set_attn_implementation("eager")
    try:
        return TransformerBridge.boot_transformers(
            model.identity.source, hf_model=hf, tokenizer=copy.deepcopy(model.tokenizer), device=str(model.device)
        )
    except (RuntimeError, ValueError, AttributeError) as error:  # its adapters fail in their own ways
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"TransformerLens cannot read {model.identity.name} ({model.hf.config.model_type}: {str(error).splitlines()[0]}): use "
            "record and edit_heads of the model itself instead of bridge()."
        ) from error


def _probe_text(model: WrappedModel) -> list[int]:
    special = set(model.tokenizer.all_special_ids)
    embedding: Any = model.hf.get_input_embeddings()
    ordinary = [id for id in range(min(len(model.tokenizer), len(embedding.weight))) if id not in special]
    drawn = torch.randint(len(ordinary), (PROBE_BLOCK_TOKENS,), generator=torch.Generator().manual_seed(0))
    text = 2 * [ordinary[index] for index in drawn.tolist()]
    return text[: model.context_window]


def _relative_error(theirs: Float[Tensor, "token vocabulary"], ours: Float[Tensor, "token vocabulary"]) -> float:
    """Root mean square of the difference over that of our logits around each token's mean."""
    spread = ours - ours.mean(dim=-1, keepdim=True)
    return float((theirs - ours).norm() / spread.norm())
