"""What users name on the command line with options in brackets: a2sf(alpha=0.5), module:Class. Imports nothing heavy."""

import ast
import importlib
import importlib.util
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from interp.errors import ArgumentError
from interp.kept import Stamp, stamps_of

_IMPORTED: dict[str, tuple[ModuleSpec | None, tuple[Stamp, ...]]] = {}
"""What each user's module was made from (another object once it is imported anew or reloaded), and its file when it was first used."""


def options_in(text: str, what: str, example: str) -> dict[str, Any]:
    """Returns the options in "name(option=value, …)": numbers, texts, True and False.

    Raises ArgumentError for what is none of these, saying that the text is no `what` and how to write one.
    """
    _, bracket, inside = text.partition("(")
    if not bracket:
        return {}
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
        assert isinstance(call, ast.Call)
        assert not call.args
        return {str(word.arg): _value(word.value) for word in call.keywords if word.arg or _value(word.value)}
    except (SyntaxError, ValueError, AssertionError) as error:
        raise ArgumentError(f"{text!r} is no {what}: write it as {example}.") from error


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def load_named(module: str, name: str, kind: str = "Class") -> Any:
    """Returns what a module has by a name.

    Raises ArgumentError when there is no such module or name.
    """
    try:
        return getattr(import_own(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ArgumentError(
            f"There is no {name} in a module {module} ({error}): give module:{kind} of an importable module."
        ) from error


def import_own(module: str) -> ModuleType:
    """Returns a user's module.

    Python runs a file once: raises ArgumentError where it has changed since, as a run is named by what the file holds.
    """
    found = importlib.import_module(module)
    file = Path(found.__file__ or "")
    now = (found.__spec__, stamps_of([file]))
    if _IMPORTED.get(module, now)[0] is not now[0]:
        del _IMPORTED[module]
    if _IMPORTED.setdefault(module, now)[1] != now[1]:
        raise ArgumentError(
            f"{file} has changed since Python imported it: start Python anew (in a notebook, restart its kernel, or reload the module), so "
            "that it runs the file as it is."
        )
    return found


def own_files(names: Iterable[str]) -> list[Path]:
    """Returns the files of the modules that are named as module:name; nothing for other names, and where there is no such file."""
    found = []
    for name in names:
        module, colon, _ = name.partition("(")[0].strip().partition(":")
        try:
            spec = importlib.util.find_spec(module) if colon else None
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            found.append(Path(spec.origin))
    return found
