"""One look for all figures: fonts, sizes, and colours that stay apart for colour-blind readers and in grey print."""

import math
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

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
SEQUENTIAL = [[0.0, "#FFFFFF"], [0.02, "#E8F1F8"], [0.25, "#9CC5E3"], [0.6, "#3182BD"], [1.0, "#08306B"]]
"""White for nothing, dark blue for all; monotone in lightness."""

WIDTH, HEIGHT = 760, 460
FONT = "Helvetica, Arial, sans-serif"


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
