"""Figures of the embedding_swap experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, band, drawn, error_bars, styled
from interp.tables import Tables

SEEN = {
    "new": ("new in the text", ORANGE),
    "again": ("there before", BLUE),
    "recall": ("there before, behind the same token", GREEN),
}
KINDS = {"known": BLUE, "conflict": GREY, "rare": ORANGE, "gaussian": PURPLE}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns a figure of every part that was measured."""
    wanted = {
        "ciphers": plot_ciphers, "course": plot_course, "lens_layers": plot_lens, "effects": plot_effects, "accuracy": plot_accuracy,
        "rules": plot_rules,
    }  # fmt: skip
    return {name: drawn(plot, tables, name) for name, plot in wanted.items() if len(tables[name])}


def _condition(rows: pd.DataFrame) -> pd.Series:
    names = {"cipher": "cipher", "gaussian": "Gaussian rows", "rare": "rows of words in none of the texts"}
    return (
        rows["kind"].map(names) + ", " + (100 * rows["share"]).round().astype(int).astype(str) + "% of " + rows["among"]
    )


def plot_ciphers(ciphers: pd.DataFrame) -> go.Figure:
    """Returns what tokens with other rows cost more than in the plain text, by kind of rows and by what was there before."""
    figure = go.Figure()
    for seen, (name, colour) in SEEN.items():
        rows = ciphers[ciphers["is_changed"] & (ciphers["seen"] == seen)]
        figure.add_scatter(
            x=rows["gap_nats"], y=_condition(rows), mode="markers", name=name, marker={"color": colour, "size": 9},
            error_x=error_bars(rows["gap_nats"], rows["ci_low"], rows["ci_high"]),
        )  # fmt: skip
    rows = ciphers[~ciphers["is_changed"] & (ciphers["seen"] == "any")]
    figure.add_scatter(
        x=rows["gap_nats"], y=_condition(rows), mode="markers", name="tokens with their own row",
        marker={"color": GREY, "size": 9, "symbol": "x"}, error_x=error_bars(rows["gap_nats"], rows["ci_low"], rows["ci_high"]),
    )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="gray")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        xaxis_title="surprisal minus that in the plain text, nats", legend={"orientation": "h", "y": -0.2}
    )
    caption = "Means over tokens and 95% intervals (texts resampled). Every text has its own key."
    return styled(figure, title="The cost of another embedding row", caption=caption, width=860, height=500)


def plot_course(course: pd.DataFrame) -> go.Figure:
    """Returns the gap of the fullest cipher of the first class by position."""
    first = course[course["kind"] == "cipher"]
    first = first[(first["among"] == first["among"].iloc[0])] if len(first) else course
    first = first[first["share"] == first["share"].max()]
    figure = go.Figure()
    for seen, (name, colour) in SEEN.items():
        rows = first[first["seen"] == seen].sort_values("position_low")
        x = ((rows["position_low"] + rows["position_high"]) / 2).tolist()
        figure.add_trace(band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, name))
        figure.add_scatter(x=x, y=rows["gap_nats"], mode="lines+markers", name=name, line={"color": colour})
    figure.add_hline(y=0, line_dash="dash", line_color="gray")
    figure.update_layout(xaxis_title="position in the text, tokens", yaxis_title="gap to the plain text, nats")
    caption = f"Tokens with other rows under the {_condition(first).iloc[0]}; bands: 95% intervals (texts resampled)."
    return styled(figure, title="Is deciphering copying?", caption=caption)


def plot_lens(lens_layers: pd.DataFrame) -> go.Figure:
    """Returns how far the residual stream says the plain token and the one in its place, by layer, where it can be copied."""
    figure = go.Figure()
    rows = lens_layers[(lens_layers["kind"] == "cipher") & (lens_layers["seen"] == "recall")]
    rows = rows[rows["where"] == "predicting"].sort_values("layer")
    for which, name, colour in (
        ("in its place", "token in its place", BLUE),
        ("plain", "token of the plain text", ORANGE),
    ):
        own, control = rows[rows["which"] == which], rows[rows["which"] == f"{which}, of another place"]
        figure.add_trace(band(own["layer"].tolist(), own["ci_low"].tolist(), own["ci_high"].tolist(), colour, name))
        for part, suffix, dash in ((own, "", "solid"), (control, ", of another place", "dot")):
            figure.add_scatter(
                x=part["layer"],
                y=part["margin_nats"],
                mode="lines",
                name=name + suffix,
                line={"color": colour, "dash": dash},
            )
    figure.add_hline(y=0, line_dash="dash", line_color="gray")
    figure.update_layout(xaxis_title="after layer", yaxis_title="logit above others of the class, nats")
    caption = (
        "Before tokens that could be copied (recall hits). 0: no more than other tokens of the class. Dotted: tokens that belong to other "
        "places of the text, the control. Bands: 95% intervals."
    )
    return styled(figure, title="Does the residual stream encode the plain token?", caption=caption)


