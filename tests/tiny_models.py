"""Tiny random models of many families, built offline from configurations: three layers, four heads, 97 tokens."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel

VOCABULARY = 97
_SPECIAL = dict(bos_token_id=1, eos_token_id=2)
_COMMON: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    pad_token_id=0,
    **_SPECIAL,
)
_UNGROUPED = {key: value for key, value in _COMMON.items() if key != "num_key_value_heads"}
_FALCON = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_kv_heads=2,
    new_decoder_architecture=True,
    max_position_embeddings=256,
    **_SPECIAL,
)

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _COMMON,
    "mistral": dict(_COMMON, sliding_window=16),
    "mixtral": dict(_COMMON, num_local_experts=3, num_experts_per_tok=2, sliding_window=None),
    "qwen2": _COMMON,
    "qwen3": dict(_COMMON, head_dim=16),
    "gemma2": dict(
        _COMMON,
        head_dim=16,
        sliding_window=16,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
        query_pre_attn_scalar=16,
    ),
    "gemma3_text": dict(
        _COMMON,
        head_dim=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi3": _COMMON,
    "gpt2": dict(vocab_size=VOCABULARY, n_embd=64, n_layer=3, n_head=4, n_positions=256, **_SPECIAL),
    "gpt_neox": _UNGROUPED,
    "opt": dict(_UNGROUPED, ffn_dim=64, word_embed_proj_dim=64),
    "olmo2": _COMMON,
    "falcon": _FALCON,
    "falcon-multi-query": dict(_FALCON, new_decoder_architecture=False, multi_query=True),
    "falcon-alibi": dict(_FALCON, new_decoder_architecture=False, multi_query=False, alibi=True, num_kv_heads=4),
    "stablelm": _COMMON,
    "cohere": _COMMON,
}

_HYBRID = dict(_COMMON, num_hidden_layers=4)
_MAMBA = dict(mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=8, mamba_chunk_size=8)
_DELTA = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16)
_LATENT = dict(kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=16)
_EXPERTS = dict(moe_intermediate_size=32, shared_expert_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
_OLD = dict(vocab_size=VOCABULARY, n_embd=64, n_layer=3, n_head=4, n_positions=256, **_SPECIAL)

REACHED: dict[str, dict[str, Any]] = {
    # heads in some layers; states beside keys
    "bamba": dict(_HYBRID, **_MAMBA, attn_layer_indices=[1, 3]),
    "jamba": dict(
        _HYBRID, attn_layer_period=2, attn_layer_offset=1, num_experts=2, mamba_dt_rank=8, mamba_d_state=8
    ),
    "falcon_h1": dict(_COMMON, **_MAMBA, mamba_d_ssm=128, head_dim=16),
    "lfm2": dict(_HYBRID, layer_types=["conv", "full_attention"] * 2),
    "qwen3_next": dict(
        _HYBRID, **_DELTA, **_EXPERTS, head_dim=16, layer_types=["linear_attention", "full_attention"] * 2
    ),
    # sinks, biases, keys that were changed after they were kept, chosen keys
    "gpt_oss": dict(
        _COMMON, head_dim=16, sliding_window=16, num_local_experts=3, num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "deepseek_v3": dict(
        _COMMON, **_LATENT, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2,
        n_group=1, topk_group=1, first_k_dense_replace=1,
    ),
    # families without the interface
    "gptj": dict(_OLD, rotary_dim=8),
    "codegen": dict(_OLD, rotary_dim=8),
    "gpt_neo": dict(
        vocab_size=VOCABULARY, hidden_size=64, num_layers=4, num_heads=4, max_position_embeddings=256, window_size=8,
        attention_types=[[["global", "local"], 2]], **_SPECIAL,
    ),
    "bloom": dict(vocab_size=VOCABULARY, hidden_size=64, n_layer=3, n_head=4, **_SPECIAL),
    "mpt": dict(vocab_size=VOCABULARY, d_model=64, n_layers=3, n_heads=4, max_seq_len=256, expansion_ratio=1),
    "xglm": dict(
        vocab_size=VOCABULARY, d_model=64, num_layers=3, attention_heads=4, ffn_dim=64, max_position_embeddings=256,
        pad_token_id=0, **_SPECIAL,
    ),
    # heads that cannot be looked at
    "jetmoe": dict(_COMMON, kv_channels=16, num_local_experts=3, num_experts_per_tok=2),
    # a text model inside a multimodal one
    "gemma3": dict(
        text_config=dict(
            _COMMON, model_type="gemma3_text", head_dim=16, sliding_window=16,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        vision_config=dict(
            model_type="siglip_vision_model", hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, image_size=28, patch_size=14,
        ),
    ),
}  # fmt: skip
"""Families that keep, mask or mix otherwise than the ones above; one or more of each kind."""


def tiny_hf(family: str, *, seed: int = 0, attention: str | None = None, **changes: Any) -> Any:
    """Returns a random transformers model of the family; equal arguments give equal weights."""
    config = AutoConfig.for_model(
        family.split("-", maxsplit=1)[0], **{**(FAMILIES | REACHED).get(family, {}), **changes}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)  # wide enough that attention is far from uniform
        elif parameter.numel() > 1:
            parameter.data += 0.2 * torch.randn_like(parameter)  # gains and biases that matter
    return model


def tiny(family: str, *, seed: int = 0, tokenizer: Any = None, **changes: Any) -> LanguageModel:
    """Returns the same random model wrapped as a LanguageModel."""
    hf = tiny_hf(family, seed=seed, **changes)
    return LanguageModel(hf, tokenizer, ModelIdentity(f"tiny-{family}", "tests", str(seed), "float32"))


def random_ids(n_tokens: int, seed: int = 0) -> list[int]:
    """Returns token ids drawn from the tiny vocabulary, special ids left out."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (n_tokens,), generator=generator).tolist()
