"""Short names for what is defined further down: imported when asked for, so that the command line need not wait for torch."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package (PEP 562): `homes` says in which module of the package each name is defined."""

    def look_up(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package} has no attribute {name}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return look_up
