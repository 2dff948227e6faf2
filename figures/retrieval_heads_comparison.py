"""Figures that set several retrieval-head runs side by side."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from figures.retrieval_heads_detectors import symmetric_matrix
from figures.style import PALETTE, styled


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
