"""Self-contained pages that need no network: templates, with compressed figures and tables."""

import base64
import gzip
import json
import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from interp.experiments.run import Run

ROWS_SHOWN = 10
"""Rows that are there without scripts, and all there is of tables too large to pack."""
LARGEST_TABLE, LARGEST_PACKED = 250_000, 1_000_000
"""Values, and letters once they are packed, up to which a table comes into a page whole."""
LARGEST_INTEGER = 2**53
"""Up to here every integer is a number of a browser's; larger ones are kept as text."""
WIDEST_HALF = 1000
"""Pixels up to which a figure stands beside another one; a wider one has a row of its own."""

FIGURE_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,  # plotly offers by default to send a figure's data to its maker
    # A longer bar lies over the title; dragging zooms and a double click shows all without buttons.
    "modeBarButtonsToRemove": ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}
"""How interactive figures behave: plotly's own options."""

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def render(template: str, **values: Any) -> str:
    """Returns a page from one of the templates beside this file; values are escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("interp.experiments", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        anchor=lambda title: title.lower().replace(" ", "-"),
        duration=duration_in_words,
        linked=_linked,
        packed=_packed,
        packed_figure=pack_figure,
        packed_table=pack_table,
        rows=lambda frame: _rows(frame.head(ROWS_SHOWN)),
        shown=_shown,
    )
    environment.tests["wide"] = is_wide
    environment.globals.update(
        figure_title=figure_title, plotly_script=plotly_script, redrawing=redrawing,
        rows_shown=ROWS_SHOWN,
    )  # fmt: skip
    return environment


def _linked(text: str) -> Markup:
    """The text with links to the papers that it names by their arXiv numbers."""
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">\g<0></a>', str(escape(text))))  # noqa: S704 - escaped just here


def figure_title(name: str, figure: "go.Figure") -> str:
    """Returns a figure's title in plain words, or its name when it has none."""
    layout: Any = figure.layout
    return re.sub(r"<[^>]*>", " ", str(layout.title.text or name))


def is_wide(figure: "go.Figure") -> bool:
    """Returns whether a figure needs a row of its own."""
    layout: Any = figure.layout
    return (layout.width or 0) > WIDEST_HALF


def redrawing(figure: "go.Figure", run: "Run") -> str:
    """Returns the Python that redraws a figure of a run, by its own function if the figure names one (`figures.style.drawn`)."""
    meta = cast(Any, figure).layout.meta or {}
    lines = ["from interp.experiments.run import open_run", "", f"run = open_run({run.folder.as_posix()!r})"]
    if "call" not in meta:
        name = next(name for name, one in run.figures.items() if one is figure)
        return "\n".join([*lines, f"run.figures[{name!r}]"])
    function = meta["call"].partition("(")[0]
    return "\n".join([f"from {meta['module']} import {function}", *lines, meta["call"]])


def duration_in_words(seconds: float) -> str:
    """Returns seconds in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# ---------------------------------------------------------------------- what is packed


def pack_figure(figure: "go.Figure") -> str:
    """Returns plotly's description of a figure, compressed; without its title, which becomes the heading."""
    drawing = json.loads(str(figure.to_json())) | {"config": FIGURE_CONFIG}
    drawing["layout"].pop("title", None)
    return _packed(json.dumps(drawing, separators=(",", ":")))


def pack_table(frame: pd.DataFrame) -> str:
    """Returns the whole table, compressed, or nothing if it is too large."""
    if frame.size > LARGEST_TABLE:
        return ""
    table = {"columns": [str(column) for column in frame.columns], "rows": _rows(frame)}
    packed = _packed(json.dumps(table, separators=(",", ":"), allow_nan=False))
    return packed if len(packed) <= LARGEST_PACKED else ""


def plotly_script() -> str:
    """Returns plotly's own script (5 MB, 2 MB compressed)."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _packed(text: str) -> str:
    """The text as the page's script unpacks it: compressed, and in letters that mean nothing to HTML."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The rows as JSON has them."""
    return list(zip(*([_cell(value) for value in column.to_numpy()] for _, column in frame.items()), strict=True))


def _cell(value: Any) -> Any:
    """A value as JSON has it: None for what is missing, text for lists, and for bytes only how many there are."""
    if isinstance(value, (np.ndarray, list, tuple)):
        return json.dumps([_cell(item) for item in value], separators=(",", ":"))
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.floating):
        value = float(str(value))  # as short as its precision: 0.1 and not 0.10000000149
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return str(value)
    if value is pd.NA:
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
