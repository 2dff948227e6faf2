"""Figures of the verbatim-memory experiment, each from its tables."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREEN, GREY, ORANGE, RED, band, drawn, styled
from interp.tables import Tables

COLOURS = {"first": GREY, "repeat": BLUE, "permute": ORANGE, "permute_strict": GREEN, "novel": RED}
LABELS = {
    "first": "first list",
    "permute_strict": "permuted, no pair kept",
    "permute": "permuted",
    "repeat": "repeated",
    "novel": "novel",
}
HEAD_SETS = {
    "matching": "look before the same noun",
    "postmatch": "look at the same noun",
    "recent": "look at the words before",
    "retrieval": "retrieval heads",
    "induction": "induction heads",
    "heads_from": "heads of --heads-from",
}
MASKS = {
    ("top", "repeat"): ("repeated, top heads silent", BLUE, "solid"),
    ("random", "repeat"): ("repeated, random heads silent", GREY, "solid"),
    ("top", "novel"): ("novel, top heads silent", RED, "dot"),
}
RATIO_AXIS = "repeat surprisal, % of the first list"


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for, in the order a reader wants them."""
    summary = tables["repeat_surprisal"]
    longest = _longest(_main(summary))
    figures = {"list_length": drawn(plot_list_length, tables, "repeat_surprisal")}
    figures["positions"] = drawn(plot_positions, tables, "position_curve")
    if summary["list_length"].nunique() == 1:  # one length is a point, and no curve to begin with
        figures["list_length"] = figures.pop("list_length")
    if _intact(longest)["intervening"].nunique() > 1:
        figures["intervening"] = drawn(plot_intervening, tables, "repeat_surprisal")
    if longest["context_type"].nunique() > 1:
        figures["contexts"] = drawn(plot_contexts, tables, "repeat_surprisal")
    figures["modes"] = drawn(plot_modes, tables, "repeat_surprisal")
    if _copies(summary)["variant"].nunique() > 1:
        figures["nulls"] = drawn(plot_nulls, tables, "repeat_surprisal")
    if len(tables["masking_summary"]):
        figures["masking"] = drawn(plot_masking, tables, "masking_summary")
    if len(tables["checkpoints"]):
        figures["checkpoints"] = drawn(plot_checkpoints, tables, "checkpoints")
    return figures


def _main(summary: pd.DataFrame) -> pd.DataFrame:
    """Ratios of the model as it is, a word's surprisal being the sum over its tokens."""
    return summary[(summary["variant"] == "none") & (summary["mode"] == "raw") & (summary["estimator"] == "ratio")]


def _intact(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["context_type"] == "intact"]


def _longest(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["list_length"] == table["list_length"].max()]


def _shortest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the shortest intact text between the lists."""
    table = _intact(table)
    return table[table["intervening"] == table["intervening"].min()]


def _copies(summary: pd.DataFrame) -> pd.DataFrame:
    """The model and its damaged copies, for the longest lists; not its checkpoints, nor itself in another precision."""
    table = _shortest(_longest(summary[(summary["mode"] == "raw") & (summary["estimator"] == "ratio")]))
    return table[~table["variant"].str.startswith("revision ") & (table["variant"] != "float32")]


def plot_list_length(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal by list length, a line per condition."""
    table = _shortest(_main(summary))
    figure = _lines(table, "list_length")
    figure.update_xaxes(title="nouns in the list", tickvals=sorted(table["list_length"].unique()))
    tokens = int(table["intervening_tokens"].iloc[0])
    return _ratios(
        figure,
        table,
        "Repeat surprisal by list length",
        f"Second lists after {tokens} tokens of text; medians over trials, 95% intervals.",
    )


