"""Models to look into and change: `load` takes a name and gives a LanguageModel, `load_image` an ImageModel."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.models.image import ImageModel
    from interp.models.image_loading import load_image
    from interp.models.language import LanguageModel
    from interp.models.loading import load

__all__ = ["ImageModel", "LanguageModel", "load", "load_image"]

_HOMES = {
    "ImageModel": "interp.models.image",
    "LanguageModel": "interp.models.language",
    "load": "interp.models.loading",
    "load_image": "interp.models.image_loading",
}


def __getattr__(name: str) -> Any:
    """Imports torch only when a model is asked for: the command line's --help must not wait for it."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
