"""Figures that set several text-to-image flow runs side by side."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from figures.style import PALETTE, styled
from figures.t2i_flow import ARM_NAMES, LEGEND_ABOVE, LEVELS, error_bars


def draw_comparison(tables: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    """Returns where items are carried, and the headline rates, a colour per run."""
    rates = tables["rates"]
    figures = {}
    for group, words in (("alone", "items alone"), ("prompts", "items in prompts")):
        kept = rates[(rates["quantity"] == "kept_visible") & (rates["group"] == group)]
        if len(kept):
            order = {level: LEVELS[level] for level in LEVELS if level in set(kept["level"])}
            title = f"What carries an item: {words}"
            figures[f"roles_{group}"] = _bars(kept.drop_duplicates(["run", "level"]), "level", order, title)
    headline = rates[rates.apply(lambda row: _headline(row) is not None, axis=1)]
    if len(headline):
        named = headline.assign(name=headline.apply(_headline, axis=1))
        order = {name: name for name in dict.fromkeys(named["name"])}
        figures["headlines"] = _bars(named, "name", order, "Flow and repair")
    return figures


def _headline(row: pd.Series) -> str | None:
    """What a headline rate is called; None for all other rates."""
    names = {
        "representative_rate": "one token shows the item",
        "redundancy_share": "redundant tokens",
        "flow": "reading differs from alone",
        "neglect": "seen alone, missing in the prompt",
    }
    if row["group"] != "all":
        return None
    if row["quantity"] in names:
        return names[row["quantity"]]
    if row["question"] == "repair" and row["level"] == "paste" and row["quantity"] in ("leak_before", "leak_after"):
        return f"leak {row['quantity'].removeprefix('leak_')}: {ARM_NAMES['paste']}"
    return None


def _bars(rates: pd.DataFrame, by: str, order: Mapping[str, str], title: str) -> go.Figure:
    figure = go.Figure()
    one_each = rates.groupby("model")["run"].nunique().max() == 1
    for colour, (run, rows) in zip(PALETTE, rates.groupby("run", sort=False), strict=False):
        part = rows.set_index(by).reindex(list(order))
        name = str(part["model"].dropna().iloc[0]) if one_each else str(run)
        figure.add_bar(
            x=list(order.values()), y=part["estimate"], error_y=error_bars(part), name=name, marker={"color": colour}
        )
    figure.update_yaxes(title="share", range=[0, 1.05])
    figure.update_xaxes(tickangle=-35)
    styled(figure, title=title, caption="95% bootstrap intervals over items, or over prompts.", height=560)
    return figure.update_layout(barmode="group", **LEGEND_ABOVE)
