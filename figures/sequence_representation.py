"""Figures of the sequence_representation experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, RED, SKY, YELLOW, band, drawn, error_bars, styled
from interp.tables import Tables

ARMS = {
    "plain": ("by itself", GREY), "prompt": ("in one word", BLUE), "slot": ("empty slot", SKY), "prepend": ("prepended", RED),
    "other": ("another text's state", ORANGE), "mean": ("mean state", GREEN), "random": ("noise", PURPLE), "echo": ("twice", YELLOW),
    "encoder": ("encoder", "#1b1f24"),
}  # fmt: skip
CLASSES = {"function": ("function tokens", ORANGE), "content": ("content tokens", BLUE)}
PAIRS = {"all": "all pairs", "without traps": "without traps"}
KINDS = ("paraphrase", "translation", "detail", "negation", "roles", "topic", "unrelated")
POOLS = {
    "mean": ("mean", BLUE), "last": ("last token", RED), "first": ("first token", ORANGE), "max": ("maximum", GREEN),
    "last + mean": ("last and mean", PURPLE), "first + mean": ("first and mean", SKY), "mean of another": ("another sentence's mean", GREY),
}  # fmt: skip


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for."""
    figures = {"correlations": drawn(plot_correlations, tables, "correlations")}
    if (tables["gains"]["against"] == "prompt").any():
        figures["gains"] = drawn(plot_gains, tables, "gains")
    if len(tables["orders"]):
        figures["kinds"] = drawn(plot_kinds, tables, "kinds")
    if len(tables["moved"]):
        figures["moved"] = drawn(plot_moved, tables, "moved")
    if len(tables["bags_of_words"]):
        figures["bags_of_words"] = drawn(plot_bags, tables, "bags_of_words")
    if len(tables["recalls"]):
        figures["recalls"] = drawn(plot_recalls, tables, "recalls")
    return figures


def way_of(arm: str, exit: int, pool: str, reader: str) -> tuple[str, str]:
    """Returns what a way to read is called in a legend, and its colour."""
    name, colour = ARMS[arm]
    if arm == "encoder":
        return f"{reader}, {'[CLS]' if pool == 'first' else pool}", colour if pool == "mean" else GREY
    if arm == "plain":
        return f"{name}, {pool} token" if pool == "last" else f"{name}, {pool}", colour
    return (f"{name}, layers below {exit}" if exit else name), colour


def plot_correlations(correlations: pd.DataFrame, measure: str = "cosine") -> go.Figure:
    """Returns Spearman's correlation of cosine and grade by depth for every way to read: over all pairs, and without traps."""
    names = list(dict.fromkeys(correlations["pairs"]))
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[PAIRS[name] for name in names], shared_yaxes=True)
    exits = correlations.loc[correlations["arm"] == "prepend", "exit"]
    for column, name in enumerate(names, start=1):
        rows = correlations[(correlations["pairs"] == name) & (correlations["measure"] == measure)]
        for (reader, arm, exit, pool), part in rows.groupby(["reader", "arm", "exit", "pool"], sort=False):
            label, colour = way_of(str(arm), int(exit), str(pool), str(reader))
            depth = (part["layer"] + 1) / part["n_layers"]
            dash = "dot" if (arm, pool) == ("plain", "mean") or (arm == "prepend" and exit < exits.max()) else "solid"
            if arm in ("prompt", "prepend", "encoder") and dash == "solid":
                figure.add_trace(
                    band(depth.tolist(), part["ci_low"].tolist(), part["ci_high"].tolist(), colour, label),
                    row=1,
                    col=column,
                )
            figure.add_scatter(
                x=depth, y=part["value"], mode="lines", name=label, legendgroup=label, showlegend=column == 1,
                line={"color": colour, "dash": dash}, row=1, col=column,
            )  # fmt: skip
        base = correlations[(correlations["pairs"] == name) & (correlations["measure"] == "shared words")]
        for row in base.itertuples():
            figure.add_hline(y=row.value, line_dash="dash", line_color=GREY, row=1, col=column)  # type: ignore[arg-type]
    figure.update_xaxes(title="depth (layer / layers)", range=[0, 1.02])
    figure.update_yaxes(title="Spearman with the grade", row=1, col=1)
    caption = (
        "Cosine of two texts' states against the grade of the pair. Bands: 95%, sentences resampled. Dashed: the share of words that "
        "the two texts have in common."
    )
    figure = styled(figure, title="Where similar meanings have similar states", caption=caption, width=960, height=560)
    return figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0}, margin={"b": 150, "t": 80})


