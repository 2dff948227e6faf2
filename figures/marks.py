"""What figures are put together from: panels, lines, points, error bars, short names."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import styled

Place = dict[str, Any]
"""The row and column of a panel."""
_POINTS = 1500
"""Tokens drawn in a scatter: the most frequent ones, and a sample of the others."""


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
