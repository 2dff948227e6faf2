"""A folder that holds an adapter (LoRA and its like) in place of a model: merged onto the model that it was trained on.

Whether an adapter fits is found before any weights are read: it is put onto the model's outline, without memory.
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel

from interp.errors import ArgumentError, RunError, UserError
from interp.models.loading.classes import model_class
from interp.models.loading.names import ADAPTER_CONFIG

PEFT_FAILS = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    AttributeError,
    KeyError,
    NotImplementedError,
    SafetensorError,
)
"""What peft raises for adapters that it cannot put onto a model."""
FILE = "adapter_model.safetensors"
ROUNDING, ROUNDING_HALF = 1e-3, 0.2
"""How far logits of a merged model may be from those of model and adapter apart, in units of their spread: in single, in half precision."""


def is_adapter(folder: Path | None) -> bool:
    """Whether a folder holds an adapter in place of a model's weights."""
    return folder is not None and (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> tuple[str, str | None]:
    """Returns the folder or Hugging Face id of the model that an adapter was trained on, and its revision if it names one.

    A relative path is looked for beside the adapter and in the working folder.
    Raises ArgumentError when the adapter does not name it, or has no safetensors weights.
    """
    try:
        written = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        named, revision = written.get("base_model_name_or_path"), written.get("revision")
    except (OSError, ValueError, AttributeError) as error:
        raise ArgumentError(
            f"{folder / ADAPTER_CONFIG} cannot be read ({error}): save the adapter there again."
        ) from error
    if not isinstance(named, str) or not named:
        raise ArgumentError(
            f"{folder / ADAPTER_CONFIG} does not name the model that the adapter was trained on: write its folder or Hugging Face "
            "id as base_model_name_or_path."
        )
    if not (folder / FILE).is_file():
        raise ArgumentError(
            f"{folder} has no {FILE}: save the adapter there with save_pretrained (pickled .bin files are not read)."
        )
    beside = (folder / Path(named).expanduser()).resolve()
    return (str(beside), None) if beside.is_dir() else (named, revision or None)


@dataclass(frozen=True)
class Fit:
    """How an adapter goes onto its model: with an embedding of `rows` rows, or None where it stays as it is."""

    folder: Path
    rows: int | None

    def resize(self, model: Any) -> None:
        """Gives a model the adapter's number of embedding rows; new rows are then read from the adapter."""
        if self.rows is not None:
            model.resize_token_embeddings(self.rows, mean_resizing=False)

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Returns the model with the adapter's changes added to its weights.

        Raises RunError when the adapter is of a kind that cannot be merged, or the merged model computes something else than the model
        beside its adapter does.
        """
        from peft import PeftModel

        try:
            with _quiet(), torch.no_grad():
                self.resize(model)
                adapted: Any = PeftModel.from_pretrained(model, str(self.folder)).eval()
                _untie(adapted)
                ids = _few_ids(model)
                beside = adapted(ids, use_cache=False).logits.float()
                merged = adapted.merge_and_unload()
                apart = (merged(ids, use_cache=False).logits.float() - beside).abs().mean() / beside.std()
        except PEFT_FAILS as error:
            raise _cannot(self.folder, model, _reason(error)) from error
        if not float(apart) <= (ROUNDING if merged.dtype == torch.float32 else ROUNDING_HALF):
            raise _cannot(
                self.folder,
                model,
                f"merged, its logits differ by {float(apart):.1%} from those of model and adapter apart",
            )
        return merged


def _untie(adapted: Any) -> None:
    """Gives the head a matrix of its own where it is the embedding's, and the adapter changes one of them: merged, it would change both."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    embedding, head = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    if not any(isinstance(module, BaseTunerLayer) for module in (embedding, head)):
        return
    own: Any = getattr(head, "base_layer", head)
    if own.weight is getattr(embedding, "base_layer", embedding).weight:
        own.weight = torch.nn.Parameter(own.weight.detach().clone(), requires_grad=False)
        for config in (adapted.config, adapted.config.get_text_config(decoder=True)):
            config.tie_word_embeddings = False


def _few_ids(model: Any) -> torch.Tensor:
    embedding = model.get_input_embeddings()
    return ((torch.arange(8) * 37 + 11) % embedding.weight.shape[0])[None].to(embedding.weight.device)


def fit(folder: Path, config: PreTrainedConfig) -> Fit:
    """Returns how an adapter goes onto a model of that configuration.

    Raises UserError when it cannot be merged into weights, or belongs to another model: one that lacks modules that the adapter
    has weights for, has others that it has none for, or has them in other sizes.
    """
    from peft import PeftConfig, get_peft_model
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    try:
        tensors = _outlines(folder / FILE)
        with torch.device("meta"):
            model: Any = model_class(config).from_config(copy.deepcopy(config))
        plan: Any = PeftConfig.from_pretrained(str(folder))
    except PEFT_FAILS as error:
        raise RunError(f"The adapter in {folder} cannot be read ({_reason(error)}): save it there again.") from error
    if getattr(config, "quantization_config", None) is not None:
        raise _cannot(folder, model, "its weights are quantised, and a merged weight would be rounded once more")
    if plan.is_prompt_learning:
        raise _cannot(folder, model, f"{plan.peft_type.value} puts vectors into the prompt and changes no weight")
    if getattr(plan, "alora_invocation_tokens", None):
        raise _cannot(folder, model, "it acts on some tokens of a text only")
    found = Fit(folder, _rows(model, tensors))
    indices = getattr(plan, "trainable_token_indices", None) or []
    trained = [index for one in (indices.values() if isinstance(indices, dict) else [indices]) for index in one]
    if max(trained, default=-1) >= (found.rows or model.get_input_embeddings().num_embeddings):
        raise _cannot(folder, model, f"it trains token {max(trained)} and the embedding has no row for it")
    if hasattr(plan, "init_lora_weights"):
        plan.init_lora_weights = True  # nothing is drawn, and nothing is decomposed, on an outline
    try:
        with _quiet(), torch.device("meta"):
            found.resize(model)
            adapted: Any = get_peft_model(model, plan)
            report: Any = set_peft_model_state_dict(adapted, tensors)
    except PEFT_FAILS as error:
        raise _cannot(folder, model, _reason(error)) from error
    own = [name for name in report.missing_keys if "default" in name.split(".")]
    if getattr(plan, "bias", "none") != "none":
        saved = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        own += [name for name in saved if name.endswith("bias") and name not in tensors]
    for names, what in (
        (report.unexpected_keys, "weights for modules that this model lacks"),
        (own, "no weights for"),
    ):
        if names:
            raise _cannot(folder, model, f"it has {what}, such as {names[0]}")
    return found


def _outlines(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, without their values."""
    with safe_open(file, framework="pt") as opened:
        shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _rows(model: Any, tensors: dict[str, torch.Tensor]) -> int | None:
    """The rows of the embedding that comes with an adapter, where they are not the model's own number: tokens were added."""
    embedding = model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    for module in (embedding, model.get_output_embeddings()):
        for name, tensor in tensors.items():
            if module is not None and name.endswith(f"{names[id(module)]}.weight") and tensor.ndim == 2:
                return None if tensor.shape[0] == embedding.num_embeddings else tensor.shape[0]
    return None


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):
        return lines[1].rstrip(".")
    return lines[0].rstrip(".") if lines else type(error).__name__


def _cannot(folder: Path, model: Any, reason: str) -> UserError:
    return RunError(
        f"The adapter in {folder} cannot be merged onto {model.config.name_or_path} ({reason}): name the model that it was trained "
        "on as base_model_name_or_path, or merge it with peft's merge_and_unload and pass --model the folder that save_pretrained "
        "writes then."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what peft says of models, and no user could mend; what is missing is looked for here."""
    with warnings.catch_warnings():
        # peft asks transformers by an older name of an attribute.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message="for .*copying from a non-meta parameter", category=UserWarning)
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        yield


def both_sha256(base: str, adapter: str) -> str:
    """Returns what names a model and an adapter together."""
    return hashlib.sha256(f"{base} {adapter}".encode()).hexdigest()
