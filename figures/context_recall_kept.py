"""What retention policies leave of the right pair and what it costs to answer from it, from the tables of context_recall."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import GREY, PALETTE, error_bars, styled

SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")
RANDOM = "kept by random"
PANELS = (
    ("right pair's keys that are left", "share of keys, mean over heads"),
    ("margin lost beyond random keys", "nats"),
    ("answers lost beyond random keys", "share of questions, greedy"),
)


def plot_kept(survival: pd.DataFrame, causes: pd.DataFrame) -> go.Figure:
    """Returns by policy and task how much of the right pair is left, and what margin and greedy answers lose beyond random keys."""
    left = survival[survival["quantity"] == "pair_kept"]
    tasks = left["task"].drop_duplicates().tolist()
    policies = [name for name in left["condition"].drop_duplicates() if name != RANDOM]
    figure = make_subplots(
        rows=1, cols=3, subplot_titles=[title for title, _ in PANELS], shared_yaxes=True, horizontal_spacing=0.04
    )
    shown = (
        (left, "value", "ci_low", "ci_high"),
        (causes[causes["quantity"] == "first_margin_nats"], "beyond", "beyond_ci_low", "beyond_ci_high"),
        (causes[causes["quantity"] == "said"], "beyond", "beyond_ci_low", "beyond_ci_high"),
    )
    for col, ((table, value, low, high), (_, axis)) in enumerate(zip(shown, PANELS, strict=True), start=1):
        conditions = [*policies, RANDOM] if col == 1 else policies
        for place, condition in enumerate(conditions):
            part = table[(table["condition"] == condition) & table["task"].isin(tasks)]
            at_random = condition == RANDOM
            figure.add_scatter(
                x=part[value], y=[tasks.index(task) + 0.17 * (place - len(policies) / 2) for task in part["task"]], mode="markers",
                name=condition.removeprefix("kept by "), legendgroup=condition, showlegend=col == 1, row=1, col=col,
                marker={"color": GREY if at_random else PALETTE[place % 6], "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
                error_x=error_bars(part[value], part[low], part[high]),
            )  # fmt: skip
        if col > 1:
            figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=col)  # type: ignore[arg-type]
        figure.update_xaxes(title=axis, row=1, col=col)
    figure.update_xaxes(range=[-0.03, 1.03], row=1, col=1)
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(tasks))), ticktext=tasks)
    figure.update_yaxes(title="task", row=1, col=1)
    caption = (
        "The context is cut before the question is read. Right of 0: the policy loses more than as many keys kept at random; left: "
        "less. 95% intervals, contexts resampled."
    )
    height = 270 + 48 * len(tasks)
    figure = styled(
        figure, title="Answers from the keys that a policy keeps", caption=caption, width=1100, height=height
    )
    legend = {"orientation": "h", "y": -90 / (height - 190), "x": 0}
    return figure.update_layout(legend=legend, margin={"l": 150, "t": 90, "b": 120})
