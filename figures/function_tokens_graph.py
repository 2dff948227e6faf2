"""Figures of the graph of tokens and features: degrees, their distribution, entropy, and the graph itself."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from figures.style import (
    BLUE,
    GREY,
    ORANGE,
    Place,
    add_line,
    add_points,
    faint,
    layer_panels,
    model_of,
    short,
    styled,
    thinned,
    wide_figure,
)

TOKENS, FEATURES_EACH = 24, 2

CLASS_COLOURS = {"function": ORANGE, "content": BLUE}


def plot_bipartite(degrees: pd.DataFrame, edges: pd.DataFrame, profile: pd.DataFrame, dictionary: str) -> go.Figure:
    """Returns the most frequent tokens with the features that are most specific to each, and all edges among them.

    Most specific: the largest share of the feature's occurrences that is at the token, among features that occur at least ten
    times there. Lines are as thick as that share; features stand at the mean height of their tokens, so few lines cross.
    """
    chosen = most_specific(degrees, edges, profile, dictionary)
    tokens = chosen["tokens"]
    token_y = dict(zip(tokens["token_id"], np.linspace(1, 0, len(tokens)), strict=True))
    links = chosen["links"].assign(token_y=lambda table: table["token_id"].map(token_y))
    weight = links["share"] * links["token_y"]
    centre = (weight.groupby(links["feature_id"]).sum() / links.groupby("feature_id")["share"].sum()).sort_values()
    feature_y = dict(zip(centre.index, np.linspace(0, 1, len(centre)), strict=True))
    figure = go.Figure()
    colours = {"function": ORANGE, "content": BLUE}
    classes = dict(zip(tokens["token_id"], tokens["token_class"], strict=True))
    rows: Any = links.sort_values("share").itertuples()
    for link in rows:
        x, y = _curve(link.token_y, feature_y[link.feature_id])
        colour = faint(colours[classes[link.token_id]], min(1.0, 0.12 + 0.88 * link.share))
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": 0.5 + 7 * link.share},
            hoverinfo="skip",
            showlegend=False,
        )
    for name, colour in colours.items():
        part = tokens[tokens["token_class"] == name]
        figure.add_scatter(
            x=np.zeros(len(part)),
            y=part["token_id"].map(token_y),
            mode="markers+text",
            text=[_shown(token) for token in part["token"]],
            textposition="middle left",
            marker={"color": colour, "size": 4 + 22 * np.sqrt(part["degree"] / tokens["degree"].max())},
            name=f"{name} token",
            hovertext=[f"{row.degree} features, {row.occurrences} occurrences" for row in part.itertuples()],
        )
    top = profile[profile["dictionary"] == dictionary].set_index("feature_id")
    figure.add_scatter(
        x=np.ones(len(feature_y)),
        y=list(feature_y.values()),
        mode="markers+text",
        text=[f"{feature}  ({top.at[feature, 'effective_tokens']:.0f} tokens)" for feature in feature_y],
        textposition="middle right",
        textfont={"size": 11, "color": "#444"},
        marker={"color": GREY, "size": 7, "symbol": "square"},
        name="feature (effective number of tokens)",
    )
    figure = styled(
        figure,
        title=f"Frequent tokens and the features that are most their own · {dictionary}",
        caption=f"The {len(tokens)} most frequent tokens, and for each the {FEATURES_EACH} features with the largest share of their "
        "occurrences at it. Lines are as thick as that share; circles grow with the number of features a token reaches.",
        width=900,
        height=980,
    )
    figure.update_xaxes(visible=False, range=[-0.28, 1.42]).update_yaxes(visible=False, range=[-0.04, 1.06])
    return figure.update_layout(legend={"orientation": "h", "y": -0.01, "x": 0.1}, plot_bgcolor="white")


def most_specific(
    degrees: pd.DataFrame, edges: pd.DataFrame, profile: pd.DataFrame, dictionary: str
) -> dict[str, pd.DataFrame]:
    """Returns `tokens` (rows of token_degrees) and `links` (edges among them and their features, with the share of the feature)."""
    tokens = degrees[degrees["dictionary"] == dictionary].sort_values("rank").head(TOKENS)
    own = edges[(edges["dictionary"] == dictionary) & edges["token_id"].isin(tokens["token_id"])]
    total = profile[profile["dictionary"] == dictionary].set_index("feature_id")["occurrences"]
    own = own.assign(share=own["count"] / total.reindex(own["feature_id"]).to_numpy())
    own = own.sort_values("share", ascending=False, kind="stable")
    enough = own[own["count"] >= min(10, own["count"].max())]
    features = enough.groupby("token_id").head(FEATURES_EACH)["feature_id"].unique()
    links = own[own["feature_id"].isin(features) & (own["share"] >= 0.01)]
    return {"tokens": tokens, "links": links[["token_id", "feature_id", "share"]]}


def _curve(left: float, right: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth line from a token to a feature."""
    x = np.linspace(0, 1, 24)
    return x, left + (right - left) * (3 * x**2 - 2 * x**3)


def _shown(token: str) -> str:
    """The token with its invisible signs made visible."""
    return (token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·") or "∅") + " "


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
