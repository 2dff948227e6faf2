"""Figures that set several verbatim-memory runs side by side."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from figures.verbatim_memory import plot_groups


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
