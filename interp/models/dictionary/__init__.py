"""Sparse dictionaries of a residual stream: loading, checking and training them."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.dictionary.dictionary import Dictionary, shipped_dictionaries

__all__ = ["Dictionary", "shipped_dictionaries"]

__getattr__ = lazily(
    __name__,
    {
        "Dictionary": "dictionary",
        "shipped_dictionaries": "dictionary",
    },
)
