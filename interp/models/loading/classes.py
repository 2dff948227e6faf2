"""By which of transformers' classes a configuration is loaded: a causal language model, or a multimodal one that holds one."""

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

TEXT_INSIDE = (
    "aya_vision",
    "cohere2_vision",
    "glm4v",
    "idefics3",
    "internvl",
    "llava",
    "mistral3",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
)
"""Multimodal families whose text model is read right when they are given text alone; the census of models tries each."""


def model_class(config: PreTrainedConfig) -> Any:
    """Returns the class that builds and loads the model of a configuration, or None where it holds no causal language model."""
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    return AutoModelForImageTextToText if config.model_type in TEXT_INSIDE else None
