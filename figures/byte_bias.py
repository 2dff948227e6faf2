"""Figures of the byte_bias experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, ORANGE, PALETTE, drawn, styled
from interp.tables import Tables

BORDERS = {True: ("at a token border", BLUE), False: ("inside a token", ORANGE)}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns the figures, those of words and names if these were read."""
    figures = {"ratios": drawn(plot_ratios, tables, "ratios"), "ways": drawn(plot_ways, tables, "ways")}
    if len(tables["pieces"]):
        figures["pieces"] = drawn(plot_pieces, tables, "pieces")
    if len(tables["concept_depths"]):
        figures["concepts"] = drawn(plot_concepts, tables, "concept_depths")
    return figures


def plot_ratios(ratios: pd.DataFrame) -> go.Figure:
    """Returns how much likelier what follows is by its bytes than behind the prompt's own tokens, by domain."""
    figure = go.Figure()
    for is_border, (name, colour) in BORDERS.items():
        rows = ratios[ratios["is_token_border"] == is_border]
        figure.add_scatter(
            x=rows["log10_ratio"], y=rows["domain"].str.replace("_", " "), mode="markers", name=name,
            marker={"color": colour, "size": 9},
            error_x={
                "type": "data", "symmetric": False, "array": rows["ci_high"] - rows["log10_ratio"],
                "arrayminus": rows["log10_ratio"] - rows["ci_low"],
            },
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="gray")
    figure.update_layout(xaxis_title="log10 of the continuation's probability, all covers over as typed")
    domains = ratios["domain"].drop_duplicates().str.replace("_", " ").tolist()
    order = sorted(domains, key=lambda domain: domain == "all")
    figure.update_yaxes(categoryorder="array", categoryarray=order, autorange="reversed", title="where the prompt ends")
    caption = (
        "Means over cuts and 95% intervals (prompts resampled). A value of 3: a thousand times less likely as typed."
    )
    return styled(figure, title="What the end of a prompt costs", caption=caption, height=460)


def plot_ways(ways: pd.DataFrame) -> go.Figure:
    """Returns how far each way's expectation of the next byte is from the exact one, for prompts that end inside a token."""
    figure = go.Figure()
    inside = ways[~ways["is_token_border"] & (ways["way"] != "exact")]
    for (way, rows), colour in zip(inside.groupby("way", sort=False), PALETTE, strict=False):
        figure.add_bar(
            x=rows["domain"].str.replace("_", " "), y=rows["kl"], name=str(way), marker_color=colour,
            error_y={
                "type": "data", "symmetric": False, "array": rows["kl_ci_high"] - rows["kl"],
                "arrayminus": rows["kl"] - rows["kl_ci_low"],
            },
        )  # fmt: skip
    figure.update_layout(xaxis_title="where the prompt ends", yaxis_title="KL from exact, nats", barmode="group")
    caption = "Prompts that end inside a token; means and 95% intervals (prompts resampled)."
    return styled(figure, title="Ways to continue a prompt, against the exact next byte", caption=caption)


def plot_pieces(pieces: pd.DataFrame) -> go.Figure:
    """Returns the surprisal of words by how often they occur elsewhere, a line for each number of pieces."""
    figure = go.Figure()
    rows = pieces[pieces["frequency"] != "all"]
    for (n_pieces, of_pieces), colour in zip(rows.groupby("pieces"), PALETTE, strict=False):
        figure.add_scatter(
            x=of_pieces["frequency"], y=of_pieces["surprisal_nats"], mode="lines+markers",
            name="1 token" if n_pieces == "1" else f"{n_pieces} tokens",
            line={"color": colour}, customdata=of_pieces["n_rows"],
            hovertemplate="%{y:.2f} nats, %{customdata} words",
            error_y={
                "type": "data", "symmetric": False,
                "array": of_pieces["surprisal_nats_ci_high"] - of_pieces["surprisal_nats"],
                "arrayminus": of_pieces["surprisal_nats"] - of_pieces["surprisal_nats_ci_low"],
            },
        )  # fmt: skip
    order = sorted(rows["frequency"].unique(), key=lambda name: int(name.strip("+").partition("-")[0]))
    figure.update_xaxes(categoryorder="array", categoryarray=order, title="occurrences in the texts that were not read")
    figure.update_yaxes(title="surprisal of the word, nats", rangemode="tozero")
    caption = "Words of prose; means and 95% intervals (texts resampled)."
    return styled(figure, title="Surprisal of words by their number of tokens", caption=caption)


def plot_concepts(concept_depths: pd.DataFrame) -> go.Figure:
    """Returns how far above others the token to come is held, by depth: a panel for each offset, a line for each kind of span."""
    offsets = sorted(concept_depths["offset"].unique())
    names = {"name": "names", "word": "words of several tokens", "free": "free runs"}
    titles = ["the next token" if offset == 1 else f"{offset} tokens ahead" for offset in offsets]
    figure = make_subplots(cols=len(offsets), shared_yaxes=True, subplot_titles=titles)
    for column, ahead in enumerate(offsets, start=1):
        of_panel = concept_depths[concept_depths["offset"] == ahead]
        for (kind, name), colour in zip(names.items(), PALETTE, strict=False):
            for of_map, dash in (("linear", "solid"), ("shuffled", "dot")):
                rows = of_panel[(of_panel["kind"] == kind) & (of_panel["map"] == of_map)]
                figure.add_scatter(
                    x=rows["depth"], y=rows["above"], mode="lines+markers", row=1, col=column, legendgroup=kind + of_map,
                    name=name if of_map == "linear" else f"{name}, shuffled", showlegend=column == 1 and len(rows) > 0,
                    line={"color": colour, "dash": dash}, customdata=rows["n_rows"],
                    hovertemplate="%{y:.2f}, %{customdata} spans",
                    error_y={
                        "type": "data", "symmetric": False, "array": rows["above_ci_high"] - rows["above"],
                        "arrayminus": rows["above"] - rows["above_ci_low"],
                    },
                )  # fmt: skip
    figure.add_hline(y=0.5, line_dash="dash", line_color="gray")
    figure.update_xaxes(title="layers applied")
    figure.update_yaxes(title="share of other spans ranked below", range=[0.25, 1.02], col=1)
    caption = (
        "Linear maps fitted on other texts, read through the unembedding; means and 95% intervals (texts resampled)."
    )
    return styled(figure, title="What the first token of a name encodes of later ones", caption=caption)
