"""What is put in the place of a family's own attention, and how to go back to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import MethodType
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from interp.models.language.attention_function import ATTENTION


def _nothing(_module: Any, _number: int) -> None:
    """Leaves a module as it is."""


@dataclass(frozen=True)
class Adapter:
    """A method of a family's attention modules that is replaced by one that calls `attend`."""

    attention: str
    """The name of the modules' class."""
    method: str
    replacement: Callable[..., Any]
    own: str = "eager"
    """Which of the family's own ways is the right one to compare with."""
    masks: str = ATTENTION
    """Whose masks the model shall make."""
    prepare: Callable[[Any, int], None] = _nothing
    """Writes the number of its layer on a module that does not know it under the usual name."""

    def modules(self, model: PreTrainedModel) -> list[nn.Module]:
        """Returns the family's attention modules."""
        return [module for module in model.modules() if type(module).__name__ == self.attention]


_FILES = {
    "bloom": "alibi",
    "codegen": "gpt",
    "falcon": "alibi",
    "gpt_neo": "gpt",
    "gpt_neox_japanese": "gpt",
    "gptj": "gpt",
    "megatron-bert": "bert",
    "mpt": "alibi",
    "mvp": "xglm",
    "openai-gpt": "gpt",
    "rembert": "bert",
    "roformer": "bert",
    "trocr": "xglm",
    "xglm": "xglm",
}
"""In which file of this folder the adapter of a model type is."""


def adapter_of(model: PreTrainedModel) -> Adapter | None:
    """Returns the adapter of a model's family, or None for one that needs none."""
    kind = model.config.model_type
    if kind not in _FILES:
        return None
    return import_module(f"interp.models.language.adapted.{_FILES[kind]}").ADAPTERS[kind]


def adapt(model: PreTrainedModel, adapter: Adapter) -> None:
    """Makes every attention module run through `attend`."""
    for number, module in enumerate(adapter.modules(model)):
        adapter.prepare(module, number)
        setattr(module, adapter.method, MethodType(adapter.replacement, module))
    model.config._attn_implementation = adapter.masks


def unadapt(model: PreTrainedModel, adapter: Adapter) -> None:
    """Gives the attention modules of an adapted model their own method back."""
    for module in adapter.modules(model):
        vars(module).pop(adapter.method, None)
    model.config._attn_implementation = adapter.own


@contextmanager
def unadapted(model: PreTrainedModel, adapter: Adapter) -> Iterator[None]:
    """Runs an adapted model by its own attention inside the `with`."""
    unadapt(model, adapter)
    try:
        yield
    finally:
        adapt(model, adapter)