def plot_effects(effects: pd.DataFrame) -> go.Figure:
    """Returns how much likelier words are where a test wants the frame's part of speech, or their own."""
    figure = go.Figure()
    many = effects["revision"].nunique() > 1
    for source, colour in (("frame", BLUE), ("word", ORANGE)):
        rows = effects[effects["source"] == source]
        names = rows["kind"] + (" (" + rows["revision"] + ")" if many else "")
        figure.add_scatter(
            x=rows["effect_nats"], y=names, mode="markers", name=f"what the {source} says", marker={"color": colour, "size": 10},
            error_x=error_bars(rows["effect_nats"], rows["ci_low"], rows["ci_high"]),
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="gray")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(xaxis_title="gain in ln p where the test requires it, nats", yaxis_title="word in the frame")
    caption = "Means over words and 95% intervals (words resampled). 0: frame, or word, makes no difference."
    return styled(
        figure, title="Parts of speech from frames: behaviour", caption=caption, height=max(360, 60 * len(effects))
    )


def plot_accuracy(accuracy: pd.DataFrame) -> go.Figure:
    """Returns how often a linear readout says what the frame says, by layer."""
    figure = go.Figure()
    own = accuracy[accuracy["revision"] == accuracy["revision"].iloc[0]]
    for kind, colour in KINDS.items():
        rows = own[(own["kind"] == kind) & (own["place"] == "word")].sort_values("layer")
        if len(rows):
            low, high = rows["frame_share_ci_low"].tolist(), rows["frame_share_ci_high"].tolist()
            figure.add_trace(band(rows["layer"].tolist(), low, high, colour, kind))
            figure.add_scatter(x=rows["layer"], y=rows["frame_share"], mode="lines", name=kind, line={"color": colour})
    before = own[(own["kind"] == "gaussian") & (own["place"] == "before")].sort_values("layer")
    figure.add_scatter(
        x=before["layer"],
        y=before["frame_share"],
        mode="lines",
        name="the token before",
        line={"color": "#1b1f24", "dash": "dot"},
    )
    figure.add_hline(y=float(own["chance"].mean()), line_dash="dash", line_color="gray")
    figure.update_layout(
        xaxis_title="after layer", yaxis_title="share decoded as the frame's part of speech", yaxis_range=[0, 1.03]
    )
    caption = "Ridge readouts trained on known words in other frames. Dashed: shuffled labels. Bands: 95% intervals (words resampled)."
    return styled(figure, title="Parts of speech from frames: readout", caption=caption)


def plot_rules(rules: pd.DataFrame) -> go.Figure:
    """Returns what a rebuilt row costs on the way out and on the way in, by rule."""
    figure = go.Figure()
    for column, name, colour in (
        ("output_nats", "the token itself (rebuilt on the way out)", BLUE), ("input_nats", "a token behind it (on the way in)", ORANGE)
    ):  # fmt: skip
        figure.add_scatter(
            x=rules[column], y=rules["rule"], mode="markers", name=name, marker={"color": colour, "size": 10},
            error_x=error_bars(rules[column], rules[f"{column}_ci_low"], rules[f"{column}_ci_high"]),
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="gray")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        xaxis_title="surprisal minus that with the token's own row, nats", legend={"orientation": "h", "y": -0.25}
    )
    caption = "Held-out tokens of the model's own vocabulary; 95% intervals (tokens resampled). spelled: the text has the pieces instead."
    return styled(figure, title="Rows rebuilt from pieces", caption=caption)
