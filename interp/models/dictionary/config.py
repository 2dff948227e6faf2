"""The configuration of a dictionary: each field is applied, harmless, or refused by name.

A field that changes the vectors a dictionary takes, or their scale, and that nobody looks at gives wrong features without a
word. So there is no fourth kind: a field that is on none of these lists is refused too.
"""

import re
from collections.abc import Mapping
from typing import Any

from interp.errors import ArgumentError

APPLIED = frozenset(
    "d_in d_sae architecture apply_b_dec_to_input normalize_activations k rescale_acts_by_decoder_norm residual_threshold "
    "max_iterations stop_on_duplicate_support model_name model_class_name hook_name hf_hook_name hook_point hook_layer "
    "hook_point_layer activation_fn activation_fn_str activation_fn_kwargs prepend_bos context_size seqpos_slice "
    "exclude_special_tokens model_from_pretrained_kwargs metadata reshape_activations".split()
)
"""Fields that SAELens' own encoder or the toolkit acts on; with a value that neither can act on they are refused."""

HARMLESS = frozenset(
    (
        # where it is and who made it
        "dtype device neuronpedia_id sae_lens_version sae_lens_training_version training_architecture "
        "training_architecture_details from_pretrained_path verbose seed hook_eval run_name logger "
        # how its weights were found
        "decoder_init_norm l1_coefficient lp_norm l1_warm_up_steps use_sparse_activations aux_loss_coefficient "
        "jumprelu_init_threshold jumprelu_bandwidth jumprelu_sparsity_loss_mode l0_coefficient l0_warm_up_steps "
        "pre_act_loss_coefficient jumprelu_tanh_scale jumprelu_ste_to_input target_l0 topk_threshold_lr matryoshka_widths "
        "use_matryoshka_aux_loss train_batch_size_tokens adam_beta1 adam_beta2 lr lr_scheduler_name lr_warm_up_steps lr_end "
        "lr_decay_steps n_restart_cycles dead_feature_window feature_sampling_window dead_feature_threshold n_eval_batches "
        "eval_batch_size_prompts n_checkpoints checkpoint_path save_final_checkpoint output_path resume_from_checkpoint "
        "n_batches_for_norm_estimate llm_device act_store_device prefetch_llm_batches autocast autocast_lm compile_llm "
        "llm_compilation_mode compile_sae sae_compilation_mode n_batches_in_buffer training_tokens store_batch_size_prompts "
        "activations_mixing_fraction use_cached_activations cached_activations_path "
        # which texts it was trained on
        "dataset_path dataset_trust_remote_code streaming is_dataset_tokenized use_chat_formatting disable_concat_sequences "
        "sequence_separator_token "
        # what SAELens wrote before its version 6
        "mse_loss_normalization b_dec_init_method use_ghost_grads normalize_sae_decoder init_encoder_as_decoder_transpose "
        "decoder_heuristic_init decoder_orthogonal_init expansion_factor scale_sparsity_penalty_by_decoder_norm noise_scale "
        "log_to_wandb log_activations_store_to_wandb log_optimizer_state_to_wandb log_weights_to_wandb wandb_project wandb_id "
        "wandb_entity wandb_log_frequency eval_every_n_wandb_logs tokens_per_buffer total_training_tokens l1_warm_up_steps_sae"
    ).split()
)
"""Fields of training and bookkeeping: the features of the finished weights do not depend on them."""

REFUSED: Mapping[str, str] = {
    "hook_head_index": "it is of a single head's output, not of a residual stream",
    "hook_point_head_index": "it is of a single head's output, not of a residual stream",
    "hook_name_out": "it maps one place of the model to another, as transcoders do",
    "hf_hook_name_out": "it maps one place of the model to another, as transcoders do",
    "hook_head_index_out": "it maps one place of the model to another, as transcoders do",
    "d_out": "it maps one place of the model to another, as transcoders do",
    "finetuning_scaling_factor": "its activations are multiplied by factors that SAELens no longer reads",
    "model_kwargs": "the model was called with arguments of its own",
    "sae": "it is the configuration of a training run, not of a dictionary",
    **dict.fromkeys(
        "n_heads n_attn_layers bottleneck_factor sae_diff_type kval_topk tied_weights activation_normalization_factor".split(),
        "its features depend on the positions before, which temporal autoencoders read together",
    ),
}
"""Fields that are only taken with a value that switches them off, and what is wrong with any other."""

