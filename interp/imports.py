"""How names of the toolkit are found: short ones when they are asked for, and modules under paths that pages have shown before."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package (PEP 562): `homes` says in which module of the package each name is defined."""

    def look_up(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package} has no attribute {name}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return look_up


MOVED = {
    "interp.experiments.forecast_lines": "interp.experiments.forecast",
    "interp.experiments.work": "interp.experiments.experiment",
    "interp.heads.repeats": "interp.heads.finding",
    "interp.models.architecture": "interp.models.language.architecture",
    "interp.models.attention_function": "interp.models.language.attention_function",
    "interp.models.chat": "interp.models.tokens.chat",
    "interp.models.conditioning": "interp.models.image.conditioning",
    "interp.models.dictionary_training": "interp.models.dictionary.training",
    "interp.models.edits": "interp.models.language.edits",
    "interp.models.encoding": "interp.models.tokens.encoding",
    "interp.models.fidelity": "interp.models.dictionary.fidelity",
    "interp.models.forward": "interp.models.language.forward",
    "interp.models.heat_maps": "interp.models.image.heat_maps",
    "interp.models.history": "interp.models.language.prefix",
    "interp.models.image_loading": "interp.models.loading.image",
    "interp.models.lens.upper": "interp.models.lens.lens",
    "interp.models.loading.tokenizer": "interp.models.loading.language",
    "interp.models.logit_directions": "interp.models.language.logit_directions",
    "interp.models.norms": "interp.models.language.architecture",
    "interp.models.prefix": "interp.models.language.prefix",
    "interp.models.recording": "interp.models.language.recording",
    "interp.models.residuals": "interp.models.language.residuals",
    "interp.models.sampling": "interp.models.language.sampling",
    "interp.models.token_spans": "interp.models.tokens.token_spans",
    "interp.models.vllm_sampling": "interp.models.language.vllm_sampling",
    "interp.models.windows": "interp.models.dictionary.windows",
    "interp.prose": "interp.stimuli.prose",
}


class MovedModules:
    """Finds a module of MOVED under its old path, and hands out the one module that there is. Asked last of all finders."""

    def __init__(self, moved: Mapping[str, str] = MOVED) -> None:
        self._moved = moved

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns how an old path is loaded, or None for any other name."""
        if fullname not in self._moved:
            return None
        new = importlib.util.find_spec(self._moved[fullname])
        return ModuleSpec(fullname, self, origin=new.origin if new else None)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """An empty module stands in until `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        """Puts the module at the new path in the place of the old one."""
        old = module.__name__
        warnings.warn(f"{old} is {self._moved[old]} now: import that.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(self._moved[old])

    def get_code(self, fullname: str) -> CodeType | None:
        """Returns what `python -m OLD.PATH` runs."""
        spec = importlib.util.find_spec(self._moved[fullname])
        return spec.loader.get_code(spec.name) if spec and spec.loader else None  # type: ignore[attr-defined]
