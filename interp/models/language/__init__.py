"""Causal language models: reading, looking at attention, changing heads; token ids in, token ids and numbers out."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.language.model import LanguageModel
    from interp.models.language.prefix import History, Prefix

__all__ = ["History", "LanguageModel", "Prefix"]

__getattr__ = lazily(
    __name__,
    {
        "History": "prefix",
        "LanguageModel": "model",
        "Prefix": "prefix",
    },
)
