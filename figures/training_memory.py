"""Figures of the training_memory experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, RED, band, drawn, error_bars, styled
from interp.tables import Tables

FOILS = {
    "other": ("another of its kind", BLUE), "changed": ("one word changed", ORANGE), "natural": ("a natural sentence", GREEN),
}  # fmt: skip
RECALLS = {
    "second": ("second half alone", RED), "another": ("another sentence's second half (chance)", GREY),
    "released": ("with the given half, as released", PURPLE), "floor": ("the given half alone (its floor)", GREEN),
}  # fmt: skip
MEASURES = {"recognised (changed)": BLUE, "recall": RED}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for."""
    figures: dict[str, go.Figure] = {}
    if len(tables["recognised"]):
        figures["recognised"] = drawn(plot_recognised, tables, "recognised")
        figures["recalled"] = drawn(plot_recalled, tables, "recalled")
    if len(tables["lasting"]):
        figures["lasting"] = drawn(plot_lasting, tables, "lasting")
    if len(tables["carriers"]):
        figures["carriers"] = drawn(plot_carriers, tables, "carriers")
    if len(tables["known_values"]):
        figures["known_values"] = drawn(plot_values, tables, "known_values")
    if len(tables["by_duplicates"]):
        figures["by_duplicates"] = drawn(plot_duplicates, tables, "by_duplicates")
    if len(tables["switched_off"]):
        figures["switched_off"] = drawn(plot_switched_off, tables, "by_duplicates")
    return figures


def _panels(table: pd.DataFrame) -> list[tuple[str, float]]:
    return list(dict.fromkeys(zip(table["condition"], table["learning_rate"], strict=True)))


def _grid(panels: list[tuple[str, float]]) -> go.Figure:
    titles = [f"{condition}, rate {rate:g}" for condition, rate in panels]
    columns = min(3, len(panels))
    return make_subplots(
        rows=-(-len(panels) // columns), cols=columns, subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.16,
    )  # fmt: skip


def _curves(table: pd.DataFrame, by: str, columns: dict[str, str], names: dict[str, tuple[str, str]]) -> go.Figure:
    """One panel for each condition and learning rate; a line with its band for each of `names`, by exposures."""
    panels = _panels(table)
    figure = _grid(panels)
    wide = min(3, len(panels))
    named: set[str] = set()
    for number, (condition, rate) in enumerate(panels):
        row, col = number // wide + 1, number % wide + 1
        of = table[(table["condition"] == condition) & (table["learning_rate"] == rate)]
        for key, (name, colour) in names.items():
            rows = of[of[by] == key] if by else of
            stem = columns.get(key, key)
            if not len(rows):
                continue
            x = rows["exposures"].tolist()
            low, high = (rows[f"{stem}_ci_{end}"].tolist() for end in ("low", "high"))
            figure.add_trace(band(x, low, high, colour, name), row=row, col=col)
            figure.add_scatter(
                x=x,
                y=rows[stem],
                mode="lines+markers",
                name=name,
                legendgroup=name,
                showlegend=name not in named,
                line_color=colour,
                row=row,
                col=col,
            )
            named.add(name)
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_xaxes(title="exposures")
    return figure


def _finished(figure: go.Figure, table: pd.DataFrame, title: str, caption: str) -> go.Figure:
    n = len(_panels(table))
    height = 240 + 260 * -(-n // 3)
    figure = styled(figure, title=title, caption=caption, width=200 + 250 * min(3, n), height=height)
    return figure.update_layout(
        legend={"orientation": "h", "y": -110 / (height - 190), "x": 0}, margin={"b": 130, "t": 80}
    )


def plot_recognised(recognised: pd.DataFrame) -> go.Figure:
    """Returns how often a studied sentence has a lower loss than its foil, by exposures, for every kind of sentence."""
    figure = _curves(recognised, "foil", dict.fromkeys(FOILS, "recognised"), FOILS)
    figure.add_hline(y=0.5, line_dash="dash", line_color=GREY)
    figure.update_yaxes(title="studied has the lower loss", col=1)
    caption = "Share of sentences, against each kind of foil. Bands: 95%, sentences resampled. 0 exposures: before any training."
    return _finished(figure, recognised, "Recognition", caption)


def plot_recalled(recalled: pd.DataFrame) -> go.Figure:
    """Returns ROUGE-L of completions by exposures, scored in two ways, with the chance of one and the floor of the other."""
    figure = _curves(recalled, "", {}, RECALLS)
    figure.update_yaxes(title="ROUGE-L (tokens)", col=1)
    caption = "Greedy completion of the first half. Bands: 95%, sentences resampled. 0 exposures: before any training."
    return _finished(figure, recalled, "Recall", caption)


def plot_lasting(lasting: pd.DataFrame) -> go.Figure:
    """Returns recognition and recall of studied sentences over updates on other text, and what they were before any study."""
    rates = list(dict.fromkeys(lasting["learning_rate"]))
    figure = make_subplots(
        rows=1, cols=len(rates), subplot_titles=[f"rate {rate:g}" for rate in rates], shared_yaxes=True
    )
    for column, rate in enumerate(rates, start=1):
        for measure, colour in MEASURES.items():
            rows = lasting[(lasting["learning_rate"] == rate) & (lasting["measure"] == measure)]
            after, before = rows[rows["updates_since"] >= 0], rows[rows["updates_since"] < 0]
            x = after["updates_since"].tolist()
            figure.add_trace(
                band(x, after["ci_low"].tolist(), after["ci_high"].tolist(), colour, measure), row=1, col=column
            )
            figure.add_scatter(
                x=x, y=after["value"], mode="lines+markers", name=measure, legendgroup=measure, showlegend=column == 1,
                line_color=colour, row=1, col=column,
            )  # fmt: skip
            if len(before):
                level = float(before["value"].iloc[0])
                figure.add_hline(y=level, line_dash="dash", line_color=colour, row=1, col=column)  # type: ignore[arg-type]
    figure.update_xaxes(title="updates on other text")
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="recognised; ROUGE-L of the second half", row=1, col=1)
    caption = "Bands: 95%, sentences resampled. Dashed, in the same colours: before any training."
    figure = styled(figure, title="How long it lasts", caption=caption, width=400 + 250 * len(rates), height=480)
    return figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"b": 100, "t": 80})


