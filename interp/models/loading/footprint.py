"""How much memory a model will take, known from configurations alone, beside how much there is."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PreTrainedConfig

from interp.models.language.architecture import context_window, head_geometry
from interp.models.loading.classes import model_class

LOG = logging.getLogger(__name__)

WORTH_A_WORD = 2e9
"""Bytes of weights above which a user waits long enough to want to know."""
LEFT_OUT = ("safety_checker", "image_encoder")
"""Parts that `load_image` does not load."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model takes in a precision; a key-value cache is 0 for a model without attention heads."""

    weights_bytes: int
    cache_bytes_per_token: int
    context_window: int | None

    def in_words(self) -> str:
        """Returns the footprint as a clause, in units of 10⁹ bytes."""
        words = f"{_gb(self.weights_bytes)} of weights"
        if self.cache_bytes_per_token:
            words += f", and {_gb(1000 * self.cache_bytes_per_token)} for each 1,000 tokens that are held at once"
            if self.context_window:
                full = self.context_window * self.cache_bytes_per_token
                words += f" ({_gb(full)} for a text that fills the window of {self.context_window:,})"
        return words


def footprint(config: PreTrainedConfig, dtype: torch.dtype) -> Footprint:
    """Returns what a language model of that configuration takes: its parameters, tied ones once, and keys and values.

    The model is built without memory (on torch's "meta" device), so the count is that of the model itself.
    """
    with torch.device("meta"):
        model = model_class(config).from_config(config, dtype=dtype)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    heads = head_geometry(config)
    per_token = 2 * len(heads.layers) * heads.n_kv_heads * heads.head_dim * dtype.itemsize if heads else 0
    return Footprint(weights, per_token, context_window(config))


def image_weights_bytes(folder_or_id: str, index: Mapping[str, Any], dtype: torch.dtype, revision: str | None) -> int:
    """Returns what the weights of a pipeline's parts take in a precision: parameters, tied ones once.

    `index` is its model_index.json. Every part is built without memory (on torch's "meta" device) from its own configuration;
    parts of other libraries than diffusers and transformers, such as pixels as latents, have no weights to speak of.
    """
    total = 0
    for name, part in index.items():
        if name in LEFT_OUT or not isinstance(part, list) or part[0] not in ("diffusers", "transformers"):
            continue
        with torch.device("meta"):
            built = _built(folder_or_id, name, (part[0], part[1]), revision)
        if isinstance(built, torch.nn.Module):
            total += sum(weight.numel() for weight in built.parameters()) * dtype.itemsize
    return total


def outline_parts(folder_or_id: str, index: Mapping[str, Any], revision: str | None) -> dict[str, Any]:
    """Returns what a pipeline is made with: models built without memory, tokenizers and schedulers as they are, None for parts
    that it lacks or that are not loaded. `index` is its model_index.json.
    """
    import diffusers
    import transformers

    libraries: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    parts: dict[str, Any] = {}
    for name, part in index.items():
        if name == "requires_safety_checker":
            parts[name] = False
        elif not isinstance(part, list):
            if not name.startswith("_"):
                parts[name] = part
        elif name in (*LEFT_OUT, "feature_extractor") or part[0] not in libraries:
            parts[name] = None
        else:
            with torch.device("meta"):
                built = _built(folder_or_id, name, (part[0], part[1]), revision)
            if built is None:
                kind = getattr(libraries[part[0]], part[1])
                built = kind.from_pretrained(folder_or_id, subfolder=name, revision=revision)
            parts[name] = built
    return parts


def _built(folder_or_id: str, part: str, kind_name: tuple[str, str], revision: str | None) -> Any:
    """The part (library, class) with no values in it, or None for tokenizers and schedulers, which hold none."""
    import diffusers
    import transformers

    library, class_name = kind_name
    where: dict[str, Any] = {"subfolder": part, "revision": revision}
    if library == "diffusers":
        kind: Any = getattr(diffusers, class_name)
        if not issubclass(kind, diffusers.ModelMixin):
            return None
        built: Any = kind
        return built.from_config(built.load_config(folder_or_id, **where))
    kind = getattr(transformers, class_name)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        return None
    config: Any = kind.config_class
    return kind(config.from_pretrained(folder_or_id, **where))


def free_bytes(device: str, device_map: str | None = None) -> int | None:
    """Returns the memory that is free on a device, on all GPUs with a device map, or None where nobody says.

    For the CPU it is the machine's, or what a job's limit (control group, as under Slurm) leaves of it.
    """
    if device_map and torch.cuda.is_available():
        return sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *_job_limits()]) if device == "cpu" else None


def say_footprint(name: str, needs: Footprint, device: str, free: int | None) -> None:
    """Says what a large model will take, and warns of one that the device has no room for."""
    if free is not None and needs.weights_bytes > free:
        LOG.warning(
            "%s takes %s, and %s has %s free: take a smaller model, --dtype bfloat16, or --device-map auto on several GPUs.",
            *(name, needs.in_words(), device, _gb(free)),
        )
    elif needs.weights_bytes >= WORTH_A_WORD:
        LOG.warning("%s takes %s.%s", name, needs.in_words(), f" {device} has {_gb(free)} free." if free else "")


def _job_limits() -> list[int]:
    """The memory limits of the control groups this process is in, the innermost first (version 2 of them, on Linux)."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    inner = next((Path(line.removeprefix("0::/")) for line in groups if line.startswith("0::/")), None)
    files = [Path("/sys/fs/cgroup") / group / "memory.max" for group in (inner, *inner.parents)] if inner else []
    limits = [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]
    return [int(limit) for limit in limits if limit.isdigit()]


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB"
