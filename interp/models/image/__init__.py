"""Text-to-image models: encode texts, edit the encodings, draw."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel

__all__ = ["ImageModel"]

__getattr__ = lazily(
    __name__,
    {
        "ImageModel": "model",
    },
)