def plot_carriers(carriers: pd.DataFrame, measure: str = "margin (other), nats") -> go.Figure:
    """Returns what is lost when the change of a group of layers is taken back, beside as much taken back everywhere."""
    rows = carriers[carriers["measure"] == measure]
    rates = list(dict.fromkeys(rows["learning_rate"]))
    figure = make_subplots(
        rows=1, cols=len(rates), subplot_titles=[f"rate {rate:g}" for rate in rates], shared_yaxes=True
    )
    for column, rate in enumerate(rates, start=1):
        for control, name, colour in ((False, "these layers", RED), (True, "as much, everywhere", GREY)):
            part = rows[(rows["learning_rate"] == rate) & (rows["control"] == control)]
            figure.add_scatter(
                x=part["value"], y=part["taken_back"], mode="markers", name=name, legendgroup=name, showlegend=column == 1,
                marker={"color": colour, "size": 9}, error_x=error_bars(part["value"], part["ci_low"], part["ci_high"]),
                row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=column)  # type: ignore[arg-type]
    figure.update_xaxes(title="loss of margin, nats")
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    caption = "Margin: loss of another sentence minus that of the studied one. 95% intervals, sentences resampled."
    figure = styled(
        figure, title="Which layers' change carries it", caption=caption, width=560 + 200 * len(rates), height=460
    )
    return figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"b": 100, "l": 190, "t": 80})


def plot_values(known_values: pd.DataFrame) -> go.Figure:
    """Returns by how much true annual values are likelier than those beside them, with both nulls, inside and outside the window."""
    figure = go.Figure()
    names = {
        "none": ("true value", BLUE),
        "another year": ("another year's", ORANGE),
        "random walk": ("random walk", GREY),
    }
    for null, (name, colour) in names.items():
        rows = known_values[known_values["null"] == null]
        where = (
            rows["in_window"].map({True: "inside", False: "outside"})
            + " the window"
            + rows["instruction"].map({"none": "", "ignore": "<br>told to ignore later years"})
        )
        figure.add_scatter(
            x=rows["value"], y=where, mode="markers", name=name, marker={"color": colour, "size": 9},
            error_x=error_bars(rows["value"], rows["ci_low"], rows["ci_high"]),
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color=GREY)
    figure.update_layout(xaxis_title="ln p above that of nearby values, nats", scattermode="group")
    caption = "Three annual series. 95% intervals, years of series resampled."
    figure = styled(figure, title="Are exact values known by their year?", caption=caption)
    return figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"l": 210, "b": 100})


