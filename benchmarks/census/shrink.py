"""A tiny configuration of any causal language model of transformers: the family's own class with small numbers in it."""

import dataclasses
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from benchmarks.census.overrides import OVERRIDES
from interp.models.loading.classes import TEXT_INSIDE

VOCABULARY = 1024
N_LAYERS = 4
WIDTH = 64

SIZES: dict[str, int] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_dim", "emb_dim", "word_embed_proj_dim"), WIDTH),
    **dict.fromkeys(("embedding_size", "input_embedding_size", "output_embedding_size", "lru_width"), WIDTH),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"), WIDTH),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size", "intermediate_size_mlp"), WIDTH),
    **dict.fromkeys(("shared_experts_intermediate_size", "dense_intermediate_size", "expert_ffn_hidden_size"), WIDTH),
    **dict.fromkeys(("ffn_dim", "dim_ff", "dff", "d_inner", "ffn_hidden_size", "feed_forward_size"), WIDTH),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "attention_hidden_size", "router_hidden_size"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), N_LAYERS),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"), N_LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "swa_num_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "swa_num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim", "kv_channels", "dim_head", "d_head", "rotary_dim"), 16),
    **dict.fromkeys(("query_pre_attn_scalar", "attention_head_size", "index_head_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 2048),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "window_size", "attention_window_size"), 8),
    **dict.fromkeys(("local_attention", "attention_chunk_size", "keep_window_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "num_dense_layers", "first_k_dense_replace"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 32),
    **dict.fromkeys(("qk_nope_head_dim", "v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "adapter_rank", "laurel_rank", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 16),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "time_step_rank", "mamba_dt_rank"), 8),
    **dict.fromkeys(("mamba_n_heads", "n_mamba_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_n_groups", "mamba_ngroups", "n_groups"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), 8),
    **dict.fromkeys(("max_window_layers", "num_kv_shared_layers"), 2),
    **dict.fromkeys(("original_max_position_embeddings", "moe_layer_end_index"), 2048),
    **dict.fromkeys(("prompt_length", "ngram_vocab_size_base", "hc_lowrank", "ple_embed_dim"), 16),
    "index_topk": 6,
    "index_n_heads": 32,  # of few heads ReLU leaves scores of exactly 0, and which of equal keys are taken is nobody's choice
    "pad_token_id": 5,  # an id that the texts of the check do not have
    "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
"""What numbers become, by their names in configurations."""

PATTERNS = ("layer_types", "mlp_layer_types", "layers_block_type")
"""Fields with a kind for each layer: every kind of the family's own pattern is kept."""


def families() -> list[str]:
    """Returns the names of all causal language models of the installed transformers, and of multimodal ones that hold one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *TEXT_INSIDE]


def tiny_config(family: str, changes: dict[str, Any] | None = None) -> PreTrainedConfig:
    """Returns a tiny configuration; changes, and those of the table of overrides, are of the text model's fields."""
    kind: type[PreTrainedConfig] = CONFIG_MAPPING[family]
    wanted = {**OVERRIDES.get(family, {}), **(changes or {})}
    outer = {name: wanted.pop(name) for name in list(wanted) if name.endswith("_config")}
    parts: dict[str, type[PreTrainedConfig]] = getattr(kind, "sub_configs", {})
    inner = "text_config" if "text_config" in parts else None
    parts = {name: part for name, part in parts.items() if name not in outer or inner}
    settings = small(kind, {} if inner else wanted)
    for name, declared in parts.items():
        part = type(getattr(kind(), name)) if declared.__name__ == "AutoConfig" else declared
        fields = small(part, wanted if name == inner else {}, is_text=name == inner)
        settings[name] = {"model_type": part.model_type, **fields, **outer.pop(name, {})}
    return kind(**settings, **outer)


def small(kind: type[PreTrainedConfig], wanted: dict[str, Any], *, is_text: bool = True) -> dict[str, Any]:
    """Returns small settings for a configuration class, by the names that it has."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    settings: dict[str, Any] = {name: size for name, size in SIZES.items() if name in names}
    if "is_decoder" in names:
        settings["is_decoder"] = True  # as causal models of families of encoders have it
    if "kv_lora_rank" in names:
        settings["num_key_value_heads"] = settings["num_attention_heads"]  # one latent for all heads
    if not is_text:
        return {name: size for name, size in settings.items() if not name.endswith("token_id")} | wanted
    for name in names & {*PATTERNS}:
        pattern = vars(kind(**_OWN.get(kind.__name__, {}))).get(name)
        if pattern:
            kinds = list(dict.fromkeys(pattern))
            settings[name] = [kinds[layer % len(kinds)] for layer in range(N_LAYERS)]
    return {**settings, **wanted}


_OWN: dict[str, dict[str, Any]] = {}
"""What a configuration class needs to be made at all."""
