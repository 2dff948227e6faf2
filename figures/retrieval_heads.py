"""Figures of the retrieval-head experiment, each from its tables."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.retrieval_heads_comparison import plot_agreement, plot_detectors
from figures.style import BLUE, GREEN, GREY, ORANGE, RED, SEQUENTIAL, band, drawn, styled
from interp.tables import Tables

RETRIEVAL_SCORE = 0.1
PAPER_BUCKETS = {"0": (45, 73), "0–0.1": (25, 52), "0.1–0.5": (3, 6)}
"""Ranges over models, in per cent of heads (Wu et al. 2024, section 3.1; the last is for all heads above 0.1)."""
_SHOWN = 40


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for, in the order a reader wants them."""
    summary = tables["ablation_summary"]
    definitions = set(tables["head_scores"]["definition"])
    figures: dict[str, go.Figure] = {}
    if len(summary):  # the question is whether the heads are needed: its answer comes first
        figures["ablation"] = drawn(plot_ablation, tables, "ablation_summary")
    if "set" in definitions:
        figures["head_map"] = drawn(plot_head_map, tables, "head_scores", definition="set")
        figures["ranked_scores"] = drawn(plot_ranked_scores, tables, "head_scores")
        figures["sparsity"] = drawn(plot_sparsity, tables, "sparsity")
        figures["activation"] = drawn(plot_activation, tables, "head_scores")
    figures["needle_grid"] = drawn(plot_needle_grid, tables, "samples")
    if len(summary) and summary[summary["condition"] == "top"]["ranking"].nunique() > 1:
        figures["detector_ablation"] = drawn(plot_detector_ablation, tables, "ablation_summary")
    if len(definitions) > 1 and "set" in definitions:
        figures["detectors"] = drawn(plot_detectors, tables, "head_scores")
    if len(tables["agreement"]):
        figures["agreement"] = drawn(plot_agreement, tables, "agreement")
    if len(tables["convergence"]):
        figures["convergence"] = drawn(plot_convergence, tables, "convergence")
    return figures


