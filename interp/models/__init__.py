"""Models to read with, look into and change: `load` takes a name, LanguageModel does the rest."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.models.language import LanguageModel
    from interp.models.loading import load

__all__ = ["LanguageModel", "load"]


def __getattr__(name: str) -> Any:
    """Imports torch only when a model is asked for: the command line's --help must not wait for it."""
    if name == "load":
        from interp.models.loading import load

        return load
    if name == "LanguageModel":
        from interp.models.language import LanguageModel

        return LanguageModel
    raise AttributeError(f"module {__name__} has no attribute {name}")