SPARSIFY_APPLIED = frozenset({"d_in", "num_latents", "expansion_factor", "k", "activation"})
SPARSIFY_HARMLESS = frozenset({"normalize_decoder", "multi_topk", "lookup_max_order", "gram_table_hash"})
SPARSIFY_REFUSED: Mapping[str, str] = {
    "signed": "its features act in both directions",
    "skip_connection": "it adds a linear map of its input",
    "transcode": "it maps one place of the model to another, as transcoders do",
    "embed_skip": "it adds a linear map of the embeddings",
    "gram_lookup": "means per word sequence are subtracted from its input",
}
"""The same three kinds for the configuration that sparsify writes."""

_MODEL_APPLIED = frozenset({"center_writing_weights", "default_prepend_bos"})
_MODEL_HARMLESS = frozenset(
    "fold_ln fold_value_biases center_unembed refactor_factored_attn_matrices move_to_device n_devices device device_map dtype "
    "torch_dtype default_padding_side low_cpu_mem_usage trust_remote_code attn_implementation n_ctx first_n_layers".split()
)
"""Ways of loading the model that leave its residual stream as it is: folded norms and values, a centred unembedding,
precision, place."""

_ARCHITECTURES: Mapping[str, str] = {
    **dict.fromkeys(("standard", "gated", "jumprelu", "topk", "matching_pursuit"), ""),
    **dict.fromkeys(
        ("batchtopk", "matryoshka_batchtopk"),
        "it was saved for training: load it in SAELens and save it with save_inference_model",
    ),
    "abstopk": "its features act in both directions, and only those above 0 are counted here",
    "temporal": "its features depend on the positions before, which are read together",
    **dict.fromkeys(
        ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
        "it predicts an MLP's output instead of the residual stream that it reads",
    ),
}
_NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
_MODEL_CLASSES = ("HookedTransformer", "HookedSAETransformer", "TransformerBridge", "AutoModelForCausalLM")
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.hook_(resid_post|resid_pre|out|in)")
_TRANSFORMERS = re.compile(
    r"(?:(?:base_model|model|language_model|text_model|transformer|gpt_neox|decoder|backbone)\.)*(?:layers|h|blocks)\.(\d+)(?:\.(output|input))?"
)
"""Layers of the text's own tower: vision_model.encoder.layers.1 and mlp.layers.1 are others."""
_ENCODER_DEFAULTS: Mapping[str, Any] = {
    "architecture": "standard", "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
    "rescale_acts_by_decoder_norm": False, "activation_fn": None, "activation_fn_str": None, "activation_fn_kwargs": None,
    "k": None, "residual_threshold": None, "max_iterations": None, "stop_on_duplicate_support": None,
}  # fmt: skip
"""What SAELens reads beside the metadata and never in it, and what it takes where nothing is said."""
_OFF = (None, False, "", [], {}, ())


