"""Models to record from and edit: `load` takes a name and returns a LanguageModel, `load_image` an ImageModel."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel
    from interp.models.language.model import LanguageModel
    from interp.models.loading.image import load_image
    from interp.models.loading.language import load

__all__ = ["ImageModel", "LanguageModel", "load", "load_image"]

__getattr__ = lazily(
    __name__,
    {
        "ImageModel": "image.model",
        "LanguageModel": "language.model",
        "load": "loading.language",
        "load_image": "loading.image",
    },
)
