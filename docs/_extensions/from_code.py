"""Two directives that take their rows from the code, so that a page cannot fall behind it.

`settings` lists every field of an experiment with its flag, default and meaning. `columns` lists the columns of a table with
their types; its body says what each means, and a column too many or too few is a warning, which the build treats as an error.
"""

import dataclasses
import importlib
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from interp.experiments.meanings import meanings

LOG = logging.getLogger(__name__)


class FromCode(SphinxDirective):
    """A Markdown table made by a subclass; the argument is `module:NAME`."""

    required_arguments = 1
    has_content = True
    header: ClassVar[tuple[str, ...]]

    def run(self) -> list[nodes.Node]:
        """Returns the table, parsed like the page around it."""
        module, _, name = self.arguments[0].partition(":")
        rows = self.rows(getattr(importlib.import_module(module), name))
        lines = [_row(self.header), _row(["---"] * len(self.header)), *(_row(row) for row in rows)]
        parent = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.env.docname), self.content_offset, parent)
        return parent.children

    def rows(self, found: Any) -> list[list[str]]:
        """Returns the cells of each row for the object that was named."""
        raise NotImplementedError


class Settings(FromCode):
    """Fields of a dataclass: flag, default, meaning. Fields of its bases come first."""

    header = ("flag", "default", "meaning")

    def rows(self, found: Any) -> list[list[str]]:
        """Returns one row per field."""
        of_field = meanings(found)
        return [
            [f"`--{field.name.replace('_', '-')}`", _default(field.default), of_field[field.name]]
            for field in dataclasses.fields(found)
        ]


class Columns(FromCode):
    """Columns of a table schema: name, type, meaning. The body has one `name: meaning` line for each."""

    header = ("column", "type", "meaning")

    def rows(self, found: Any) -> list[list[str]]:
        """Returns one row per column but `model`, which every table has."""
        meanings = dict(line.split(": ", maxsplit=1) for line in self.content if line.strip())
        columns = {name: column for name, column in found.to_schema().columns.items() if name != "model"}
        if wrong := set(meanings) ^ set(columns):
            LOG.warning(
                "columns of %s differ: %s", found.__name__, ", ".join(sorted(wrong)), location=self.get_location()
            )
        types = {
            name: str(column.dtype).removesuffix("64").removesuffix("[pyarrow]") for name, column in columns.items()
        }
        return [[f"`{name}`", _TYPES.get(types[name], types[name]), meanings.get(name, "")] for name in columns]


_TYPES = {"object": "list of int", "string": "str", "<class 'str'>": "str"}


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value) or "none"
    return f"`{value}`"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives."""
    app.add_directive("settings", Settings)
    app.add_directive("columns", Columns)
    return {"parallel_read_safe": True}