def plot_gains(gains: pd.DataFrame, measure: str = "cosine") -> go.Figure:
    """Returns how much each arm's correlation is above that of the plain prompt, at the two layers settled beforehand."""
    rows = gains[(gains["against"] == "prompt") & (gains["measure"] == measure)]
    names = list(dict.fromkeys(rows["pairs"]))
    figure = make_subplots(
        rows=1,
        cols=len(names),
        subplot_titles=[PAIRS[name] for name in names],
        shared_yaxes=True,
    )
    for column, name in enumerate(names, start=1):
        for (read_at, part), colour in zip(
            rows[rows["pairs"] == name].groupby("read_at", sort=False), (BLUE, ORANGE), strict=False
        ):
            labels = [way_of(row.arm, row.exit, "last", "")[0] for row in part.itertuples()]  # type: ignore[arg-type]
            figure.add_scatter(
                x=part["value"], y=labels, mode="markers", name=str(read_at), legendgroup=str(read_at), showlegend=column == 1,
                marker={"color": colour, "size": 9}, error_x=error_bars(part["value"], part["ci_low"], part["ci_high"]),
                row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=column)  # type: ignore[arg-type]
    figure.update_xaxes(title="Spearman correlation minus the prompt's")
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    caption = "Last token's state, against the same prompt without a slot. 95% intervals, sentences resampled."
    figure = styled(figure, title="Gain from writing into the slot", caption=caption, width=900)
    return figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0}, margin={"l": 190, "b": 110, "t": 80})


def plot_kinds(kinds: pd.DataFrame) -> go.Figure:
    """Returns mean cosine by kind of pair, the mean state taken off, at seven eighths of the depth (an encoder: its last layer)."""
    last = kinds.groupby("reader")["layer"].transform("max")
    first = kinds.groupby("reader")["layer"].transform("min")
    is_encoder = (kinds["arm"] == "encoder") & (kinds["pool"] == "mean") & (kinds["layer"] == last)
    prepended = (kinds["arm"] == "prepend") & (kinds["exit"] == kinds["exit"].max())
    is_model = (kinds["arm"] == "prompt") | ((kinds["arm"] == "plain") & (kinds["pool"] == "mean")) | prepended
    shown = kinds[is_encoder | (is_model & (kinds["layer"] == first))]
    figure = go.Figure()
    for (reader, arm, exit, pool), part in shown.groupby(["reader", "arm", "exit", "pool"], sort=False):
        label, colour = way_of(str(arm), int(exit), str(pool), str(reader))
        figure.add_scatter(
            x=part["value"], y=part["kind"], mode="markers", name=label, marker={"color": colour, "size": 9},
            error_x=error_bars(part["value"], part["ci_low"], part["ci_high"]),
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color=GREY)
    figure.update_layout(xaxis_title="mean cosine, after subtracting the mean state", scattermode="group")
    figure.update_yaxes(categoryorder="array", categoryarray=list(KINDS), autorange="reversed", title="kind of pair")
    caption = "Means over sentences and their 95% intervals. The same sentence in seven pairs; roles has the same words as the sentence."
    figure = styled(figure, title="Cosine similarity by kind of pair", caption=caption, height=540)
    return figure.update_layout(legend={"orientation": "h", "y": -0.18, "x": 0}, margin={"b": 120, "l": 110})


def plot_moved(moved: pd.DataFrame) -> go.Figure:
    """Returns how far each token of a text is moved by what is written before it, by place and layer."""
    layers = sorted(moved["layer"].unique())
    figure = make_subplots(
        rows=1, cols=len(layers), subplot_titles=[f"layer {layer}" for layer in layers], shared_yaxes=True
    )
    for column, layer in enumerate(layers, start=1):
        for arm, rows in moved[moved["layer"] == layer].groupby("arm", sort=False):
            name, colour = ("own state", RED) if arm == "prepend" else ("another text's", ORANGE)
            x = rows["position"].tolist()
            figure.add_trace(
                band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, name), row=1, col=column
            )
            figure.add_scatter(
                x=x, y=rows["value"], mode="lines", name=name, legendgroup=name, showlegend=column == 1, line_color=colour,
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title="token of the sentence")
    figure.update_yaxes(title="change / norm of the state", rangemode="tozero", row=1, col=1)
    caption = "Against the same prompt with nothing written. Means and 95% intervals, texts resampled."
    figure = styled(figure, title="Which tokens' states the slot changes", caption=caption, width=900, height=440)
    return figure.update_layout(legend={"orientation": "h", "y": -0.25, "x": 0}, margin={"b": 100, "t": 80})


