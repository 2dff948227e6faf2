"""One look for all figures, and the marks they are put together from: panels, lines, points, bands, error bars.

Colours stay apart for colour-blind readers and in grey print.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.tables import Tables

# Okabe and Ito's palette (2008).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#7F7F7F",
)
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
DASHES = ("solid", "dash", "dot")
"""Of lines of one colour, once the palette is used up."""
SEQUENTIAL = [[0.0, "#FFFFFF"], [0.02, "#E8F1F8"], [0.25, "#9CC5E3"], [0.6, "#3182BD"], [1.0, "#08306B"]]
"""White for nothing, dark blue for all; monotone in lightness."""

WIDTH, HEIGHT = 760, 460
FONT = "Helvetica, Arial, sans-serif"

Place = dict[str, Any]
"""The row and column of a panel."""
_POINTS = 1500
"""Tokens drawn in a scatter: the most frequent ones, and a sample of the others."""


def styled(figure: go.Figure, *, title: str, caption: str, width: int = WIDTH, height: int = HEIGHT) -> go.Figure:
    """Returns the figure with the house style, a title, and a caption for the report (in layout.meta)."""
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0.0, "xref": "paper", "xanchor": "left", "font": {"size": 17}},
        font={"family": FONT, "size": 14, "color": "#1b1f24"},
        colorway=list(PALETTE),
        width=width,
        height=height,
        margin={"l": 70, "r": 30, "t": 60, "b": 60},
        legend={"bgcolor": "rgba(255,255,255,0.7)"},
        meta={"caption": caption},
    )
    axis = {"showline": True, "linecolor": "#444", "ticks": "outside", "gridcolor": "#E5E5E5", "zeroline": False}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def drawn(plot: Callable[..., go.Figure], tables: Tables, *names: str, **settings: Any) -> go.Figure:
    """Returns what `plot` draws of the named tables; a report shows those tables under the figure, and this call as Python.

    The names and the call are in layout.meta, beside the caption.
    """
    figure: Any = plot(*(tables[name] for name in names), **settings)
    arguments = [f'run.tables["{name}"]' for name in names] + [f"{name}={value!r}" for name, value in settings.items()]
    call = f"{plot.__name__}({', '.join(arguments)})"
    return figure.update_layout(
        meta={**(figure.layout.meta or {}), "tables": names, "module": plot.__module__, "call": call}
    )


def faint(colour: str, opacity: float = 0.18) -> str:
    """Returns a "#RRGGBB" colour as rgba with the given opacity, for bands."""
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def band(x: list[int] | list[float], low: list[float], high: list[float], colour: str, name: str) -> go.Scatter:
    """Returns the filled area between two curves, to lie under a line of the same colour; where a bound is NaN, straight on."""
    bounds = enumerate(zip(low, high, strict=True))
    known = [place for place, (bottom, top) in bounds if not math.isnan(bottom) and not math.isnan(top)]
    back = known[::-1]
    return go.Scatter(
        x=[x[place] for place in known + back],
        y=[*(high[place] for place in known), *(low[place] for place in back)],
        fill="toself",
        fillcolor=faint(colour),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        name=name,
    )


# ---------------------------------------------------------------------- marks in panels


def layer_panels(dictionaries: Sequence[str]) -> go.Figure:
    """Returns an empty figure with one panel per dictionary, all on one scale."""
    titles = [short(name) for name in dictionaries]
    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)


def wide_figure(figure: go.Figure, n_panels: int, title: str, caption: str) -> go.Figure:
    """Returns the figure in the house style, as wide as its panels need, with the legend below."""
    figure = styled(figure, title=title, caption=caption, width=340 + 310 * n_panels, height=520)
    return figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"b": 130, "t": 80})


def add_line(
    figure: go.Figure,
    x: object,
    y: object,
    name: str,
    colour: str,
    place: Place,
    *,
    dash: str = "solid",
    width: float | int = 1.8,
) -> None:
    """Draws a line into a panel; its name comes once in the legend."""
    line = {"color": colour, "dash": dash, "width": width}
    figure.add_scatter(
        x=x, y=y, mode="lines", name=name, legendgroup=name, showlegend=place["col"] == 1, line=line, **place
    )


def add_points(figure: go.Figure, x: object, y: object, text: pd.Series, name: str, colour: str, place: Place) -> None:
    """Draws tokens into a panel; the pointer shows which token each is."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=place["col"] == 1,
        text=text.map(repr),
        hovertemplate="%{text}: %{y:.0f} features in %{x} occurrences<extra></extra>",
        marker={"color": colour, "size": 5, "opacity": 0.55},
        **place,
    )


def error_bars(value: pd.Series, low: pd.Series, high: pd.Series) -> dict[str, object]:
    """Returns plotly's settings for an interval around each value."""
    return {
        "type": "data",
        "symmetric": False,
        "array": high - value,
        "arrayminus": value - low,
        "thickness": 1.3,
        "width": 3,
    }


def thinned(table: pd.DataFrame) -> pd.DataFrame:
    """Returns all frequent tokens and every so-manieth of the others: tens of thousands of points make a page slow and no clearer."""
    table = table.sort_values("occurrences", ascending=False, kind="stable")
    step = max(1, (len(table) - _POINTS // 2) // (_POINTS // 2))
    return pd.concat([table.head(_POINTS // 2), table.iloc[_POINTS // 2 :: step]])


def short(dictionary: str) -> str:
    """Returns a dictionary's name without that of its model or release."""
    return dictionary.replace(":", "/").split("/", maxsplit=1)[-1].replace("/", "_")


def model_of(table: pd.DataFrame) -> str:
    """Returns the name of the model that a table is about."""
    return str(table["model"].iloc[0])
