"""Where each family of transformers keeps its heads: attention modules, output projections, head counts; and its positions."""

import json
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from interp.errors import UserError
from interp.models.identity import HeadGeometry

_OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense", "Wo")


def head_geometry(config: PreTrainedConfig) -> HeadGeometry | None:
    """Returns the head counts a configuration names, or None for a model without attention heads.

    Where layers differ in width, head_dim is that of the widest.
    """
    text: Any = config.get_text_config(decoder=True)
    layers = layers_with_heads(config)
    n_heads = _of_layers(text, "num_attention_heads")
    if not n_heads or not hasattr(text, "num_hidden_layers") or text.model_type in _WITHOUT_ATTENTION or layers == ():
        return None
    n_kv_heads = _of_layers(text, "num_key_value_heads") or n_heads
    if text.model_type == "falcon":
        n_kv_heads = _falcon_kv_heads(text)
    head_dim = _of_layers(text, "head_dim") or text.hidden_size // n_heads
    return HeadGeometry(text.num_hidden_layers, n_heads, n_kv_heads, head_dim, layers)


def head_counts(config: PreTrainedConfig) -> list[int]:
    """Returns the different numbers of attention heads of the layers that have heads, of a configuration that names one for each."""
    text: Any = config.get_text_config(decoder=True)
    if not getattr(text, "is_heterogeneous", False):
        return []
    layers = layers_with_heads(config) or range(len(text.per_layer_config))
    numbers = {getattr(text.per_layer_config[layer], "num_attention_heads", None) for layer in layers}
    return sorted(number for number in numbers if number)


def _of_layers(text: Any, name: str) -> int | None:
    """A number of the configuration; where each layer has its own, the largest."""
    if not getattr(text, "is_heterogeneous", False):
        return getattr(text, name, None)
    numbers = [getattr(layer, name, None) for layer in text.per_layer_config]
    return max((number for number in numbers if number), default=None)


def layers_with_heads(config: PreTrainedConfig) -> tuple[int, ...] | None:
    """Returns the numbers of the layers with attention heads, or None where all have them.

    The others keep a state (linear attention, Mamba), convolve, or are feed-forward alone.
    """
    text: Any = config.get_text_config(decoder=True)
    n_layers: int = getattr(text, "num_hidden_layers", 0)  # BLT has several stacks and no such number
    kinds = getattr(text, "layer_types", None) or ()
    without = {layer for layer, kind in enumerate(kinds) if kind in _KINDS_WITHOUT_HEADS and len(kinds) == n_layers}
    without |= {*(getattr(text, "cross_attention_layers", None) or ())}  # these look at pictures
    return tuple(layer for layer in range(n_layers) if layer not in without) if without else None


_KINDS_WITHOUT_HEADS = ("linear_attention", "conv", "moe", "mlp", "mamba", "recurrent")
"""Kinds of layers, as transformers' configurations name them."""
_WITHOUT_ATTENTION = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")


def _falcon_kv_heads(config: Any) -> int:
    if config.new_decoder_architecture:
        return config.num_kv_heads
    return 1 if config.multi_query else config.num_attention_heads


def context_window(config: PreTrainedConfig) -> int | None:
    """Returns how many tokens the model reads at once, or None where nothing bounds it.

    YaRN, linear and dynamic NTK scaling read `factor` times the length that the model was trained with: for these
    `max_position_embeddings` is that length unless `original_max_position_embeddings` is. Llama 3 and LongRoPE
    configurations state the scaled length itself, and so do those with one scaling for each type of layer (Gemma 3).
    """
    text: Any = config.get_text_config(decoder=True)
    stated = getattr(text, "max_position_embeddings", None)
    stated = stated if stated and stated > 0 else None  # XLNet writes -1
    rope = getattr(text, "rope_parameters", None)
    if not stated or not isinstance(rope, dict) or rope.get("rope_type") not in _STRETCHING:
        return stated
    trained = rope.get("original_max_position_embeddings") or stated
    return max(stated, round(trained * float(rope.get("factor") or 1.0)))


_STRETCHING = ("yarn", "linear", "dynamic")


def first_position(config: PreTrainedConfig) -> int:
    """Returns the number of a text's first position: RoBERTa and its relatives count on from their padding token's id."""
    text: Any = config.get_text_config(decoder=True)
    return text.pad_token_id + 1 if text.model_type in _BEHIND_PADDING else 0


