"""A page that opens anywhere without a network: its style, its script, figures and tables packed into it."""

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS_SHOWN = 10
"""Rows that are there without scripts, and all there is of tables too large to pack."""
LARGEST_TABLE, LARGEST_PACKED = 250_000, 1_000_000
"""Values, and letters once they are packed, up to which a table comes into a page whole."""
LARGEST_INTEGER = 2**53
"""Up to here every integer is a number of a browser's; larger ones are kept as text."""

FIGURE_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,  # plotly offers by default to send a figure's data to its maker
    # A longer bar lies over the title; dragging zooms and a double click shows all without buttons.
    "modeBarButtonsToRemove": ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}
"""How interactive figures behave: plotly's own options."""


def render_page(title: str, sections: Sequence[str], *, figures: bool) -> str:
    """Returns a whole HTML page from sections of HTML; with figures, plotly's script comes along (2 MB, packed)."""
    script = files("interp.experiments").joinpath("page.js").read_text(encoding="utf-8")
    style = files("interp.experiments").joinpath("page.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body>{''.join(sections)}{_plotly_script() if figures else ''}<script>{script}</script></body></html>"
    )


def render_figure(name: str, figure: "go.Figure") -> str:
    """Returns a figure under a heading, with its caption, as HTML."""
    layout: Any = figure.layout
    caption = str((layout.meta or {}).get("caption", name))
    title = figure_title(name, figure)
    width, height = layout.width or 760, layout.height or 460
    drawing = json.loads(str(figure.to_json())) | {"config": FIGURE_CONFIG}
    drawing["layout"].pop("title", None)  # the heading says it
    return (
        f"<figure id='figure-{escape(name)}' aria-labelledby='caption-{escape(name)}'><h3>{escape(title)}</h3>"
        f"<div class='chart' tabindex='0' role='group' aria-label='{escape(title)}' data-width='{width}' data-height='{height}'>"
        f"<div style='width:{width}px;height:{height}px'><noscript>This figure is drawn by a script.</noscript></div></div>"
        f"{_packed(json.dumps(drawing, separators=(',', ':')))}"
        f"<figcaption id='caption-{escape(name)}'>{escape(caption)}</figcaption></figure>"
    )


def figure_title(name: str, figure: "go.Figure") -> str:
    """Returns a figure's title in plain words, or its name when it has none."""
    layout: Any = figure.layout
    return re.sub(r"<[^>]*>", " ", str(layout.title.text or name))


def render_table(name: str, frame: pd.DataFrame, *, about: str = "", file: str) -> str:
    """Returns a table to browse and to download as CSV; of a large one, the first rows and how to get the others.

    `about` says what a row is, `file` is the parquet file the table lies in, relative to the page.
    """
    packed = _packed_table(frame)
    columns = [str(column) for column in frame.columns]
    rows = _rows(frame.head(ROWS_SHOWN))
    head = "".join(f"<th scope='col'>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    link = f"<a href='{escape(file)}'>{escape(file)}</a>"
    note = f"Also in {link}, beside this page."
    if not packed:
        command = f'pandas.read_parquet("{file}").to_csv("{name}.csv")'
        note = f"The first {len(rows)} rows; all of them in {link}, beside this page. As CSV: <code>{escape(command)}</code>"
    return (
        f"<details class='table' id='table-{escape(name)}'><summary><code>{escape(name)}</code> "
        f"<span class='soft'>{len(frame):,} rows{escape(f' · {about}' if about else '')}</span></summary>"
        f"<div class='controls'></div>"
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(name)}'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class='soft'>{note}</p>{packed}</details>"
    )


def _packed_table(frame: pd.DataFrame) -> str:
    """The whole table, or nothing when it is too large."""
    if frame.size > LARGEST_TABLE:
        return ""
    table = {
        "columns": [str(column) for column in frame.columns],
        "rows": _rows(frame),
    }
    packed = _packed(json.dumps(table, separators=(",", ":"), allow_nan=False))
    return packed if len(packed) <= LARGEST_PACKED else ""


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


def _packed(text: str) -> str:
    """The text where the page's script finds it: compressed, and in letters that mean nothing to HTML."""
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return f"<script type='text/plain'>{packed}</script>"


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs()).replace("<script ", "<script id='plotly' ", 1)


# ---------------------------------------------------------------------- sections, lists, facts


def render_sections(sections: Mapping[str, str]) -> list[str]:
    """Returns links to the sections and the sections under their titles, those that are empty left out."""
    shown = {title: body for title, body in sections.items() if body}
    links = "".join(f"<li><a href='#{anchor(title)}'>{title}</a></li>" for title in shown)
    return [
        f"<nav aria-label='Sections'><ul>{links}</ul></nav>",
        "<main>",
        *(
            f"<section aria-labelledby='{anchor(title)}'><h2 id='{anchor(title)}'>{title}</h2>{body}</section>"
            for title, body in shown.items()
        ),
        "</main>",
    ]


def anchor(title: str) -> str:
    """Returns the id of a section."""
    return title.lower().replace(" ", "-")


def render_list(items: Sequence[str], kind: str) -> str:
    """Returns sentences as a list of a kind: findings or warnings."""
    return f"<ul class='{kind}'>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def render_facts(facts: Mapping[str, Any], caption: str) -> str:
    """Returns names and values as a table, those without a value left out."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return render_fact_rows(rows, caption)


def render_fact_rows(rows: str, caption: str) -> str:
    """Returns rows of HTML as a table of facts under a caption."""
    return (
        f"<div class='scroll facts' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><tbody>{rows}</tbody></table></div>"
    )


def render_duration(seconds: float) -> str:
    """Returns seconds in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