def plot_head_map(scores: pd.DataFrame, definition: str) -> go.Figure:
    """Returns a layer × head map of scores."""
    table = scores[scores["definition"] == definition]
    grid = table.pivot(index="layer", columns="head", values="score")
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=max(float(np.nanmax(grid.to_numpy())), RETRIEVAL_SCORE),
            colorbar={"title": "score"},
            hovertemplate="layer %{y}, head %{x}: %{z:.3f}<extra></extra>",
        )
    )
    figure.update_xaxes(title="head", dtick=max(1, len(grid.columns) // 16))
    figure.update_yaxes(title="layer", dtick=max(1, len(grid) // 12))
    model = _model(scores)
    return styled(
        figure,
        title=f"Copy-paste score of every head · {model}",
        caption=f"Copy-paste score ({definition} definition) of every head of {model}, mean over samples.",
    )


def plot_ranked_scores(scores: pd.DataFrame) -> go.Figure:
    """Returns the strongest heads in order, both copy definitions, with intervals over needles."""
    wide = scores[scores["definition"] == "set"].sort_values("score", ascending=False, kind="stable").head(_SHOWN)
    order = [f"{layer}-{head}" for layer, head in zip(wide["layer"], wide["head"], strict=True)]
    figure = go.Figure()
    for definition, colour, symbol in (("set", BLUE, "circle"), ("count", ORANGE, "diamond")):
        table = scores[scores["definition"] == definition]
        table = table.assign(name=table["layer"].astype(str) + "-" + table["head"].astype(str))
        table = table.set_index("name").loc[order]
        figure.add_scatter(
            x=order,
            y=table["score"],
            mode="markers",
            name=definition,
            marker={"color": colour, "symbol": symbol, "size": 7},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": table["ci_high"] - table["score"],
                "arrayminus": table["score"] - table["ci_low"],
                "thickness": 1,
                "width": 2,
            },
        )
    figure.add_hline(y=RETRIEVAL_SCORE, line={"dash": "dash", "color": GREY}, annotation_text="0.1")
    # Plotly would take "17-3" for March 2017.
    figure.update_xaxes(
        title="head (layer-head), strongest first", type="category", tickangle=-60, tickfont={"size": 10}
    )
    figure.update_yaxes(title="copy-paste score", rangemode="tozero")
    return styled(
        figure,
        title=f"The {len(order)} strongest heads · {_model(scores)}",
        caption="Copy-paste scores with 95% bootstrap intervals over needles. set: distinct needle tokens copied / needle tokens; "
        "count: every copy / answer tokens.",
        width=900,
    )


def plot_sparsity(sparsity: pd.DataFrame) -> go.Figure:
    """Returns the share of heads per bucket of score, beside the ranges the paper reports over its models."""
    figure = go.Figure()
    for definition, colour in (("set", BLUE), ("count", ORANGE)):
        part = sparsity[sparsity["definition"] == definition]
        figure.add_bar(
            x=part["bucket"],
            y=100 * part["share"],
            name=definition,
            marker_color=colour,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": 100 * (part["ci_high"] - part["share"]),
                "arrayminus": 100 * (part["share"] - part["ci_low"]),
                "thickness": 1.5,
            },
        )
    figure.add_bar(
        x=list(PAPER_BUCKETS),
        base=[low for low, _ in PAPER_BUCKETS.values()],
        y=[high - low for low, high in PAPER_BUCKETS.values()],
        name="paper, range over models",
        marker={"color": "rgba(127,127,127,0.35)", "line": {"color": GREY, "width": 1.5}},
    )
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="copy-paste score", type="category")
    figure.update_yaxes(title="share of heads, %")
    return styled(
        figure,
        title=f"Few heads retrieve · {_model(sparsity)}",
        caption="Share of heads by score, both definitions (from 0.1 on with 95% intervals over needles), beside the ranges over models in "
        "Wu et al. 2024, section 3.1 (the last range there is for all heads above 0.1).",
    )


def plot_needle_grid(samples: pd.DataFrame) -> go.Figure:
    """Returns recall by context length and depth."""
    asked = samples[samples["has_needle"]]
    grid = asked.pivot_table(index="depth_fraction", columns="context_tokens", values="recall", aggfunc="mean")
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=[f"{tokens:,}" for tokens in grid.columns],
            y=[f"{depth:.0%}" for depth in grid.index],
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=1,
            colorbar={"title": "recall"},
            text=grid.round(2).to_numpy() if grid.size <= 120 else None,
            texttemplate="%{text}" if grid.size <= 120 else None,
        )
    )
    figure.update_xaxes(title="context, tokens", type="category")
    figure.update_yaxes(title="depth of the needle", type="category", autorange="reversed")
    return styled(
        figure,
        title=f"Recall by length and depth · {_model(samples)}",
        caption=f"Mean ROUGE-1 recall of the wanted words over {asked['needle_id'].nunique()} needles, no head masked.",
    )


