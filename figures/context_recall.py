"""Figures of the context_recall experiment, each from its tables."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.context_recall_kept import plot_kept
from figures.context_recall_prose import plot_order, plot_slices
from figures.style import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, RED, band, drawn, error_bars, styled
from interp.tables import Tables

STAGE_COLOURS = {
    "said": BLUE, "bound, not said": GREEN, "right, not found": PURPLE, "found, not bound": ORANGE, "not found": RED,
}  # fmt: skip
BELOW = {"orientation": "h", "y": -0.2, "x": 0}
SHOWN_HEADS = 8
SYMBOLS = ("circle", "diamond", "square", "cross")


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for."""
    recipes = {
        "recall": (plot_recall, "recall"), "stages": (plot_stages, "stages"), "causes": (plot_causes, "causes"),
        "lengths": (plot_lengths, "lengths"), "threads": (plot_threads, "layers"), "order": (plot_order, "order"),
        "slices": (plot_slices, "slices"),
    }  # fmt: skip
    figures = {
        name: drawn(plot, tables, table)
        for name, (plot, table) in recipes.items()
        if len(_SHOWN_OF.get(name, _all_rows)(tables[table]))
    }
    if len(tables["heads"]) and tables["heads"]["old_mass"].notna().any():
        figures["forgetting"] = drawn(plot_forgetting, tables, "heads", "answers")
    if len(tables["survival"]):
        figures["kept"] = drawn(plot_kept, tables, "survival", "causes")
    return figures


def _all_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table


def _tasks(recall: pd.DataFrame) -> pd.DataFrame:
    """Without lengths and order, which have figures of their own: one presentation of order by itself shows a bias for a label."""
    return recall[~recall["is_length"] & (recall["task"] != "order")]


def _chains(layers: pd.DataFrame) -> pd.DataFrame:
    return layers[layers["task"].isin(["thread", "variables"])]


_SHOWN_OF = {"recall": _tasks, "threads": _chains}


def _labels(recall: pd.DataFrame) -> pd.Series:
    sizes = recall["cell"].str.replace(r"\w+=", "", regex=True)
    kinds = [
        kind if kind and kind not in cell else "" for kind, cell in zip(recall["kind"], recall["cell"], strict=True)
    ]
    parts = zip(
        recall["task"].str.partition(":")[2].where(recall["task"].str.contains(":"), recall["task"]),
        sizes,
        kinds,
        strict=True,
    )
    return pd.Series([" ".join(part for part in one if part) for one in parts], index=recall.index)


def plot_recall(recall: pd.DataFrame) -> go.Figure:
    """Returns the share of questions whose right value is the likeliest of the context, by task and size, beside chance."""
    rows = _tasks(recall)
    labels = _labels(rows)
    figure = go.Figure()
    figure.add_scatter(
        x=rows["chance"], y=labels, mode="markers", name="chance",
        marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": GREY}},
    )  # fmt: skip
    figure.add_scatter(
        x=rows["right"], y=labels, mode="markers", name="likeliest of the values in the context", marker={"color": BLUE, "size": 8},
        error_x=error_bars(rows["right"], rows["right_ci_low"], rows["right_ci_high"]),
    )  # fmt: skip
    figure.add_scatter(
        x=rows["said"], y=labels, mode="markers", name="greedy answer",
        marker={"color": ORANGE, "size": 9, "symbol": "diamond-open", "line": {"width": 2}},
    )  # fmt: skip
    figure.update_xaxes(title="share of questions", range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed", title="question")
    caption = "Intervals: 95%, contexts resampled (Wilson's at none and all); those of greedy answers are in the table. Grey: chance."
    figure = styled(
        figure, title="What is recalled from the context", caption=caption, height=170 + 24 * len(rows), width=860
    )
    return figure.update_layout(
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}, margin={"t": 90, "l": 250}
    )


def plot_stages(stages: pd.DataFrame) -> go.Figure:
    """Returns where the questions of each task end: said, bound, found, or not even found."""
    figure = go.Figure()
    for stage, colour in STAGE_COLOURS.items():
        rows = stages[stages["stage"] == stage]
        figure.add_bar(y=rows["task"], x=rows["value"], name=stage, orientation="h", marker_color=colour)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="share of questions", range=[0, 1])
    figure.update_yaxes(autorange="reversed", title="task")
    caption = (
        "Found: retrieval heads attend more to the right pair than to any other. Bound: its value is likelier than every other value "
        "of the context. Said: it is the greedy answer. Intervals are in the table."
    )
    n_tasks = stages["task"].nunique()
    figure = styled(figure, title="Where questions fail", caption=caption, height=220 + 32 * n_tasks, width=860)
    return figure.update_layout(
        legend={**BELOW, "traceorder": "normal", "y": -80 / (60 + 32 * n_tasks)}, margin={"l": 170, "b": 110}
    )