def plot_intervening(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal by the length of the text between, a line per condition."""
    table = _intact(_longest(_main(summary)))
    figure = _lines(table, "intervening_tokens")
    figure.update_xaxes(title="text between the lists, tokens", rangemode="tozero")
    return _ratios(
        figure,
        table,
        "Repeat surprisal by length of the text between",
        "The longest lists; medians over trials, 95% intervals.",
    )


def _lines(table: pd.DataFrame, x: str) -> go.Figure:
    figure = go.Figure()
    table = table[table["pool"] == table["pool"].iloc[0]]
    for condition, part in table.sort_values(x).groupby("condition", sort=False):
        name = LABELS[str(condition)]
        colour = COLOURS[str(condition)]
        figure.add_trace(band(list(part[x]), list(part["ci_low"]), list(part["ci_high"]), colour, name))
        figure.add_scatter(
            x=part[x],
            y=part["value"],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour, "width": 2},
        )
    return figure


def plot_contexts(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal by the kind of text between the lists; the intact text is the longest."""
    table = _longest(_main(summary))
    longest_text = _intact(_main(summary))["intervening"].max()
    table = table[(table["context_type"] != "intact") | (table["intervening"] == longest_text)]
    return plot_groups(table, "context_type", "text between the lists", "Kinds of text between the lists")


def plot_modes(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal by how the surprisals of sub-words become that of a word."""
    table = _shortest(_longest(summary[(summary["variant"] == "none") & (summary["estimator"] == "ratio")]))
    return plot_groups(table, "mode", "how sub-words become a word", "What counts as the probability of a word")


def plot_nulls(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal of the model and of its damaged copies."""
    title = "The model and its damaged copies"
    return plot_groups(_copies(summary), "variant", "what was done to the model", title)


def plot_groups(table: pd.DataFrame, by: str, axis: str, title: str) -> go.Figure:
    """Returns repeat surprisal as points with intervals, one group per value of a column, one colour per condition."""
    figure = go.Figure()
    table = table[table["pool"] == table["pool"].iloc[0]]
    groups = list(dict.fromkeys(table[by]))
    conditions = [condition for condition in COLOURS if condition in set(table["condition"])]
    for place, condition in enumerate(conditions):
        part = table[table["condition"] == condition].set_index(by).reindex(groups)
        shift = (place - (len(conditions) - 1) / 2) * 0.12
        figure.add_scatter(
            x=[index + shift for index in range(len(groups))],
            y=part["value"],
            mode="markers",
            name=LABELS[condition],
            marker={"color": COLOURS[condition], "size": 9},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": part["ci_high"] - part["value"],
                "arrayminus": part["value"] - part["ci_low"],
            },
        )
    labels = [str(group).replace("_", " ").replace("none", "as it is") for group in groups]
    figure.update_xaxes(title=axis, tickvals=list(range(len(groups))), ticktext=labels)
    return _ratios(
        figure,
        table,
        title,
        "Lists of the greatest length; medians over trials, 95% bootstrap intervals over base lists.",
    )


def _ratios(figure: go.Figure, table: pd.DataFrame, title: str, caption: str) -> go.Figure:
    figure.add_hline(y=100, line={"color": "#444", "dash": "dash", "width": 1})
    figure.update_yaxes(title=RATIO_AXIS, rangemode="tozero")
    models = list(dict.fromkeys(table["model"]))
    named = f"{title} · {models[0]}" if len(models) == 1 else title
    return styled(figure, title=named, caption=caption)


def plot_positions(curve: pd.DataFrame) -> go.Figure:
    """Returns median surprisal word by word, from four words before the second list on."""
    curve = curve[(curve["variant"] == "none") & (curve["pool"] == curve["pool"].iloc[0])]
    curve = curve[curve["list_length"] == curve["list_length"].max()]
    first = curve[(curve["condition"] == "first") & (curve["context_type"] == "intact")]
    second = curve[(curve["list_index"] != 1) & (curve["context_type"] == "intact")]
    second = second[second["intervening"] == second["intervening"].min()]
    figure = go.Figure()
    for condition, rows in [("first", first), *second.groupby("condition", sort=False)]:
        part = rows.sort_values("position")
        name, colour = LABELS[str(condition)], COLOURS[str(condition)]
        figure.add_trace(band(list(part["position"]), list(part["ci_low"]), list(part["ci_high"]), colour, name))
        figure.add_scatter(
            x=part["position"],
            y=part["median_surprisal_nats"],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour, "width": 2, "dash": "dot" if condition == "first" else "solid"},
        )
    figure.add_vline(x=-0.5, line={"color": "#444", "dash": "dash", "width": 1})
    figure.update_xaxes(title="word, counted from the beginning of the list", dtick=2)
    figure.update_yaxes(title="surprisal, nats (median)", rangemode="tozero")
    return styled(
        figure,
        title=f"Surprisal word by word · {curve['model'].iloc[0]}",
        caption="Left of the line the last words before the second list. Medians over trials, 95% bootstrap intervals over base lists.",
    )


