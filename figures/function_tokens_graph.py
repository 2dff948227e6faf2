"""A picture of the bipartite graph: frequent tokens on the left, the features that are most their own on the right."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREY, ORANGE, faint, styled

TOKENS, FEATURES_EACH = 24, 2


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
