"""Figures that set rankings of heads side by side: those of one run's detectors, and those of several runs."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import PALETTE, SEQUENTIAL, styled


def plot_detectors(scores: pd.DataFrame) -> go.Figure:
    """Returns each other detector's score against the copy score."""
    others = [name for name in ("echo", "induction", "locos", "direct") if name in set(scores["definition"])]
    wide = scores.pivot(index=["layer", "head"], columns="definition", values="score")
    titles = {
        "echo": "echo",
        "induction": "induction",
        "locos": "LOCOS, raw logits",
        "direct": "direct logit contribution",
    }
    units = {"echo": "attention weight", "induction": "attention weight", "locos": "raw logits", "direct": "logits"}
    n_rows = -(-len(others) // 2)
    figure = make_subplots(
        rows=n_rows,
        cols=2,
        subplot_titles=[titles[name] for name in others],
        vertical_spacing=0.22,
        horizontal_spacing=0.15,
    )
    for index, name in enumerate(others):
        row, column = index // 2 + 1, index % 2 + 1
        points = go.Scatter(
            x=wide["set"],
            y=wide[name],
            mode="markers",
            marker={"color": PALETTE[index], "size": 6},
            showlegend=False,
            text=[f"{layer}-{head}" for layer, head in wide.index],
            hovertemplate="head %{text}: %{x:.3f}, %{y:.3f}<extra></extra>",
        )
        figure.add_trace(points, row=row, col=column)
        figure.update_yaxes(title=units[name], row=row, col=column)
        figure.update_xaxes(title="copy-paste score", row=row, col=column)
    return styled(
        figure,
        title=f"Other detectors against the copy-paste score · {scores['model'].iloc[0]}",
        caption="One point per head. Echo and induction: attention on repeated random tokens (RazorAttention); logit contribution: "
        "what the head writes from the needle toward the emitted token, in raw logits (LOCOS) or with the norms' scales (direct).",
        height=640,
        width=820,
    )


def plot_agreement(agreement: pd.DataFrame) -> go.Figure:
    """Returns Spearman correlations and top-k overlaps between detectors as two matrices."""
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.16, subplot_titles=["Spearman over all heads", f"overlap of the top {agreement['k'].iloc[0]}"]
    )  # fmt: skip
    for column, value in enumerate(("spearman", "top_k_overlap"), start=1):
        grid = symmetric_matrix(agreement, value)
        figure.add_heatmap(
            z=grid.to_numpy(), x=list(grid.index), y=list(grid.index), colorscale=SEQUENTIAL, zmin=0, zmax=1, texttemplate="%{z:.2f}",
            showscale=column == 2, row=1, col=column,
        )  # fmt: skip
    figure.update_xaxes(title="detector", tickangle=-35)
    figure.update_yaxes(title="detector")
    figure.update_yaxes(autorange="reversed")
    return styled(
        figure,
        title=f"Agreement between detectors · {agreement['model'].iloc[0]}",
        caption="Rank correlation of head scores, and share of the top heads that two detectors have in common; intervals are in "
        "the table `agreement`.",
        width=960,
    )


def symmetric_matrix(pairs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Returns a symmetric matrix from one row per pair (first, second, value), ones on its diagonal."""
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    grid = pd.DataFrame(1.0, index=names, columns=names)
    for first, second, number in zip(pairs["first"], pairs["second"], pairs[value], strict=True):
        grid.loc[first, second] = grid.loc[second, first] = float(number)
    return grid


def draw_comparison(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Returns the figures of a comparison of runs."""
    figures = {"correlation": plot_run_correlation(tables["pairs"])}
    if len(tables["sparsity"]):  # files without copy scores have none
        figures["sparsity"] = plot_run_sparsity(tables["sparsity"])
    return figures


def plot_run_correlation(pairs: pd.DataFrame) -> go.Figure:
    """Returns correlations of head scores between runs: Pearson's, or Spearman's where some scores are of different kinds."""
    alike = "spearman" not in pairs or not (pairs["pearson"].isna() & pairs["spearman"].notna()).any()
    value, name = ("pearson", "Pearson") if alike else ("spearman", "Spearman")
    grid = symmetric_matrix(pairs, value)
    names = list(grid.index)
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(), x=names, y=names, colorscale="RdBu", zmin=-1, zmax=1, text=grid.round(3).to_numpy(),
            texttemplate="%{text}", colorbar={"title": name},
        )
    )  # fmt: skip
    figure.update_xaxes(title="run")
    figure.update_yaxes(title="run", autorange="reversed")
    return styled(
        figure,
        title="Head scores between runs",
        caption="Pearson correlation of copy-paste scores over heads; models of different shape have none."
        if alike
        else "Rank correlation over heads, because the scores are of different kinds (see `sides`); models of different shape, and "
        "lists of some heads, have none.",
    )


def plot_run_sparsity(sparsity: pd.DataFrame) -> go.Figure:
    """Returns the share of heads per bucket of score, one group per run."""
    figure = go.Figure()
    for colour, (run, part) in zip(PALETTE * 4, sparsity.groupby("run", sort=False), strict=False):
        figure.add_bar(x=part["bucket"], y=100 * part["share"], name=str(run), marker_color=colour)
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="copy-paste score", type="category")
    figure.update_yaxes(title="share of heads, %")
    return styled(figure, title="Sparsity of runs", caption="Share of heads by copy-paste score.")
