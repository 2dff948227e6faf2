"""Figures of the function-token experiment, each from its tables: coverage, losses, knock-out, steering; the graph's beside."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.function_tokens_graph import (
    plot_bipartite,
    plot_degree_distribution,
    plot_degree_frequency,
    plot_feature_entropy,
    plot_rarefied,
)
from figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    RED,
    SKY,
    Place,
    add_line,
    band,
    drawn,
    error_bars,
    layer_panels,
    model_of,
    short,
    styled,
    wide_figure,
)
from interp.tables import Tables


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for, in the order a reader wants them."""
    figures: dict[str, go.Figure] = {}
    if len(tables["coverage"]):
        figures["coverage"] = drawn(plot_coverage, tables, "coverage", "shuffled_coverage")
        figures["accumulation"] = drawn(plot_accumulation, tables, "accumulation")
        figures["degree_frequency"] = drawn(plot_degree_frequency, tables, "token_degrees")
        figures["rarefied_degree"] = drawn(plot_rarefied, tables, "token_degrees")
        for dictionary in tables["coverage"]["dictionary"].unique():
            name = f"bipartite_{short(dictionary)}"
            figures[name] = drawn(
                plot_bipartite, tables, "token_degrees", "edges", "feature_profile", dictionary=str(dictionary)
            )
        figures["degree_distribution"] = drawn(
            plot_degree_distribution, tables, "token_degrees", "feature_profile", "degree_fit"
        )
        figures["feature_entropy"] = drawn(plot_feature_entropy, tables, "feature_profile")
    if len(tables["pair_losses"]):
        threshold = float(tables["token_classes"]["threshold"].iloc[0])
        figures["pair_losses"] = drawn(plot_pair_losses, tables, "pair_losses", threshold=threshold)
    if len(tables["reactivation"]):
        figures["reactivation"] = drawn(plot_reactivation, tables, "reactivation")
    if len(tables["steering"]):
        figures["steering"] = drawn(plot_steering, tables, "steering")
    return figures


def plot_coverage(coverage: pd.DataFrame, shuffled: pd.DataFrame) -> go.Figure:
    """Returns, per dictionary, the share of live features reached by k tokens, in several orders, and by chance."""
    dictionaries = list(coverage["dictionary"].unique())
    figure = layer_panels(dictionaries)
    for column, dictionary in enumerate(dictionaries, start=1):
        table = coverage[(coverage["dictionary"] == dictionary) & (coverage["min_count"] == 1)].sort_values("k")
        plain = table[table["chosen_by"] == "frequency"]
        place: Place = {"row": 1, "col": column}
        low, high = plain["coverage_ci_low"].clip(0, 1), plain["coverage_ci_high"].clip(0, 1)
        figure.add_trace(band(plain["k"].tolist(), low.tolist(), high.tolist(), ORANGE, "most frequent"), **place)
        add_line(figure, plain["k"], plain["coverage_alive"], "most frequent", ORANGE, place, width=3)
        add_line(figure, plain["k"], plain["null_alive"], "chance: labels shuffled (exact)", GREY, place, dash="dash")
        own = shuffled[shuffled["dictionary"] == dictionary]
        for labels, colour, text in (
            ("document", PURPLE, "shuffled within texts"),
            ("position", GREEN, "shuffled within positions"),
        ):
            mean = own[own["labels"] == labels].groupby("k")["coverage_alive"].mean()
            add_line(figure, mean.index, mean, text, colour, place, dash="dot")
        for order, colour, text in (("greedy", RED, "greedy cover"), ("random", SKY, "random tokens")):
            part = table[table["chosen_by"] == order]
            add_line(figure, part["k"], part["coverage_alive"], text, colour, place)
        matched = table[table["chosen_by"] == "content"]
        figure.add_scatter(
            x=matched["k"],
            y=matched["coverage_alive"],
            mode="markers",
            name="content, as many occurrences",
            legendgroup="content",
            showlegend=column == 1,
            marker={"color": BLUE, "symbol": "diamond", "size": 9},
            error_y=error_bars(matched["coverage_alive"], matched["low_alive"], matched["high_alive"]),
            **place,
        )
    figure.update_xaxes(type="log", title="tokens in the set (k)")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title="live features reached", col=1)
    return wide_figure(
        figure,
        len(dictionaries),
        f"How many features do a few tokens reach? · {model_of(coverage)}",
        "Share of the features active anywhere in the measured texts that are active at one of k tokens at least once. Band: ± 1.96 "
        "bootstrap standard deviations over blocks of texts. Diamonds: random content tokens with as many occurrences as the k most "
        "frequent tokens.",
    )


def plot_accumulation(accumulation: pd.DataFrame) -> go.Figure:
    """Returns, per dictionary, distinct features against occurrences of the tokens of each class, and of random positions."""
    dictionaries = list(accumulation["dictionary"].unique())
    figure = layer_panels(dictionaries)
    sets = (
        ("all", GREY, "any token (chance)"),
        ("content", BLUE, "content tokens"),
        ("function", ORANGE, "function tokens"),
    )
    for column, dictionary in enumerate(dictionaries, start=1):
        place: Place = {"row": 1, "col": column}
        for name, colour, text in (*sets, ("ten most frequent", RED, "ten most frequent tokens")):
            part = accumulation[(accumulation["dictionary"] == dictionary) & (accumulation["token_set"] == name)]
            low, high = part["ci_low"].clip(lower=0).tolist(), part["ci_high"].tolist()
            figure.add_trace(band(part["drawn"].tolist(), low, high, colour, text), **place)
            add_line(
                figure, part["drawn"], part["features"], text, colour, place, dash="dash" if name == "all" else "solid"
            )
    figure.update_xaxes(type="log", title="occurrences drawn")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="distinct features", col=1)
    return wide_figure(
        figure,
        len(dictionaries),
        f"Who collects features fastest? · {model_of(accumulation)}",
        "Expected distinct features in as many random occurrences of the tokens of a class (exact, from counts). Dashed: of "
        "random positions, whatever the token. Bands: ± 1.96 bootstrap standard deviations over blocks of texts.",
    )


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
