"""A folder that holds an adapter (LoRA and its like) in place of a model: merged onto the model that it was trained on."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from interp.errors import ArgumentError, RunError
from interp.models.loading.names import ADAPTER_CONFIG


def is_adapter(folder: Path | None) -> bool:
    """Whether a folder holds an adapter in place of a model's weights."""
    return folder is not None and (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Returns the folder or Hugging Face id of the model that an adapter was trained on.

    A relative path is looked for beside the adapter and in the working folder.
    Raises ArgumentError when the adapter does not name it, or has no safetensors weights.
    """
    try:
        named = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ArgumentError(
            f"{folder / ADAPTER_CONFIG} cannot be read ({error}): save the adapter there again."
        ) from error
    if not isinstance(named, str) or not named:
        raise ArgumentError(
            f"{folder / ADAPTER_CONFIG} does not name the model that the adapter was trained on: write its folder or Hugging Face "
            "id as base_model_name_or_path."
        )
    if not any(folder.glob("*.safetensors")):
        raise ArgumentError(
            f"{folder} has no .safetensors weights: save the adapter there with save_pretrained (pickled .bin files are not read)."
        )
    beside = (folder / Path(named).expanduser()).resolve()
    return str(beside) if beside.is_dir() else named


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Returns the model with the adapter's changes added to its weights.

    Raises RunError when the adapter does not fit the model, or is of a kind that cannot be merged.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            # peft asks transformers by an older name of an attribute; nothing that a user could mend.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapted: Any = PeftModel.from_pretrained(model, str(folder))
            merged = adapted.merge_and_unload()
    except (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        AttributeError,
        NotImplementedError,
        SafetensorError,
    ) as error:
        first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise RunError(
            f"The adapter in {folder} cannot be merged onto {model.config.name_or_path} ({first_line}): merge it with peft's "
            "merge_and_unload and pass --model the folder that save_pretrained writes then."
        ) from error
    return merged


def both_sha256(base: str, adapter: str) -> str:
    """Returns what names a model and an adapter together."""
    return hashlib.sha256(f"{base} {adapter}".encode()).hexdigest()
