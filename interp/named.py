"""What users name on the command line with options in brackets: a2sf(alpha=0.5), module:Class. Imports nothing heavy."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from interp.errors import ArgumentError
from interp.stamps import stamp


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
        return getattr(imported(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ArgumentError(
            f"There is no {name} in a module {module} ({error}): give module:{kind} of an importable module."
        ) from error


_STAMPS: dict[str, tuple[Any, ...]] = {}
"""The stamps of modules' files when they were imported here."""


def imported(module: str) -> ModuleType:
    """Returns a module, run anew where its file has changed since it was imported here: a notebook goes on in one process.

    Raises what importing it raises.
    """
    importlib.invalidate_caches()
    found = importlib.import_module(module)
    file = module_file(module)
    now = stamp(file) if file else ()
    if _STAMPS.setdefault(module, now) != now and file is not None:
        # Not importlib.reload: it takes a compiled file for new that is of the same second and size.
        exec(compile(file.read_bytes(), str(file), "exec"), found.__dict__)  # noqa: S102
        _STAMPS[module] = now
    return found


def module_file(module: str) -> Path | None:
    """Returns the file of a module, None where there is no such module or file."""
    known = sys.modules.get(module)
    try:
        spec = known.__spec__ if known is not None else importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    file = Path(spec.origin) if spec is not None and spec.origin else None
    return file if file is not None and file.is_file() else None


def own_files(texts: Iterable[str]) -> list[Path]:
    """Returns the files of the modules in module:name, of all that are named so; those that are not there are left out."""
    modules = dict.fromkeys(
        text.partition("(")[0].strip().partition(":")[0] for text in texts if ":" in text.partition("(")[0]
    )
    return [file for module in modules if (file := module_file(module)) is not None]
