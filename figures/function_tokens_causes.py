"""Figures of what predictions cost and what tokens do: losses by class pair, knock-out of attention, steering."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.function_tokens_panels import error_bars, model_of, short
from figures.style import BLUE, GREY, ORANGE, PALETTE, RED, SKY, styled
from interp.tables import Tables

PAIRS = (("function", "function"), ("function", "content"), ("content", "function"), ("content", "content"))


def plot_pair_losses(losses: pd.DataFrame, threshold: float) -> go.Figure:
    """Returns loss by class of the current and the next token: per prediction, above a bigram model, share of the total."""
    rows = losses[losses["threshold"] == threshold].set_index(["current_class", "next_class"])
    pairs = [pair for pair in PAIRS if pair in rows.index]
    rows = rows.loc[pairs]
    names = [f"{current}→<br>{following}" for current, following in pairs]
    panels = (
        ("mean_loss_nats", "loss per prediction, nats"),
        ("above_bigram_nats", "loss minus bigram model, nats"),
        ("loss_share", "share of the total loss"),
    )
    figure = make_subplots(rows=1, cols=3, subplot_titles=[title for _, title in panels], horizontal_spacing=0.08)
    for column, (value, _) in enumerate(panels, start=1):
        figure.add_bar(
            x=names,
            y=rows[value],
            marker_color=[ORANGE, RED, SKY, BLUE][: len(names)],
            showlegend=False,
            error_y=error_bars(rows[value], rows[f"{value}_ci_low"], rows[f"{value}_ci_high"]),
            row=1,
            col=column,
        )
    figure.add_scatter(
        x=names,
        y=rows["frequency"],
        mode="markers",
        name="share of the predictions",
        marker={"symbol": "line-ew-open", "size": 26, "color": "#1b1f24", "line": {"width": 3}},
        row=1,
        col=3,
    )
    figure.update_xaxes(tickangle=0, tickfont={"size": 11})
    figure.update_yaxes(tickformat=".0%", row=1, col=3)
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 1, "xanchor": "right"})
    return styled(
        figure,
        title=f"Where the loss is: class of the current → of the next token · {model_of(losses)}",
        caption=f"Function tokens cover {threshold:.0%} of the occurrences. Dashes: share of the predictions. 95% bootstrap over texts.",
        width=1080,
    )


def plot_reactivation(reactivation: pd.DataFrame) -> go.Figure:
    """Returns the share of a feature's activation lost under knock-out of its sources and of controls."""
    figure = go.Figure()
    reactivation = reactivation.sort_values(["layer", "dictionary", "token_class"])
    for name, value, colour in (("where it was active", "lost", RED), ("neighbours (control)", "control_lost", GREY)):
        figure.add_bar(
            x=[reactivation["dictionary"].map(short), reactivation["token_class"]],
            y=reactivation[value],
            name=name,
            marker_color=colour,
            error_y=error_bars(reactivation[value], reactivation[f"{value}_ci_low"], reactivation[f"{value}_ci_high"]),
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(title="share of the activation lost", tickformat=".0%")
    return styled(
        figure,
        title=f"Do tokens fetch features from where they were active? · {model_of(reactivation)}",
        caption="Mean share of a feature's activation that is lost when the token may not attend to the earlier positions where the "
        "feature was active, or to as many neighbouring positions where it was not. 95% bootstrap over prompts.",
        width=860,
    )


def plot_steering(steering: pd.DataFrame) -> go.Figure:
    """Returns what steering does by place and class of the steered token, features beside random directions."""
    outcomes = (("promoted_gain_nats", "gain of promoted tokens, nats"), ("kl_nats", "KL from the unsteered, nats"))
    figure = make_subplots(rows=1, cols=2, subplot_titles=[title for _, title in outcomes], horizontal_spacing=0.1)
    for column, (outcome, _) in enumerate(outcomes, start=1):
        part = steering[steering["outcome"] == outcome].sort_values(["layer", "dictionary", "where", "token_class"])
        x = [part["dictionary"].map(short), part["where"] + "<br>" + part["token_class"]]
        for name, colour in (("feature", RED), ("random", GREY)):
            figure.add_bar(
                x=x,
                y=part[name],
                name="feature" if name == "feature" else "random direction",
                marker_color=colour,
                legendgroup=name,
                showlegend=column == 1,
                error_y=error_bars(part[name], part[f"{name}_ci_low"], part[f"{name}_ci_high"]),
                row=1,
                col=column,
            )
    figure.update_layout(barmode="group")
    return styled(
        figure,
        title=f"Steering at function and content tokens, last and earlier · {model_of(steering)}",
        caption="A feature's direction added at one token (or a random direction of the same length), and what it does to the next-token "
        "distribution at the last token. 95% bootstrap over prompts.",
        width=max(1180, 560 * steering["dictionary"].nunique()),
    )


def draw_comparison(tables: Tables) -> dict[str, go.Figure]:
    """Returns pair losses of several runs side by side."""
    losses = tables["pair_losses"]
    if not len(losses):
        return {}
    figure = go.Figure()
    for (current, following), colour in zip(PAIRS, PALETTE, strict=False):
        part = losses[(losses["current_class"] == current) & (losses["next_class"] == following)]
        figure.add_scatter(
            x=part["run"],
            y=part["mean_loss_nats"],
            mode="lines+markers",
            name=f"{current}→{following}",
            line={"color": colour},
            error_y=error_bars(part["mean_loss_nats"], part["mean_loss_nats_ci_low"], part["mean_loss_nats_ci_high"]),
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(title="loss per prediction, nats", rangemode="tozero")
    return {"pair_losses": styled(figure, title="Loss by class pair, run by run", caption="95% bootstrap over texts.")}
