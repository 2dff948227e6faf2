"""Figures of context_recall on texts as they are: which part came first, and bigrams that come back."""

import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREY, PALETTE, error_bars, styled

BELOW = {"orientation": "h", "y": -0.2, "x": 0}


def plot_order(order: pd.DataFrame) -> go.Figure:
    """Returns how often the part that came first is named, by the distance of the two, with the text and without it."""
    rows = order[order["quantity"] == "right"]
    figure = go.Figure()
    distances = sorted(
        rows["distance"].unique(), key=lambda text: (text == "all", int(text.split()[0]) if text[0].isdigit() else 0)
    )
    for place, text in enumerate(dict.fromkeys(rows["text"])):
        part = rows[rows["text"] == text].set_index("distance").reindex(distances)
        figure.add_bar(
            x=distances, y=part["value"], name=text, marker_color=PALETTE[place],
            error_y=error_bars(part["value"], part["ci_low"], part["ci_high"]),
        )  # fmt: skip
    figure.add_hline(y=0.5, line_dash="dot", line_color=GREY)
    figure.update_yaxes(title="share of pairs of parts", range=[0, 1.05])
    figure.update_xaxes(title="words from one part to the other")
    caption = "Right: the summed logits of four presentations favour the part that came first. Intervals: 95% over texts; dots: chance."
    figure = styled(figure, title="Which part came first?", caption=caption)
    return figure.update_layout(barmode="group", legend=BELOW, margin={"b": 110})


def plot_slices(slices: pd.DataFrame) -> go.Figure:
    """Returns what switching heads off costs tokens that complete a repeated bigram, and all others."""
    rows = slices[slices["condition"] != "whole"]
    rows = rows[rows["frequency"] == "all"] if (rows["frequency"] == "all").any() else rows
    figure = go.Figure()
    for name, colour in (("repeated bigram", BLUE), ("other tokens", GREY)):
        part = rows[rows["slice"] == name]
        figure.add_scatter(
            x=part["change"], y=part["condition"], mode="markers", name=name, marker={"color": colour, "size": 9},
            error_x=error_bars(part["change"], part["change_ci_low"], part["change_ci_high"]),
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color=GREY)
    figure.update_xaxes(title="surprisal minus that of the intact model, nats per token")
    figure.update_yaxes(autorange="reversed", title="ablated heads")
    caption = "News prose. A token counts as repeated if the bigram that it completes occurred earlier in the text."
    figure = styled(figure, title="Recall in natural text", caption=caption, height=380)
    return figure.update_layout(legend={**BELOW, "y": -0.3}, margin={"l": 210, "b": 110})
