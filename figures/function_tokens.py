"""Figures of the function-token experiment, each from its tables: those of the graph here, the others beside."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from figures.function_tokens_causes import plot_pair_losses, plot_reactivation, plot_steering
from figures.function_tokens_graph import plot_bipartite
from figures.function_tokens_panels import (
    Place,
    add_line,
    add_points,
    error_bars,
    layer_panels,
    model_of,
    short,
    thinned,
    wide_figure,
)
from figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, band, drawn
from interp.tables import Tables

CLASS_COLOURS = {"function": ORANGE, "content": BLUE}


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


def plot_degree_frequency(degrees: pd.DataFrame) -> go.Figure:
    """Returns degree against occurrences, observed and by chance."""
    dictionaries = list(degrees["dictionary"].unique())
    figure = layer_panels(dictionaries)
    for column, dictionary in enumerate(dictionaries, start=1):
        table = degrees[(degrees["dictionary"] == dictionary) & (degrees["degree"] > 0)]
        place: Place = {"row": 1, "col": column}
        _add_tokens(figure, table, "degree", place)
        line = table.drop_duplicates("occurrences").sort_values("occurrences")
        add_line(figure, line["occurrences"], line["null_degree"], "chance", GREY, place, dash="dash")
    figure.update_xaxes(type="log", title="occurrences")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title="features reached (degree)", col=1)
    return wide_figure(
        figure,
        len(dictionaries),
        f"Degree against chance · {model_of(degrees)}",
        "Distinct features active at a token at least once, against its occurrences. Dashed: expected degree of a token with as many "
        "occurrences when labels are shuffled over all positions.",
    )


def plot_rarefied(degrees: pd.DataFrame) -> go.Figure:
    """Returns the expected number of distinct features in 20 occurrences, against occurrences."""
    dictionaries = list(degrees["dictionary"].unique())
    figure = layer_panels(dictionaries)
    for column, dictionary in enumerate(dictionaries, start=1):
        table = degrees[(degrees["dictionary"] == dictionary) & degrees["rarefied_20"].notna()]
        place: Place = {"row": 1, "col": column}
        _add_tokens(figure, table, "rarefied_20", place)
        ends = [table["occurrences"].min(), table["occurrences"].max()] if len(table) else [1, 2]
        null = [table["null_rarefied_20"].iloc[0]] * 2 if len(table) else [0, 0]
        add_line(figure, ends, null, "20 random positions", GREY, place, dash="dash")
    figure.update_xaxes(type="log", title="occurrences")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="features in 20 occurrences", col=1)
    return wide_figure(
        figure,
        len(dictionaries),
        f"Frequency taken out · {model_of(degrees)}",
        "Expected distinct features in 20 random occurrences of a token (exact, from counts). Dashed: in 20 random positions of the texts.",
    )


def _add_tokens(figure: go.Figure, degrees: pd.DataFrame, column: str, place: Place) -> None:
    """Adds a point per token, against its occurrences, in the colour of its class."""
    for name in ("content", "function"):
        part = thinned(degrees[degrees["token_class"] == name])
        text = f"{name} tokens"
        add_points(figure, part["occurrences"], part[column], part["token"], text, CLASS_COLOURS[name], place)


def plot_degree_distribution(degrees: pd.DataFrame, profile: pd.DataFrame, fits: pd.DataFrame) -> go.Figure:
    """Returns the distribution of degrees (share of nodes with at least that degree) and the fitted power law."""
    dictionaries = list(degrees["dictionary"].unique())
    figure = layer_panels(dictionaries)
    for column, dictionary in enumerate(dictionaries, start=1):
        place: Place = {"row": 1, "col": column}
        for side, table, colour in (("token", degrees, ORANGE), ("feature", profile, BLUE)):
            values = np.sort(table.loc[table["dictionary"] == dictionary, "degree"].to_numpy())
            values = values[values > 0]
            distinct, first = np.unique(values, return_index=True)
            above = 1 - first / len(values)
            add_line(figure, distinct, above, f"degrees of {side}s", colour, place, width=2.5)
            fit = fits[(fits["dictionary"] == dictionary) & (fits["side"] == side)]
            if len(fit):
                xmin, exponent = float(fit["xmin"].iloc[0]), float(fit["exponent"].iloc[0])
                tail = distinct[distinct >= xmin]
                start = float((values >= xmin).mean())
                curve = start * (tail / xmin) ** (1 - exponent)
                add_line(figure, tail, curve, f"power law, {side}s", colour, place, dash="dash")
    figure.update_xaxes(type="log", title="degree")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title="share with at least this degree", col=1)
    fits = fits.assign(text=fits["side"] + "s against " + fits["alternative"].str.replace("_", " "))
    verdicts = "; ".join(
        f"{short(str(row.dictionary))} {row.text}: {row.likelihood_ratio:+.1f} (p {row.p:.2g})"
        for row in fits.itertuples()
    )
    return wide_figure(
        figure,
        len(dictionaries),
        f"Degree distributions and the best power law · {model_of(degrees)}",
        "Dashed: the power law that fits the tail best (Clauset, Shalizi, Newman 2009). Normalised log likelihood ratios (positive: the "
        f"power law fits better): {verdicts}.",
    )


def plot_feature_entropy(profile: pd.DataFrame) -> go.Figure:
    """Returns at how many tokens features live, and how much of each feature's activation is at function tokens."""
    dictionaries = list(profile["dictionary"].unique())
    figure = layer_panels(dictionaries)
    for column, dictionary in enumerate(dictionaries, start=1):
        table = profile[profile["dictionary"] == dictionary]
        figure.add_scatter(
            x=table["effective_tokens"],
            y=table["function_mass_share"],
            mode="markers",
            marker={
                "size": 4,
                "opacity": 0.5,
                "color": np.log10(table["occurrences"]),
                "colorscale": "Cividis",
                "coloraxis": "coloraxis",
            },
            text=table["top_token"].map(repr),
            hovertemplate="feature %{customdata}: mostly at %{text}<extra></extra>",
            customdata=table["feature_id"],
            showlegend=False,
            row=1,
            col=column,
        )
    figure.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {"title": "log₁₀<br>occurrences"}})
    figure.update_xaxes(type="log", title="effective number of tokens")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(title="activation at function tokens", col=1)
    return wide_figure(
        figure,
        len(dictionaries),
        f"From one token to all of them · {model_of(profile)}",
        "Each point is a feature. Effective number of tokens: exp of the entropy of the token given that the feature is active.",
    )