def plot_bags(bags_of_words: pd.DataFrame) -> go.Figure:
    """Returns how well a sentence's words are decoded from each pooled state, above what their frequency gives, by depth."""
    rows = bags_of_words[bags_of_words["half"] == "all"]
    readers = list(dict.fromkeys(rows["reader"]))
    figure = make_subplots(rows=1, cols=len(readers), subplot_titles=readers, shared_yaxes=True)
    for column, reader in enumerate(readers, start=1):
        for pool, part in rows[rows["reader"] == reader].groupby("pool", sort=False):
            label, colour = POOLS[str(pool)]
            depth = ((part["layer"] + 1) / part["n_layers"]).tolist()
            figure.add_trace(
                band(depth, part["gain_ci_low"].tolist(), part["gain_ci_high"].tolist(), colour, label),
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=depth, y=part["gain"], mode="lines+markers", name=label, legendgroup=label, showlegend=column == 1,
                line={"color": colour, "dash": "dot" if "+" in str(pool) else "solid"}, row=1, col=column,
            )  # fmt: skip
    figure.add_hline(y=0, line_dash="dash", line_color=GREY)
    figure.update_xaxes(title="depth (layer / layers)", range=[0, 1.02])
    figure.update_yaxes(title="nDCG minus that of ranking by frequency", row=1, col=1)
    caption = (
        "Ridge regression from a state to the sentence's words, sentences held out. Bands: 95%, sentences resampled."
    )
    figure = styled(figure, title="Which states hold the bag of words", caption=caption, width=900, height=520)
    return figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0}, margin={"b": 130, "t": 80})


def plot_recalls(recalls: pd.DataFrame, k: int = 10) -> go.Figure:
    """Returns how often a query token has a token of the right document among its k nearest, by kind of token and depth."""
    rows = recalls[(recalls["k"] == k) & recalls["centred"] & recalls["token_class"].isin([*CLASSES])]
    panels = [(reader, kind) for reader in dict.fromkeys(rows["reader"]) for kind in dict.fromkeys(rows["kind"])]
    titles = [f"{reader}<br>{kind}" for reader, kind in panels]
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    for column, (reader, kind) in enumerate(panels, start=1):
        part = rows[(rows["reader"] == reader) & (rows["kind"] == kind)]
        for kind_of_token, (label, colour) in CLASSES.items():
            of_class = part[part["token_class"] == kind_of_token]
            depth = (of_class["layer"] + 1) / of_class["n_layers"]
            figure.add_scatter(
                x=depth, y=of_class["value"], mode="lines+markers", name=label, legendgroup=label, showlegend=column == 1,
                line_color=colour, error_y=error_bars(of_class["value"], of_class["ci_low"], of_class["ci_high"]), row=1, col=column,
            )  # fmt: skip
        figure.add_hline(y=float(part["chance"].mean()), line_dash="dash", line_color=GREY, row=1, col=column)  # type: ignore[arg-type]
    figure.update_xaxes(title="depth", range=[0, 1.05])
    figure.update_yaxes(title=f"right document among the {k} nearest tokens", range=[0, 1], row=1, col=1)
    caption = "Share of query tokens; cosines after subtracting the mean token. 95% intervals, sentences resampled. Dashed: chance."
    figure = styled(
        figure, title="Which tokens find the right text", caption=caption, width=200 + 230 * len(panels), height=500
    )
    return figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0}, margin={"b": 100, "t": 110})


def plot_compared(correlations: pd.DataFrame) -> go.Figure:
    """Returns Spearman's correlation of cosine and grade after the last layer, for several runs: by way of reading."""
    names = list(dict.fromkeys(correlations["pairs"]))
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[PAIRS[name] for name in names], shared_yaxes=True)
    colours = dict(zip(dict.fromkeys(correlations["run"]), PALETTE * 3, strict=False))
    for column, name in enumerate(names, start=1):
        for run, part in correlations[correlations["pairs"] == name].groupby("run", sort=False):
            ways = [way_of(row.arm, row.exit, row.pool, row.reader)[0] for row in part.itertuples()]  # type: ignore[arg-type]
            figure.add_scatter(
                x=part["value"], y=ways, mode="markers", name=str(run), legendgroup=str(run), showlegend=column == 1,
                marker={"color": colours[str(run)], "size": 8},
                error_x=error_bars(part["value"], part["ci_low"], part["ci_high"]), row=1, col=column,
            )  # fmt: skip
    figure.update_layout(scattermode="group")
    figure.update_xaxes(title="Spearman with the grade, last layer")
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    caption = "Cosine of two texts' states against the grade of the pair. 95% intervals, sentences resampled."
    figure = styled(figure, title="Similar meanings, similar states: by run", caption=caption, width=960, height=560)
    return figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0}, margin={"l": 190, "b": 120, "t": 80})