def layer_of(hook_name: str | None, name: str) -> int:
    """Returns the layer after which the residual stream of a hook is read.

    Hooks of TransformerLens (blocks.1.hook_resid_post, blocks.1.hook_out, blocks.2.hook_resid_pre) and modules of transformers
    (model.layers.1, transformer.h.1, gpt_neox.layers.1). Raises ArgumentError for any other, and for the embeddings.
    """
    hook = hook_name or ""
    if match := _TRANSFORMER_LENS.fullmatch(hook):
        layer = int(match[1]) - (match[2] in ("resid_pre", "in"))
    elif match := _TRANSFORMERS.fullmatch(hook):
        layer = int(match[1]) - (match[2] == "input")
    else:
        layer = -1
    if layer < 0:
        raise ArgumentError(
            f"{name} belongs to the hook {hook_name or '(none named)'}: only residual streams after a layer can be read, so name a "
            "dictionary of blocks.L.hook_resid_post."
        )
    return layer


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Raises ArgumentError for the first field of a configuration that would change features and cannot be applied.

    `config` is what SAELens writes: fields of the dictionary, and under `metadata` those of its training (before version 6 all
    in one).
    """
    metadata = object_in(config, "metadata", name)
    beside = {key: value for key, value in config.items() if key != "metadata"}
    _check_said_once(beside, metadata, name)
    fields = {**metadata, **{key: value for key, value in beside.items() if value is not None}}
    for field, value in fields.items():
        if value is None or field in HARMLESS or field in APPLIED:
            continue
        if field not in REFUSED:
            raise refusal(name, field, value, "the toolkit does not know this field, so it cannot tell what it changes")
        if value not in _OFF:
            raise refusal(name, field, value, REFUSED[field])
    _check_architecture(fields, name)
    for field, allowed in (
        ("reshape_activations", ("none",)),
        ("model_class_name", _MODEL_CLASSES),
        ("apply_b_dec_to_input", (True, False)),
    ):
        value = fields.get(field)
        if value is not None and value not in allowed:
            raise refusal(name, field, value, "only " + " or ".join(map(str, allowed)) + " can be read")
    _check_model_arguments(object_in(fields, "model_from_pretrained_kwargs", name), name)


def _check_said_once(beside: Mapping[str, Any], metadata: Mapping[str, Any], name: str) -> None:
    """Raises ArgumentError for a field that says one thing in the metadata and another beside them, where SAELens reads it."""
    for field, value in metadata.items():
        if value is None or field in HARMLESS:
            continue
        other = beside.get(field)
        other = _ENCODER_DEFAULTS.get(field, value) if other is None else other
        if other != value:
            raise refusal(
                name, f"metadata.{field}", value, f"beside the metadata, where SAELens reads it, stands {other}"
            )


def check_scale(normalize_activations: object, name: str) -> None:
    """Raises ArgumentError when a loaded dictionary still expects its input scaled by numbers that are not beside it."""
    if normalize_activations not in _NORMALISATIONS:
        raise refusal(
            name,
            "normalize_activations",
            normalize_activations,
            "its input was scaled by numbers of the training run, which belong in activation_scaler.json (and "
            "activation_whitening.safetensors) beside it",
        )


def check_sparsify(config: Mapping[str, Any], name: str) -> None:
    """Raises ArgumentError for a field of sparsify's configuration that would change features and cannot be applied."""
    for field, value in config.items():
        if value in _OFF or field in SPARSIFY_APPLIED | SPARSIFY_HARMLESS:
            continue
        raise refusal(name, field, value, SPARSIFY_REFUSED.get(field, "the toolkit does not know this field"))
    if config.get("activation", "topk") != "topk":
        raise refusal(name, "activation", config["activation"], "only topk can be read")
    if type(config.get("k")) is not int or config["k"] < 1:
        raise refusal(name, "k", config.get("k"), "it is the number of features that act, 1 or more")


def _check_architecture(fields: Mapping[str, Any], name: str) -> None:
    architecture = fields.get("architecture", "standard")
    reason = _ARCHITECTURES.get(architecture, "SAELens' autoencoders of a residual stream are read, and no others")
    if reason:
        raise refusal(name, "architecture", architecture, reason)
    arguments = object_in(fields, "activation_fn_kwargs", name)
    activation = fields.get("activation_fn", fields.get("activation_fn_str"))
    top_k = architecture == "topk" or activation == "topk"
    if architecture not in ("standard", "topk") and activation == "topk":
        raise refusal(name, "activation_fn", activation, f"SAELens encodes {architecture} without it")
    if activation not in (None, "relu", "topk"):
        raise refusal(name, "activation_fn", activation, "only relu and topk can be read")
    for field, value in arguments.items():
        if not (top_k and field == "k") and value not in _OFF:
            raise refusal(name, f"activation_fn_kwargs.{field}", value, "SAELens encodes without it")
    if fields.get("rescale_acts_by_decoder_norm") and architecture != "topk":
        raise refusal(name, "rescale_acts_by_decoder_norm", True, f"SAELens encodes {architecture} without it")
    k, width = fields.get("k", arguments.get("k")), fields.get("d_sae")
    if top_k and isinstance(k, int) and isinstance(width, int) and not 0 < k <= width:
        raise refusal(name, "k", k, f"it has {width} features, so give k from 1 to {width}")


def _check_model_arguments(arguments: Mapping[str, Any], name: str) -> None:
    for field, value in arguments.items():
        if value is None or field in _MODEL_HARMLESS:
            continue
        if field not in _MODEL_APPLIED:
            raise refusal(
                name,
                f"model_from_pretrained_kwargs.{field}",
                value,
                "it was trained on a model that was loaded otherwise",
            )
        if not isinstance(value, bool):
            raise refusal(name, f"model_from_pretrained_kwargs.{field}", value, "it is true or false")


def object_in(fields: Mapping[str, Any], field: str, name: str) -> Mapping[str, Any]:
    """Returns a field that holds an object, {} if it is missing; raises ArgumentError for any other value."""
    value = fields.get(field)
    if value in (None, [], ""):
        return {}
    if not isinstance(value, Mapping):
        raise refusal(name, field, value, "it is an object of named values")
    return value


def refusal(name: str, field: str, value: object, reason: str) -> ArgumentError:
    """Returns the error that says which field of which dictionary is refused, and why."""
    shown = str(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
    return ArgumentError(f"{name} says {field}: {shown} in its configuration, and {reason}; name another --dictionary.")