def plot_masking(summary: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal by the number of silent heads, a panel per ranking, top heads against random ones."""
    from plotly.subplots import make_subplots

    sets = [name for name in dict.fromkeys(summary["head_set"]) if name != "none"]
    whole = summary[summary["control"] == "none"]
    figure = make_subplots(
        1, len(sets), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=[HEAD_SETS[name] for name in sets]
    )
    for column, head_set in enumerate(sets, start=1):
        for (control, condition), (name, colour, dash) in MASKS.items():
            part = summary[(summary["head_set"] == head_set) & (summary["control"] == control)]
            part = pd.concat([whole, part])
            part = part[part["condition"] == condition].sort_values("k")
            line = {"color": colour, "width": 2, "dash": dash}
            figure.add_trace(
                band(list(part["k"]), list(part["ci_low"]), list(part["ci_high"]), colour, name), row=1, col=column
            )
            figure.add_scatter(
                x=part["k"], y=part["value"], mode="lines+markers", name=name, legendgroup=name, line=line,
                showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(title="silent heads", row=1, col=column)
    figure.update_yaxes(title=RATIO_AXIS, rangemode="tozero", col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.22})
    return styled(
        figure,
        title=f"Lists read without some heads · {summary['model'].iloc[0]}",
        caption="Top heads of each ranking, and random heads of the same layers (mean over draws). Novel lists show general "
        "harm. Medians over trials, 95% bootstrap intervals over base lists.",
        width=max(520, 120 + 300 * len(sets)),
    )


def plot_checkpoints(checkpoints: pd.DataFrame) -> go.Figure:
    """Returns repeat surprisal over training, the longest lists; steps on a logarithmic axis when all have one."""
    table = checkpoints[(checkpoints["estimator"] == "ratio") & (checkpoints["pool"] == checkpoints["pool"].iloc[0])]
    table = table[table["list_length"] == table["list_length"].max()]
    stepped = bool(table["step"].notna().all())
    figure = _lines(table, "step" if stepped else "revision")
    if stepped:  # step 0 has no logarithm: it stands where step 1/2 would
        figure.for_each_trace(lambda trace: trace.update(x=[max(0.5, step) for step in trace.x]))
        shown = sorted(table["step"].unique())
        figure.update_xaxes(
            title="training step", type="log", tickvals=[max(0.5, step) for step in shown],
            ticktext=[f"{step:,.0f}" for step in shown],
        )  # fmt: skip
    else:
        figure.update_xaxes(title="checkpoint", type="category")
    return _ratios(
        figure,
        table,
        "Repeat surprisal over training",
        f"Lists of {int(table['list_length'].iloc[0])}; medians over trials, 95% bootstrap intervals over base lists.",
    )


def draw_comparison(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Returns one figure per kind of text between the lists: the longest lists of every run."""
    table = tables["repeat_surprisal"]
    table = table[(table["estimator"] == "ratio") & (table["list_length"] == table["list_length"].max())]
    figures = {}
    for context in dict.fromkeys(table["context_type"]):
        part = table[table["context_type"] == context]
        part = part[part["intervening"] == part["intervening"].min()].copy()
        part["name"] = part["model"] if part.groupby("model")["run"].nunique().max() == 1 else part["run"]
        figures[f"models_{context}"] = plot_groups(part, "name", "model", f"Repeat surprisal by model, {context} text")
    return figures
