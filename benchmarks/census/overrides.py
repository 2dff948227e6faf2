"""What single families need beside the general sizes, and variants that show what the base of a family hides."""

from typing import Any

_HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
_SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
_BOTH_KINDS = ("sliding_attention", "full_attention")
_DOTS = {
    "num_key_value_heads": 4,
    **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank", "swa_head_dim"), 32),
    **dict.fromkeys(("swa_qk_nope_head_dim", "swa_v_head_dim"), 16),
}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in _BOTH_KINDS},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots3_note": _DOTS,
    "dots3_note_text": _DOTS,
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _HYBRID},
    "hrm_text": {"num_layers_per_stack": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"qk_head_dim": 24, "num_layers": 2, "num_hidden_layers": 4, "head_dim": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "glm4v": {"rope_parameters": _SECTIONS},
    "qwen2_5_vl": {"rope_parameters": _SECTIONS},
    "qwen2_vl": {
        "rope_parameters": _SECTIONS,
        "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
    },
    "reformer": {"axial_pos_embds_dim": (32, 32), "axial_pos_shape": (32, 64)},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 128, "attention_head_dim": 32, "n_mamba_heads": 2},
    "zaya": {"num_experts_per_tok": 1},
}
"""Settings by family."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere2, windows in all layers": ("cohere2", {"layer_types": ["sliding_attention"] * 4}),
    "falcon, ALiBi": ("falcon", {"alibi": True, "new_decoder_architecture": False, "multi_query": False}),
    "falcon, multi-query": ("falcon", {"new_decoder_architecture": False, "multi_query": True}),
    "gemma2, no window": ("gemma2", {"layer_types": ["full_attention"] * 4}),
    "gemma3_text, windows in most layers": (
        "gemma3_text",
        {"layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    ),
    "gemma3n_text, no shared keys": ("gemma3n_text", {"num_kv_shared_layers": 0}),
    "gemma4_text, no shared keys": ("gemma4_text", {"num_kv_shared_layers": 0}),
    "granitemoehybrid, no attention": ("granitemoehybrid", {"layer_types": ["linear_attention"] * 4}),
    "jamba, one layer of attention": ("jamba", {"attn_layer_period": 4, "attn_layer_offset": 2}),
    "lfm2, convolutions": ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama4_text, temperature": ("llama4_text", {"floor_scale": 8, "attn_scale": 0.5}),
    "llama4_text, rotated everywhere": ("llama4_text", {"no_rope_layers": [1, 1, 1, 1]}),
    "mistral, window": ("mistral", {"sliding_window": 8}),
    "nemotron_h, attention first": (
        "nemotron_h",
        {"layers_block_type": ["full_attention", "linear_attention", "mlp", "full_attention"]},
    ),
    "phi3, window": ("phi3", {"sliding_window": 8}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "qwen3_next, attention last": ("qwen3_next", {"layer_types": ["linear_attention"] * 3 + ["full_attention"]}),
    "smollm3, not rotated in half": ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}),
    "zamba2, attention once": ("zamba2", {"layers_block_type": ["linear_attention"] * 3 + ["hybrid"]}),
}
"""Further rows of the table: a family with other settings."""