def plot_causes(causes: pd.DataFrame) -> go.Figure:
    """Returns by how much conditions lower the margin beyond their controls: heads switched off, attention cut."""
    rows = causes[causes["quantity"] == "first_margin_nats"]
    tasks = rows["task"].drop_duplicates().tolist()
    panels = (
        ("heads off, beyond random heads", ("without retrieval", "without induction")),
        ("attention cut, beyond other tokens", ("cut to pair", "cut to others", "cut to sink")),
        ("question moved away", [name for name in rows["condition"].unique() if name.startswith("moved by")]),
    )
    panels = [(title, conditions) for title, conditions in panels if len(conditions)]
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        subplot_titles=[title for title, _ in panels],
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
    for col, (_, conditions) in enumerate(panels, start=1):
        for place, condition in enumerate(conditions):
            part = rows[rows["condition"] == condition]
            figure.add_scatter(
                x=part["beyond"], y=[tasks.index(task) + 0.22 * (place - (len(conditions) - 1) / 2) for task in part["task"]],
                mode="markers", name=condition, row=1, col=col,
                marker={"color": PALETTE[(place + 2 * (col - 1)) % len(PALETTE)], "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
                error_x=error_bars(part["beyond"], part["beyond_ci_low"], part["beyond_ci_high"]),
            )  # fmt: skip
        figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=col)  # type: ignore[arg-type]
        figure.update_xaxes(title="margin lost, nats", row=1, col=col)
    figure.update_yaxes(autorange="reversed", tickvals=list(range(len(tasks))), ticktext=tasks)
    figure.update_yaxes(title="task", row=1, col=1)
    caption = (
        "The margin is ln p of the right value's first token minus that of the most likely other value in the context. What the condition "
        "takes of it minus what its control takes; 95% intervals, contexts resampled."
    )
    n_tasks = rows["task"].nunique()
    figure = styled(
        figure,
        title="Which heads and tokens recall depends on",
        caption=caption,
        width=490 * len(panels),
        height=270 + 32 * n_tasks,
    )
    return figure.update_layout(legend={**BELOW, "y": -90 / (80 + 32 * n_tasks)}, margin={"l": 170, "t": 90, "b": 120})


