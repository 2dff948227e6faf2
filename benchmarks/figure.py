"""The figures of the page on performance: cost against size, from the stored table of a benchmark."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, ORANGE, styled

SIZES = {
    "context_tokens": "prompt tokens",
    "first_lists": "first lists",
    "features": "features",
    "tokens": "tokens of text",
    "drawn_tokens": "tokens drawn",
    "conditions": "conditions",
    "rollouts": "rollouts",
    "steps": "steps",
    "pictures": "pictures",
    "bytes_read": "bytes behind the prompt",
}
"""What the axis of a curve is called."""


def plot_growth(growth: pd.DataFrame, exponents: pd.DataFrame) -> go.Figure:
    """Returns processor seconds against size on logarithmic axes, one panel for each curve of one benchmark.

    Points are single repetitions, the line goes through their medians, the dotted line is proportional cost. `exponents`
    holds `curve` and `exponent`, which stands above the panel.
    """
    curves = list(dict.fromkeys(growth["curve"]))
    fitted = exponents.set_index("curve")["exponent"]
    figure = make_subplots(
        rows=1, cols=len(curves), horizontal_spacing=0.14,
        subplot_titles=[f"{SIZES[curve]}: exponent {fitted[curve]:.2f}" for curve in curves],
    )  # fmt: skip
    for column, curve in enumerate(curves, start=1):
        part = growth[growth["curve"] == curve]
        medians = part.groupby("size")["processor_seconds"].median()
        largest = float(medians.index[-1])
        traces = [
            go.Scatter(
                x=list(medians.index), y=[medians.iloc[-1] * size / largest for size in medians.index], mode="lines",
                line={"color": ORANGE, "dash": "dot", "width": 1.5}, name="in proportion", showlegend=column == 1,
            ),
            go.Scatter(
                x=list(medians.index), y=list(medians), mode="lines", line={"color": BLUE, "width": 2}, name="median",
                showlegend=column == 1,
            ),
            go.Scatter(
                x=list(part["size"]), y=list(part["processor_seconds"]), mode="markers", name="one repetition",
                marker={"color": BLUE, "size": 6, "opacity": 0.6}, showlegend=column == 1,
            ),
        ]  # fmt: skip
        for trace in traces:
            figure.add_trace(trace, row=1, col=column)
        ticks = [int(size) for size in medians.index]
        figure.update_xaxes(
            type="log",
            title=SIZES[curve],
            tickvals=ticks,
            ticktext=[_short(size) for size in ticks],
            tickangle=0,
            row=1,
            col=column,
        )
        figure.update_yaxes(type="log", dtick=1, row=1, col=column)
    figure.update_yaxes(title="processor seconds", row=1, col=1)
    name = str(growth["benchmark"].iloc[0]).replace("_", " ")
    styled(
        figure,
        title=f"Cost by size · {name}",
        caption="Processor seconds of one thread; both axes are logarithmic, so that a power law is a straight line.",
        width=160 + 300 * len(curves),
        height=360,
    )
    figure.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0.0})
    return figure


def _short(size: int) -> str:
    """A number of few letters: 1K for 1000 and for 1024, 2²⁰ for a million features would be harder to read than 1M."""
    for power, letter in ((1_000_000, "M"), (1000, "K")):
        if size >= power:
            return (
                f"{size / power:.3g}{letter}"
                if size % 1024
                else f"{size // (1024 if power == 1000 else 1 << 20)}{letter}"
            )
    return str(size)
