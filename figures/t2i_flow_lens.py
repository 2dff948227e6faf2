"""What an encoder's states after each of its layers show: share of pictures by depth."""

import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREEN, GREY, RED, styled
from figures.t2i_flow_terms import error_bars

LINES = {
    ("full", "own"): ("item alone, whole text", GREY),
    ("last_token", "own"): ("item alone, its last token", GREEN),
    ("item", "own"): ("item in a prompt, its own look", BLUE),
    ("item", "leak"): ("item in a prompt, the leak", RED),
}


def plot_lens(rates: pd.DataFrame) -> go.Figure:
    """Returns share of pictures that show an item by layer: a row of panels for each encoder, one for each group of texts."""
    from plotly.subplots import make_subplots

    encoders, groups = (list(dict.fromkeys(rates[name])) for name in ("encoder", "group"))
    titles = [_title(group, encoder, len(encoders)) for encoder in encoders for group in groups]
    figure = make_subplots(
        len(encoders),
        len(groups),
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.03,
        vertical_spacing=0.16,
    )
    named: set[str] = set()
    for key, part in rates.groupby(["group", "encoder", "token_role", "asked"], sort=False):
        group, encoder, role, asked = map(str, key)  # type: ignore[call-overload]
        name, colour = LINES[role, asked]
        row, column = encoders.index(encoder) + 1, groups.index(group) + 1
        figure.add_scatter(
            x=part["layer"], y=part["estimate"], mode="lines+markers", name=name, legendgroup=name,
            showlegend=name not in named, line={"color": colour}, marker={"size": 8},
            error_y={**error_bars(part), "width": 3, "thickness": 1}, row=row, col=column,
        )  # fmt: skip
        named.add(name)
        figure.update_xaxes(tickvals=sorted(set(part["layer"])), row=row, col=column)
    figure.update_yaxes(range=[-0.03, 1.05])
    figure.update_yaxes(title="share of pictures", col=1)
    figure.update_xaxes(title="layers gone through", row=len(encoders))
    styled(
        figure,
        title=f"Layer by layer: what an encoder's states show · {rates['model'].iloc[0]}",
        caption="0: the embeddings. All that is not kept, or not of this encoder, is clean padding. 95% intervals over items or "
        "prompts.",
        width=max(640, 240 * len(groups) + 60),
        height=200 + 230 * len(encoders),
    )
    below = {"orientation": "h", "y": -0.3 / len(encoders), "yanchor": "top"}
    return figure.update_layout(legend=below, margin={"t": 90, "b": 110})


def _title(group: str, encoder: str, n_encoders: int) -> str:
    words = "items alone" if group == "alone" else str(group).replace("_", " ")
    return f"{words} · {encoder}" if n_encoders > 1 else words