def plot_lengths(lengths: pd.DataFrame) -> go.Figure:
    """Returns the share of greedy answers that are right by the length of the context, and the closest falling curve."""
    figure = go.Figure()
    x = lengths["context_tokens"].tolist()
    figure.add_trace(band(x, lengths["falling_ci_low"].tolist(), lengths["falling_ci_high"].tolist(), BLUE, "curve"))
    figure.add_scatter(
        x=x,
        y=lengths["falling"],
        mode="lines",
        line={"color": BLUE},
        name="closest curve that never rises",
        legendgroup="curve",
    )
    figure.add_scatter(
        x=x, y=lengths["value"], mode="markers", name="measured", marker={"color": ORANGE, "size": 9},
        error_y=error_bars(lengths["value"], lengths["ci_low"], lengths["ci_high"]),
        customdata=lengths["context_chars"], hovertemplate="%{x} tokens, %{customdata:.0f} characters: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="length of the context, tokens", type="log", tickvals=x, ticktext=[str(one) for one in x])
    figure.update_yaxes(title="share of answers said", range=[-0.03, 1.05])
    caption = (
        "Passwords in news prose. Points: 95% intervals over contexts; band: the curve fitted to resampled contexts."
    )
    figure = styled(figure, title="Recall by length", caption=caption)
    return figure.update_layout(legend=BELOW, margin={"b": 100})


def plot_threads(layers: pd.DataFrame) -> go.Figure:
    """Returns from which layer on the right value of a chain is ahead, by hops, forward against backward."""
    rows = _chains(layers)
    panels = list(dict.fromkeys(zip(rows["task"], rows["hops"], strict=True)))
    titles = [f"{task}, {hops} {'hop' if hops == 1 else 'hops'}" for task, hops in panels]
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    for col, (task, hops) in enumerate(panels, start=1):
        panel = rows[(rows["task"] == task) & (rows["hops"] == hops)]
        for direction, colour in (("forward", BLUE), ("backward", ORANGE)):
            line = panel[panel["direction"] == direction].sort_values("layer")
            x = line["layer"].tolist()
            figure.add_trace(
                band(x, line["ci_low"].tolist(), line["ci_high"].tolist(), colour, direction), row=1, col=col
            )
            figure.add_scatter(
                x=x, y=line["value"], mode="lines", line={"color": colour}, name=direction, legendgroup=direction,
                showlegend=col == 1, row=1, col=col,
            )  # fmt: skip
        figure.add_hline(y=float(panel["chance"].mean()), line_dash="dot", line_color=GREY, row=1, col=col)  # type: ignore[arg-type]
        figure.update_xaxes(title="layer", row=1, col=col)
    figure.update_yaxes(range=[-0.03, 1.05])
    figure.update_yaxes(title="share with the right value ahead", row=1, col=1)
    caption = "First tokens read from the residual stream at the answer's position. Bands: 95% intervals over contexts; dots: chance."
    figure = styled(
        figure, title="At which layer the end of a chain can be decoded", caption=caption, width=220 + 210 * len(panels)
    )
    return figure.update_layout(legend=BELOW, margin={"t": 90, "b": 100})


def plot_forgetting(heads: pd.DataFrame, answers: pd.DataFrame) -> go.Figure:
    """Returns the newest value against the one it replaced, under each condition, and what retrieval heads attend to."""
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.5, 0.5], horizontal_spacing=0.16,
        subplot_titles=("newest value against the replaced one", "attention of retrieval heads"),
    )  # fmt: skip
    rows = answers.dropna(subset="first_old_margin_nats")
    shown = [name for name in dict.fromkeys(rows["condition"]) if not name.startswith("cut")]
    for condition in shown:
        values = rows[rows["condition"] == condition]["first_old_margin_nats"]
        figure.add_box(
            x=values, name=condition, boxpoints="all", jitter=0.4, pointpos=0, marker_color=BLUE, fillcolor="rgba(0,0,0,0)",
            showlegend=False, row=1, col=1, orientation="h",
        )  # fmt: skip
    best = heads[heads["role"] == "retrieval"].nsmallest(SHOWN_HEADS, "rank")
    labels = [f"{layer}-{head}" for layer, head in zip(best["layer"], best["head"], strict=True)]
    for column, name, colour in (("new_mass", "newest pair", BLUE), ("old_mass", "replaced pair", ORANGE)):
        figure.add_bar(x=best[column], y=labels, name=name, marker_color=colour, orientation="h", row=1, col=2)
    figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=1)  # type: ignore[arg-type]
    figure.update_xaxes(title="ln p of newest minus replaced, nats", row=1, col=1)
    figure.update_xaxes(title="share of attention, mean", row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="head (layer-head)", type="category", row=1, col=2)  # 18-6 is no month
    caption = "Keys with two values, of which the newest counts. Points: questions. Right: mean attention from the answer's position."
    figure = styled(figure, title="Forgetting the old value", caption=caption, width=980)
    return figure.update_layout(legend={**BELOW, "x": 0.6}, margin={"t": 90, "b": 100, "l": 190})


def plot_compared(recall: pd.DataFrame, runs: Sequence[str] = ()) -> go.Figure:
    """Returns recall by task and size of several runs."""
    rows = recall[~recall["is_length"]]
    figure = go.Figure()
    for place, run in enumerate(runs or dict.fromkeys(rows["run"])):
        part = rows[rows["run"] == run]
        figure.add_scatter(
            x=part["right"], y=_labels(part), mode="markers", name=str(run), marker={"color": PALETTE[place % len(PALETTE)], "size": 8},
            error_x=error_bars(part["right"], part["right_ci_low"], part["right_ci_high"]),
        )  # fmt: skip
    figure.update_xaxes(title="share of questions with the right value ahead", range=[-0.03, 1.03])
    figure.update_yaxes(autorange="reversed", title="task and size")
    height = 190 + 24 * int(rows.groupby("run").size().max())
    figure = styled(
        figure, title="Recall by run", caption="Intervals: 95%, contexts resampled.", height=height, width=860
    )
    return figure.update_layout(margin={"l": 250})
