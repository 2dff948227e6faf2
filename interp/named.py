"""What users name on the command line with options in brackets: a2sf(alpha=0.5), module:Class. Imports nothing heavy."""

import ast
import importlib
from typing import Any

from interp.errors import ArgumentError


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
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ArgumentError(
            f"There is no {name} in a module {module} ({error}): give module:{kind} of an importable module."
        ) from error
