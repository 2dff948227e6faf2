"""Figures of the surprisal experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, ORANGE, band, drawn, styled
from interp.tables import Tables

COLOURS = {"raw": BLUE, "boundary": ORANGE, "exact": GREEN}
TEXTS_SHOWN, WORDS_SHOWN, FEWEST_TEXTS = 3, 30, 5


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for."""
    figures = {"words": drawn(plot_words, tables, "words")}
    if _common(tables["places"])["word_index"].nunique() > 1:
        figures["places"] = drawn(plot_places, tables, "places")
    return figures


def plot_words(words: pd.DataFrame) -> go.Figure:
    """Returns the surprisal of the words of the first texts, one panel each, one bar for each mode."""
    texts = list(dict.fromkeys(words["text_id"]))[:TEXTS_SHOWN]
    figure = make_subplots(rows=len(texts), cols=1, vertical_spacing=0.45 / len(texts))
    for row, text in enumerate(texts, start=1):
        of_text = words[(words["text_id"] == text) & (words["word_index"] < WORDS_SHOWN)]
        for mode, of_mode in of_text.groupby("mode", sort=False):
            figure.add_bar(
                x=of_mode["word_index"], y=of_mode["surprisal_nats"], name=mode, legendgroup=mode, showlegend=row == 1,
                marker_color=COLOURS[str(mode)], row=row, col=1,
            )  # fmt: skip
        named = of_text.drop_duplicates("word_index")
        figure.update_xaxes(tickvals=named["word_index"], ticktext=named["word"], tickangle=-45, row=row, col=1)
        figure.update_yaxes(title="nats", row=row, col=1)
    caption = f"The first {len(texts)} texts, up to {WORDS_SHOWN} words of each. A first word that nothing stands before has no bar."
    return styled(figure, title="Surprisal of words", caption=caption, height=120 + 280 * len(texts))


def _common(places: pd.DataFrame) -> pd.DataFrame:
    """The places that enough texts have."""
    return places[places["n"] >= FEWEST_TEXTS]


def plot_places(places: pd.DataFrame) -> go.Figure:
    """Returns mean surprisal by the word's place in its text, with intervals over texts."""
    figure = go.Figure()
    for mode, rows in _common(places).groupby("mode", sort=False):
        colour, name = COLOURS[str(mode)], str(mode)
        x = rows["word_index"].tolist()
        figure.add_trace(band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, name))
        figure.add_scatter(
            x=x, y=rows["mean_nats"], mode="lines+markers", line_color=colour, name=name, legendgroup=name
        )
    figure.update_layout(xaxis_title="place of the word in its text", yaxis_title="mean surprisal, nats")
    caption = (
        f"Mean over texts and its 95% interval (texts resampled), where at least {FEWEST_TEXTS} texts are as long."
    )
    return styled(figure, title="Surprisal by place", caption=caption)
