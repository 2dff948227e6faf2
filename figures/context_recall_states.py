"""Recall against bytes of state, from the table of small trained models (training/mqar.py)."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import GREY, PALETTE, error_bars, styled

SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")


def plot_states(recall: pd.DataFrame) -> go.Figure:
    """Returns the share of right answers by bytes of state, one panel for each number of pairs, one line for each kind of model."""
    sizes = sorted(recall["n_pairs"].unique())
    kinds = list(dict.fromkeys(recall["kind"]))
    figure = make_subplots(
        rows=1, cols=len(sizes), subplot_titles=[f"{n} pairs" for n in sizes], shared_yaxes=True, horizontal_spacing=0.03
    )  # fmt: skip
    for col, n in enumerate(sizes, start=1):
        panel = recall[recall["n_pairs"] == n]
        for place, kind in enumerate(kinds):
            line = panel[panel["kind"] == kind].sort_values("state_bytes")
            figure.add_scatter(
                x=line["state_bytes"], y=line["value"], name=kind, legendgroup=kind, showlegend=col == 1, mode="lines+markers",
                line={"color": PALETTE[place], "width": 1}, marker={"size": 9, "symbol": SYMBOLS[place]},
                error_y=error_bars(line["value"], line["ci_low"], line["ci_high"]), row=1, col=col,
            )  # fmt: skip
        figure.add_hline(y=float(panel["chance"].iloc[0]), line_dash="dot", line_color=GREY, row=1, col=col)  # type: ignore[arg-type]
    ticks = [1000, 2000, 5000, 10000]
    figure.update_xaxes(title="state, bytes", type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    figure.update_yaxes(range=[-0.03, 1.05])
    figure.update_yaxes(title="share of answers right", row=1, col=1)
    caption = "Two-layer models of equal numbers of parameters. Points: mean over seeds; bars: 95% intervals over seeds. Dots: chance."
    figure = styled(
        figure, title="Recall against bytes of state", caption=caption, width=220 + 260 * len(sizes), height=440
    )
    return figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"t": 90, "b": 110})
