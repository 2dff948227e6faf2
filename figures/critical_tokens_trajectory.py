"""One wrong answer of the critical-token experiment, token by token: its chance of coming out right, and where that falls."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREY, ORANGE, PURPLE, RED, band, styled

DEFINITIONS = {"paper": (ORANGE, "diamond-open"), "cliff": (RED, "x"), "pivot": (PURPLE, "circle-open")}
"""Colour and mark of each definition of a critical token."""
_SIZES = {"paper": 26, "cliff": 11, "pivot": 17}


def plot_trajectory(positions: pd.DataFrame, critical: pd.DataFrame, responses: pd.DataFrame, id: str) -> go.Figure:
    """Returns V after every token of one trajectory with its band, 1 − p below, critical tokens marked."""
    rows = positions[positions["trajectory_id"] == id].sort_values("position")
    response = responses[responses["trajectory_id"] == id].iloc[0]
    x = rows["position"].tolist()
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.05)
    figure.add_trace(band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), BLUE, "V"), row=1, col=1)
    figure.add_scatter(
        x=x,
        y=rows["value"],
        mode="lines+markers",
        name="V after token",
        line={"color": BLUE, "width": 2},
        marker={"size": 5},
        hovertext=rows["token"],
        row=1,
        col=1,
    )
    found = critical[critical["trajectory_id"] == id]
    values = rows.set_index("position")["value"]
    for definition, (colour, symbol) in DEFINITIONS.items():
        marked = found[found["definition"] == definition]
        if len(marked):
            figure.add_scatter(
                x=marked["position"],
                y=values[marked["position"]],
                mode="markers",
                name=definition,
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": _SIZES[definition],
                    "line": {"width": 2.5, "color": colour},
                },
                row=1,
                col=1,
            )
    error = int(response["first_error_position"])
    if error >= 0:
        figure.add_shape(
            type="line", x0=error, x1=error, y0=0, y1=1, line={"color": GREY, "dash": "dot", "width": 1.5}, row=1, col=1
        )
        figure.add_annotation(
            x=error, y=1.04, text="first wrong token", showarrow=False, font={"size": 12, "color": GREY}, row=1, col=1
        )
    colours = [GREY if sure else BLUE for sure in rows["certified"]]
    figure.add_bar(x=x, y=1 - rows["p"], marker_color=colours, showlegend=False, row=2, col=1)
    figure.update_yaxes(title="V", range=[-0.04, 1.1], row=1, col=1)
    figure.update_yaxes(title="1 − p", range=[0, 1], row=2, col=1)
    texts = [visible(token) for token in rows["token"]]
    styled(
        figure,
        title=f"{_last_line(str(response['prompt']))} · {rows['model'].iloc[0]}",
        caption=f"Chance V of a right answer after every token of the wrong response {id} to "
        f"“{_last_line(str(response['prompt']))}” (right: {response['gold']}), with 95% intervals. "
        "Below: 1 − p, the most by which a token can change V; grey tokens are certified.",
        width=max(820, 160 + 38 * len(x)),
        height=520,
    )
    figure.update_xaxes(tickvals=x, ticktext=texts, tickangle=0, row=2, col=1)
    return figure


def _last_line(prompt: str) -> str:
    """What was asked: the last paragraph of the prompt on one line."""
    return " ".join(prompt.rstrip().split("\n\n")[-1].split("\n")).removesuffix(" A:").removeprefix("Q: ")


def visible(token: str) -> str:
    """Returns a token's text with spaces and line breaks shown."""
    return token.replace(" ", "␣").replace("\n", "⏎") or "∅"