PLACES = {"start": ("at the start", "solid"), "offset": ("behind other text", "dot")}


def plot_duplicates(by_duplicates: pd.DataFrame, measure: str = "recall") -> go.Figure:
    """Returns recall of the second half by duplicates in the training data, for every checkpoint, at the start and behind other text."""
    figure = go.Figure()
    rows = by_duplicates[(by_duplicates["measure"] == measure) & (by_duplicates["off"] == "none")]
    colours = dict(zip(dict.fromkeys(rows["checkpoint"]), PALETTE * 3, strict=False))
    for (checkpoint, place), part in rows.sort_values("duplicates").groupby(["checkpoint", "place"], sort=False):
        if place not in PLACES:
            continue
        words, dash = PLACES[str(place)]
        figure.add_scatter(
            x=part["duplicates"] + 1, y=part["value"], mode="lines+markers", name=f"{checkpoint}, {words}",
            line={"color": colours[str(checkpoint)], "dash": dash},
            error_y=error_bars(part["value"], part["ci_low"], part["ci_high"]),
        )  # fmt: skip
    figure.update_xaxes(type="log", title="duplicates in the training data + 1")
    figure.update_yaxes(range=[-0.03, 1.03], title=f"{measure} of the second half (ROUGE-L)")
    caption = "95% intervals, texts resampled."
    return styled(figure, title="Recall of texts by their number of duplicates", caption=caption)


def plot_switched_off(by_duplicates: pd.DataFrame, measure: str = "recall") -> go.Figure:
    """Returns recall of the texts with most duplicates, with heads that copy and with random heads switched off, by checkpoint."""
    rows = by_duplicates[
        (by_duplicates["measure"] == measure) & (by_duplicates["duplicates"] == by_duplicates["duplicates"].max())
    ]
    checkpoints = list(dict.fromkeys(rows["checkpoint"]))
    figure = make_subplots(rows=1, cols=len(checkpoints), subplot_titles=checkpoints, shared_yaxes=True)
    for column, checkpoint in enumerate(checkpoints, start=1):
        for place, name, colour in (
            ("start", "at the start", RED), ("copied", "the window already contains the text", BLUE),
        ):  # fmt: skip
            part = rows[(rows["checkpoint"] == checkpoint) & (rows["place"] == place)]
            figure.add_scatter(
                x=part["value"], y=part["off"], mode="markers", name=name, legendgroup=name, showlegend=column == 1,
                marker={"color": colour, "size": 9}, error_x=error_bars(part["value"], part["ci_low"], part["ci_high"]),
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(range=[-0.03, 1.03], title="recall (ROUGE-L)")
    figure.update_yaxes(autorange="reversed", row=1, col=1, title="ablated heads")
    caption = f"Texts with {rows['duplicates'].max()} duplicates. 95% intervals, texts resampled."
    figure = styled(
        figure,
        title="Remembered, or copied from the window?",
        caption=caption,
        width=420 + 220 * len(checkpoints),
        height=420,
    )
    return figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0}, margin={"b": 110, "l": 190, "t": 80})


def plot_compared(tables: Tables) -> dict[str, go.Figure]:
    """Returns recall of several runs side by side: by exposures, and by duplicates in the training data."""
    figures = {}
    if "recalled" in tables:
        recalled = tables["recalled"]
        runs = dict(zip(dict.fromkeys(recalled["run"]), PALETTE * 3, strict=False))
        names = {str(run): (str(run), colour) for run, colour in runs.items()}
        figure = _curves(recalled, "run", dict.fromkeys(names, "second"), names)
        figure.update_yaxes(title="ROUGE-L of the second half", col=1)
        caption = (
            "Greedy completion of the first half. Bands: 95%, sentences resampled. 0 exposures: before any training."
        )
        figures["recalled"] = _finished(figure, recalled, "Recall by run", caption)
    if "by_duplicates" in tables:
        rows = tables["by_duplicates"]
        figures["by_duplicates"] = plot_duplicates(rows.assign(checkpoint=rows["run"] + ", " + rows["checkpoint"]))
    return figures