_BEHIND_PADDING = (
    "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"
)  # fmt: skip


def reads_both_ways(config: PreTrainedConfig) -> str | None:
    """Returns the setting that makes tokens see what comes after them, as its configuration has it, or None.

    Encoders whose class can also be a decoder (BERT's) are decoders only when `is_decoder` says so.
    """
    text: Any = config.get_text_config(decoder=True)
    both_ways = getattr(text, "use_bidirectional_attention", None)
    if both_ways and both_ways != "vision":  # pictures only: text is read from left to right
        return f"use_bidirectional_attention: {json.dumps(both_ways)}"
    if getattr(text, "is_causal", None) is False:
        return "is_causal: false"
    if getattr(text, "is_decoder", None) is False and text.model_type not in _DECODERS_ALL_THE_SAME:
        return "is_decoder: false"
    return None


_DECODERS_ALL_THE_SAME = ("gpt_neox", "gpt_neox_japanese", "trocr")
"""Families whose `is_decoder` is false in every checkpoint and whose models read from left to right."""


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Returns the attention modules in layer order, one for each layer that has heads.

    Attention to another text (an encoder's) is none of them.
    Raises UserError when they are not one per layer, each with an output projection under a known name.
    """
    n_layers: int = model.config.get_text_config(decoder=True).num_hidden_layers
    wanted = layers_with_heads(model.config)
    wanted = tuple(range(n_layers)) if wanted is None else wanted
    found: dict[int, nn.Module] = {}
    n_found = 0
    for name, module in model.named_modules():
        layer = _layer_of(name, module)
        projection = None if layer not in wanted else _find_projection(model, name, module)
        if layer is None or projection is None:
            continue
        n_found += 1
        found[layer] = module
        # Not as attributes of a module: the projection would be one of its parts.
        vars(module).update({LAYER: layer, _PROJECTION: projection})
    if tuple(sorted(found)) != wanted or n_found != len(wanted):
        raise UserError(
            f"{type(model).__name__} keeps its {len(wanted)} attention layers where this toolkit does not look: "
            "see docs/adding_a_model.md."
        )
    return [found[layer] for layer in wanted]


def can_switch_attention(model: PreTrainedModel) -> bool:
    """Whether a model, or the text model inside it, takes its attention function by name."""
    return _switched(model)._can_set_attn_implementation()


def switch_attention(model: PreTrainedModel, name: str) -> None:
    """Makes a model, or the text model inside it, run through the attention function of that name."""
    _switched(model).set_attn_implementation(name)


def _switched(model: PreTrainedModel) -> PreTrainedModel:
    if model._can_set_attn_implementation():
        return model
    decoder = model.get_decoder()
    return decoder if isinstance(decoder, PreTrainedModel) else model


LAYER = "interp_layer"
"""Where an attention module keeps the number of its layer."""
_PROJECTION = "interp_projection"


def _layer_of(name: str, module: nn.Module) -> int | None:
    """The number of the layer whose heads a module is, or None for another module."""
    kind, own = type(module).__name__, getattr(module, "layer_idx", None)
    parts = name.split(".")
    if not (("Attention" in kind or kind.endswith("MLA")) and hasattr(module, "layer_idx")):
        return None
    if any(part in _OTHER_TEXTS for part in parts) or "Cross" in kind or any(part in _OTHER_MODELS for part in parts):
        return None
    if isinstance(own, int) and own >= 0:
        return own
    numbers = [int(part) for part in parts if part.isdigit()]
    return numbers[-1] if numbers else None  # a block that serves several layers is told its number when it is called


_OTHER_TEXTS = ("encoder_attn", "cross_attn", "crossattention")
_OTHER_MODELS = ("vision_tower", "vision_model", "visual", "audio_tower", "audio_model", "image_encoder", "vqmodel")


def _find_projection(model: PreTrainedModel, name: str, module: nn.Module) -> nn.Module | None:
    projection = next((name for name in _OUTPUT_PROJECTIONS if hasattr(module, name)), None)
    if projection is not None:
        return getattr(module, projection)
    around = model.get_submodule(name.rpartition(".")[0])
    beside = getattr(getattr(around, "output", None), "dense", None)  # BERT's
    return beside if name.endswith(".self") and isinstance(beside, nn.Module) else None


def output_projection(module: nn.Module) -> nn.Module:
    """Returns the layer that mixes the heads' outputs into the residual stream; its input is [row, query, head · dim]."""
    return vars(module)[_PROJECTION]


def output_projection_weight(module: nn.Module) -> Float[Tensor, "head_times_dim residual"]:
    """Returns the matrix that takes the concatenated heads' outputs (as a row vector) to the residual stream."""
    projection = output_projection(module)
    weight: Any = getattr(projection, "weight", None)
    if type(weight).__name__ == "Params4bit":
        from transformers.integrations.bitsandbytes import dequantize_bnb_weight

        weight = dequantize_bnb_weight(weight)
    if not isinstance(weight, torch.Tensor):
        raise UserError(f"{type(projection).__name__} is no plain projection: logit contributions cannot be computed.")
    return weight if isinstance(projection, Conv1D) else weight.T


def query_key_weights(
    module: nn.Module, heads: HeadGeometry
) -> tuple[Float[Tensor, "head a b"], Float[Tensor, "kv_head a b"]] | None:
    """Returns views of an attention module's query and key weights, one matrix per head, or None where they are not found.

    Separate projections, GPT-2's and Phi-3's joint one (queries, keys, values) and GPT-NeoX's (the three of each head
    together). Which axis reads the residual stream differs.
    """
    sizes = [heads.n_heads, heads.n_kv_heads]
    joint = getattr(module, "c_attn", None), getattr(module, "qkv_proj", None), getattr(module, "query_key_value", None)
    if hasattr(module, "q_proj") and hasattr(module, "k_proj"):
        query, key = (getattr(module, name).weight.data for name in ("q_proj", "k_proj"))
    elif isinstance(joint[0], Conv1D):
        query, key, _ = joint[0].weight.data.T.split(joint[0].nf // 3)
    elif isinstance(joint[1], nn.Linear):
        rows = [n_heads * heads.head_dim for n_heads in (*sizes, heads.n_kv_heads)]
        query, key, _ = joint[1].weight.data.split(rows)
    elif isinstance(joint[2], nn.Linear) and len(joint[2].weight) == 3 * heads.n_heads * heads.head_dim:
        each = joint[2].weight.data.unflatten(0, (heads.n_heads, 3, heads.head_dim))
        return each[:, 0], each[:, 1]
    else:
        return None
    return query.unflatten(0, (sizes[0], heads.head_dim)), key.unflatten(0, (sizes[1], heads.head_dim))


def rotary_switch(config: PreTrainedConfig) -> int | None:
    """Returns the text length at which a model changes its rotary embedding (LongRoPE, dynamic NTK), or None.

    Keys that were rotated before that point are wrong after it, so texts on both sides of it cannot share them. Where kinds of layers
    change at different lengths, it is the shortest.
    """
    text: Any = config.get_text_config(decoder=True)
    switches = []
    for parameters in _rotary_kinds(config):
        if parameters.get("rope_type") in ("dynamic", "longrope"):
            original = parameters.get("original_max_position_embeddings") or getattr(
                text, "original_max_position_embeddings", None
            )
            switches.append(int(original or text.max_position_embeddings))
    return min(switches, default=None)


def _rotary_kinds(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The parameters of the rotary embedding, of each kind of layers that has its own."""
    parameters: Any = getattr(config.get_text_config(decoder=True), "rope_parameters", None)
    if not isinstance(parameters, dict):
        return []
    return (
        [parameters] if "rope_type" in parameters else [kind for kind in parameters.values() if isinstance(kind, dict)]
    )


def shares_rotary_embedding(config: PreTrainedConfig, read: int, common: int, wanted: int) -> bool:
    """Returns whether the first `common` of `read` tokens may be kept as the beginning of a text of `wanted` tokens.

    Not when keys were rotated for texts on the other side of the model's rotary switch.
    """
    switch = rotary_switch(config)
    if switch is None or max(read, wanted) <= switch:
        return True
    return common > switch and not rotary_grows(config)


def rotary_grows(config: PreTrainedConfig) -> bool:
    """Returns whether every length past the switch has a rotary embedding of its own (dynamic NTK; LongRoPE has two)."""
    return any(parameters.get("rope_type") == "dynamic" for parameters in _rotary_kinds(config))
