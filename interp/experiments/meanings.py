"""What the settings of a dataclass mean, read from the docstrings under its fields, for --help and the documentation."""

import ast
import dataclasses
import inspect
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro


def meanings(kind: type) -> dict[str, str]:
    """Returns the docstring under each attribute of a class and its bases, on one line, by the attribute's name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            tree = ast.parse(Path(inspect.getfile(base)).read_text(encoding="utf-8"))
        except (OSError, TypeError):  # a class that was typed into an interpreter
            continue
        bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == base.__name__]
        for field, text in pairwise(bodies[0] if bodies else []):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(field.target, ast.Name):
                found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def with_help(kind: Any) -> Any:
    """Returns a subclass of a settings class whose fields carry their meanings as help texts.

    tyro finds the docstrings by itself, but breaks the lines of its help where the source does.
    """
    hints, of_field = get_type_hints(kind, include_extras=True), meanings(kind)
    return dataclasses.make_dataclass(
        kind.__name__,
        [
            (
                field.name,
                Annotated[hints[field.name], tyro.conf.arg(help=of_field.get(field.name, ""))],
                dataclasses.field(
                    default=field.default, default_factory=field.default_factory, metadata=field.metadata
                ),
            )
            for field in dataclasses.fields(kind)
        ],
        bases=(kind,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": kind.__doc__},
    )


def as_kind(kind: Any, settings: Any) -> Any:
    """Returns the same settings as an object of another class with these fields."""
    return kind(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(kind)})
