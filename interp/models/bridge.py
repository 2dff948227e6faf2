"""The same weights as a TransformerLens model."""

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.models.language import LanguageModel


def build_bridge(model: "LanguageModel") -> Any:
    """Returns a TransformerBridge over a copy of the model's weights.

    Hook names are TransformerLens' (`blocks.12.hook_resid_post`), `run_with_cache` and SAELens dictionaries work on it. It
    is a copy because the bridge rewires the modules it is given: on a shared model, recordings and edits would silently
    stop working. Nothing is folded or centred: its logits are the model's own.
    """
    from transformer_lens.model_bridge import TransformerBridge

    hf = copy.deepcopy(model.hf)
    hf.set_attn_implementation("eager")
    return TransformerBridge.boot_transformers(
        model.identity.source, hf_model=hf, tokenizer=copy.deepcopy(model.tokenizer), device=str(model.device)
    )