def plot_activation(scores: pd.DataFrame) -> go.Figure:
    """Returns activation frequency against score."""
    table = scores[(scores["definition"] == "set") & (scores["score"] > 0)]
    figure = go.Figure(
        go.Scatter(
            x=table["activation_frequency"],
            y=table["score"],
            mode="markers",
            marker={"color": table["layer"], "colorscale": "Cividis", "size": 9, "colorbar": {"title": "layer"}},
            text=[f"{layer}-{head}" for layer, head in zip(table["layer"], table["head"], strict=True)],
            hovertemplate="head %{text}: score %{y:.3f}, active on %{x:.0%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="activation frequency (share of samples with a copy)", tickformat=".0%")
    figure.update_yaxes(title="copy-paste score")
    return styled(
        figure,
        title=f"Always on, or now and then · {_model(scores)}",
        caption="Each point is a head with a score above 0: how often it copies at all, and how much of the needle.",
    )


def plot_convergence(convergence: pd.DataFrame) -> go.Figure:
    """Returns how the scores settle as needles are added."""
    table = convergence[convergence["definition"].isin(["set", "count"])]
    table = table[table["definition"] == table["definition"].iloc[0]] if len(table) else convergence
    k = int(table["k"].iloc[0])
    figure = go.Figure()
    for column, name, colour in (
        ("pearson_with_final", "Pearson with the final scores", BLUE),
        ("top_k_overlap_with_final", f"share of the final top {k}", ORANGE),
        ("stability", f"bootstrap draws that keep 9/10 of the top {k}", GREEN),
    ):
        figure.add_scatter(
            x=table["n_needles"], y=table[column], mode="lines+markers", name=name, line={"color": colour}
        )
    figure.update_xaxes(title="needles measured", rangemode="tozero")
    figure.update_yaxes(title="agreement", range=[0, 1.05])
    figure.update_layout(legend={"x": 0.35, "y": 0.08})
    return styled(
        figure,
        title=f"How many needles are enough · {_model(convergence)}",
        caption="Head scores after the first needles against those after all of them, and how stable the top is when needles are "
        "resampled.",
    )


def _model(table: pd.DataFrame) -> str:
    return str(table["model"].iloc[0]) if len(table) else ""


def plot_ablation(summary: pd.DataFrame) -> go.Figure:
    """Returns recall and the rise of prose surprisal against the number of masked heads: top of the ranking and random."""
    rows = summary[summary["needles"] == "all"]
    settings = rows[rows["condition"] == "random"][["ranking", "mode", "phase"]].drop_duplicates()
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.13)
    panels = (
        ("recall", "mean", ("ci_low", "ci_high"), "recall on held-out needles", 1),
        ("prose_surprisal_nats", "lost", ("lost_ci_low", "lost_ci_high"), "rise of prose surprisal, nats", 2),
    )
    dashes = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
    for (ranking, mode, phase), dash in zip(settings.itertuples(index=False), dashes, strict=False):
        same = rows[(rows["mode"] == mode) & (rows["phase"] == phase) & (rows["ranking"] == ranking)]
        for condition, colour in (("top", BLUE), ("random", RED)):
            line = pd.concat([rows[rows["condition"] == "none"], same[same["condition"] == condition]]).sort_values("k")
            name = f"{condition}, {mode}, {phase}" if len(settings) > 1 else condition
            name = f"{name}, {ranking}" if settings["ranking"].nunique() > 1 else name
            for outcome, value, (low, high), _, column in panels:
                part = line[line["outcome"] == outcome]
                x = part["k"].tolist()
                figure.add_trace(band(x, part[low].tolist(), part[high].tolist(), colour, name), row=1, col=column)
                curve = go.Scatter(
                    x=x, y=part[value], mode="lines+markers", name=name, line={"color": colour, "dash": dash}
                )
                figure.add_trace(curve.update(legendgroup=name, showlegend=column == 1), row=1, col=column)
    for _, _, _, label, column in panels:
        figure.update_xaxes(title="heads masked (K)", row=1, col=column)
        figure.update_yaxes(title=label, row=1, col=column)
    figure.update_yaxes(range=[0, 1.03], row=1, col=1)
    modes = "; ".join(dict.fromkeys(f"{mode}, {phase}" for _, mode, phase in settings.itertuples(index=False)))
    return styled(
        figure,
        title=f"Masking retrieval heads against random heads · {summary['model'].iloc[0]}",
        caption="Held-out needles and plain prose with the top K heads masked, or K random heads of the same layers (mean of "
        f"several draws). Masking: {modes}. Bands: 95% bootstrap over needles.",
        width=960,
    )


def plot_detector_ablation(summary: pd.DataFrame) -> go.Figure:
    """Returns the recall lost when each detector's top heads are masked, on literal and on non-literal needles."""
    recall = summary[summary["outcome"] == "recall"]
    main = recall[recall["condition"] == "random"]["ranking"].iloc[0]
    others = recall[(recall["condition"] == "top") & (recall["ranking"] != main)]
    first = others.iloc[0]
    same = recall[(recall["k"] == first["k"]) & (recall["mode"] == first["mode"]) & (recall["phase"] == first["phase"])]
    figure = go.Figure()
    for needles, colour in (("literal", BLUE), ("non-literal", ORANGE)):
        part = same[same["needles"] == needles]
        random = part[(part["condition"] == "random") & (part["ranking"] == main)]
        part = pd.concat([part[part["condition"] == "top"], random])
        figure.add_bar(
            x=part["ranking"].where(part["condition"] == "top", "random heads"),
            y=part["lost"],
            name=needles,
            marker_color=colour,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": part["lost_ci_high"] - part["lost"],
                "arrayminus": part["lost"] - part["lost_ci_low"],
            },
        )
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="ranking whose top heads are masked")
    figure.update_yaxes(title="recall lost")
    counts = same.drop_duplicates("needles").set_index("needles")["n_needles"]
    return styled(
        figure,
        title=f"Which list matters: top {first['k']} of each detector masked · {summary['model'].iloc[0]}",
        caption=f"Recall lost on held-out needles ({counts.get('literal', 0)} literal, {counts.get('non-literal', 0)} non-literal) when "
        f"the top {first['k']} heads of each ranking are masked ({first['mode']}, {first['phase']}). Non-literal questions share no "
        "content word with their needle. 95% bootstrap over needles.",
        width=900,
    )
