"""How much memory a text-to-image pipeline will take, known from the configurations of its parts alone."""

from collections.abc import Mapping
from typing import Any

import torch

LEFT_OUT = ("safety_checker", "image_encoder")
"""Parts that `load_image` does not load."""


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
