"""From a name to a model in memory, with a plain sentence for everything that can go wrong on the way."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.loading.image import load_image, look_up_image
    from interp.models.loading.language import load, look_up

__all__ = ["load", "load_image", "look_up", "look_up_image"]

__getattr__ = lazily(
    __name__,
    {
        "load": "language",
        "load_image": "image",
        "look_up": "language",
        "look_up_image": "image",
    },
)
