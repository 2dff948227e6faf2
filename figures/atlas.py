"""Figures of the questions that join several experiments, each from one table."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, styled

_HEAD_SETS = {"retrieval": RED, "induction": BLUE, "postmatch": GREEN, "matching": PURPLE, "recent": ORANGE}
_RULES = {"frequency": BLUE, "frequent words": SKY, "word list": ORANGE}
_GROUPS = {"function": "all function tokens", "function words": "words", "function signs": "signs"}
_HEADS = {"top": (RED, "retrieval heads"), "random": (GREY, "random heads, same layers"), "all": (BLUE, "all heads")}
_PLACES = {
    ("prose", "all"): "prose",
    ("needle", "all"): "while answering: whole context",
    ("needle", "needle"): "while answering: within the needle",
}


def plot_memory(change: pd.DataFrame) -> go.Figure:
    """Returns, for every ranking of heads, the change of a repeated and of a novel list against the number of silent heads."""
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=["repeated list", "novel list"]
    )
    for index, (head_set, rows) in enumerate(change.groupby("head_set", sort=False)):
        colour = _HEAD_SETS.get(str(head_set), GREY)
        for column, quantity in ((1, "repeat_change_nats"), (2, "novel_change_nats")):
            own = rows[rows["quantity"] == quantity]
            for heads, dash in (("top", "solid"), ("random", "dot")):
                part = own[own["heads"] == heads].sort_values("k")
                if not len(part):
                    continue
                name = str(head_set) if heads == "top" else f"random, as {head_set}"
                figure.add_scatter(
                    x=part["k"] * 1.02 ** (index - 1),
                    y=part["value"],
                    error_y=_error(part, "value", "ci"),
                    mode="lines+markers",
                    line={"color": colour, "dash": dash},
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    opacity=1 if heads == "top" else 0.6,
                    row=1,
                    col=column,
                )
    figure.add_hline(y=0, line={"color": "#444", "width": 1})
    ticks = sorted(change["k"].unique())
    figure.update_xaxes(title="silent heads", type="log", tickvals=ticks, ticktext=[str(k) for k in ticks])
    figure.update_yaxes(title="change of surprisal per noun (nats)", col=1)
    return styled(
        figure,
        title=f"Verbatim memory without heads · {change['model'].iloc[0]}",
        caption="Surprisal of the second list's nouns but the first with heads silent minus without, with 95% intervals over base "
        "lists. Dotted: as many random heads of the same layers, read with repeated lists only. What a novel list changes is harm to "
        "reading, not to memory.",
        width=980,
    )


def plot_overlap(overlap: pd.DataFrame) -> go.Figure:
    """Returns the difference in function tokens between critical tokens and each control, by definition and rule."""
    figure = go.Figure()
    compared = overlap[overlap["control"] != "shuffled"]
    names = [f"{row.definition} − {row.control}" for row in compared.itertuples()]
    for index, (rule, colour) in enumerate(_RULES.items()):
        part = compared.assign(name=names)[compared["token_rule"] == rule]
        figure.add_scatter(
            x=100 * part["difference"],
            y=part["name"],
            error_x=_error(part, "difference", "difference_ci", scale=100),
            mode="markers",
            marker={"color": colour, "size": 9, "symbol": ("circle", "diamond", "square")[index]},
            name=rule,
            hovertemplate="%{y}: %{x:.0f} points<extra>" + rule + "</extra>",
        )
    figure.update_layout(scattermode="group", scattergap=0.5)
    figure.add_vline(x=0, line={"color": "#444", "width": 1})
    figure.update_xaxes(title="function tokens among critical tokens − among controls (points)")
    figure.update_yaxes(autorange="reversed", title="definition − control")
    figure = styled(
        figure,
        title=f"Critical tokens and function tokens · {overlap['model'].iloc[0]}",
        caption="Each critical token is held against tokens of its own trajectory: all others, those nearby, those as uncertain as a "
        "token must be to be tested. 95% intervals over trajectories. Colours: three rules of what a function token is.",
        height=180 + 44 * len(dict.fromkeys(names)),
    )
    figure.update_layout(margin={"l": 160})
    return figure


def plot_lift(lift: pd.DataFrame) -> go.Figure:
    """Returns the lift of function tokens for retrieval, random and all heads, one panel for each place."""
    places = list(dict.fromkeys(zip(lift["context"], lift["region"], strict=True)))
    figure = make_subplots(
        rows=1,
        cols=len(places),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[_PLACES[place] for place in places],
    )
    for column, (context, region) in enumerate(places, start=1):
        own = lift[(lift["context"] == context) & (lift["region"] == region)]
        for heads, (colour, name) in _HEADS.items():
            part = own[own["heads"] == heads]
            figure.add_scatter(
                x=[_GROUPS[str(group)] for group in part["token_group"]],
                y=part["lift"],
                error_y=_error(part, "lift", "ci"),
                mode="markers",
                marker={"color": colour, "size": 10},
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_layout(scattermode="group", scattergap=0.6)
    figure.add_hline(y=1, line={"color": "#444", "width": 1, "dash": "dash"})
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="lift", col=1)
    return styled(
        figure,
        title=f"Attention to function tokens · {lift['model'].iloc[0]}",
        caption="Share of the heads' attention that function tokens get, divided by the share an even spread over the earlier tokens "
        "would give them: 1 is no preference. First position, own position and special tokens are left out. 95% intervals over texts.",
        width=1040,
    )


def plot_head_lift(head_lift: pd.DataFrame, k: int) -> go.Figure:
    """Returns every head's lift of function tokens against its retrieval score, the top k marked."""
    places = list(dict.fromkeys(zip(head_lift["context"], head_lift["region"], strict=True)))
    figure = make_subplots(
        rows=1,
        cols=len(places),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[_PLACES[place] for place in places],
    )
    for column, (context, region) in enumerate(places, start=1):
        rows = head_lift[(head_lift["context"] == context) & (head_lift["region"] == region)]
        for name, colour, part in (
            (f"top {k}", RED, rows[rows["retrieval_rank"] <= k]),
            ("other heads", GREY, rows[rows["retrieval_rank"] > k]),
        ):
            figure.add_scatter(
                x=part["retrieval_score"],
                y=part["lift"],
                mode="markers",
                marker={"color": colour, "size": 7, "opacity": 0.7},
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                text=[f"{row.layer}-{row.head}" for row in part.itertuples()],
                hovertemplate="head %{text}: score %{x:.3f}, lift %{y:.2f}<extra></extra>",
                row=1,
                col=column,
            )
    figure.add_hline(y=1, line={"color": "#444", "width": 1, "dash": "dash"})
    figure.update_xaxes(title="copy-paste score")
    figure.update_yaxes(title="lift of function tokens", col=1)
    return styled(
        figure,
        title=f"Lift and retrieval score of every head · {head_lift['model'].iloc[0]}",
        caption="One point per head, over the same texts. A head that looks back at little but the first position has a lift all the same: "
        "how much it looks back at is in the table `head_lift`.",
        width=1040,
    )


def _error(rows: pd.DataFrame, value: str, interval: str, *, scale: float = 1) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": scale * (rows[f"{interval}_high"] - rows[value]),
        "arrayminus": scale * (rows[value] - rows[f"{interval}_low"]),
        "thickness": 1.4,
        "width": 4,
    }
