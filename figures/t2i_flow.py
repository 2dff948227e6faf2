"""Figures of the text-to-image flow experiment, each from its tables."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from figures.style import BLUE, GREEN, GREY, ORANGE, PALETTE, RED, SEQUENTIAL, SKY, drawn, styled
from figures.t2i_flow_grids import plot_pictures, tables_of_grids
from interp.tables import Tables

LEVELS = {
    "full": "whole text",
    "item": "the item",
    "last_token": "its last token",
    "last_word": "its last word's others",
    "first_words": "its first words",
    "other_words": "other words",
    "article": "articles",
    "bos": "beginning",
    "eos": "end",
    "pad": "padding",
    "clean": "nothing",
}
ARM_NAMES = {"paste": "item pasted", "random_paste": "pasted elsewhere", "attention": "context hidden"}
LEGEND_ABOVE = {"legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"}, "margin": {"t": 95}}
"""Between title and picture, where the names under it are long."""


def error_bars(rows: pd.DataFrame) -> dict:
    """Returns plotly's error bars for a table with estimate, ci_low and ci_high."""
    return {
        "type": "data",
        "symmetric": False,
        "array": rows["ci_high"] - rows["estimate"],
        "arrayminus": rows["estimate"] - rows["ci_low"],
    }


FLOWS = {
    "leak_in_full": ("leak, whole prompt", RED),
    "leak_from_prompt": ("leak, item's vectors from the prompt", ORANGE),
    "leak_from_alone": ("leak, item's vectors alone", SKY),
    "flow": ("reading differs from alone", BLUE),
    "neglect": ("seen alone, missing in the prompt", GREY),
}
ROLE_COLOURS = {
    "item": BLUE, "other_words": ORANGE, "article": GREEN, "bos": GREY, "eos": RED, "pad": SKY,
}  # fmt: skip


ORDER = (
    "roles", "flow_matrix", "token_grid", "prompt_grid", "flow_rates", "repair", "repair_grid", "lens", "heat_maps",
    "attention_effect",
)  # fmt: skip
"""How a reader wants them: rates before the pictures that they were counted in."""


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for, in ORDER."""
    rates = tables["rates"]
    figures = {name: drawn(plot_pictures, tables, *read, grid=name) for name, read in tables_of_grids(tables).items()}
    if (rates["quantity"] == "kept_visible").any():
        figures["roles"] = drawn(plot_roles, tables, "rates")
    if (rates["question"] == "inter_item").any():
        figures["flow_matrix"] = drawn(plot_flow_matrix, tables, "rates")
        figures["flow_rates"] = drawn(plot_flow_rates, tables, "rates")
    if (rates["quantity"] == "leak_before").any():
        figures["repair"] = drawn(plot_repair, tables, "rates")
    if len(tables["lens_rates"]):
        figures["lens"] = drawn(plot_lens, tables, "lens_rates")
    if len(tables["attention_mass"]):
        figures["attention_effect"] = drawn(plot_attention, tables, "attention_mass", "rates")
    return {name: figures[name] for name in ORDER if name in figures}


def plot_roles(rates: pd.DataFrame) -> go.Figure:
    """Returns how often an item is visible when only one role's tokens are kept: items alone, and items in prompts."""
    bars = rates[rates["quantity"] == "kept_visible"]
    order = [level for level in LEVELS if level in set(bars["level"])]
    figure = go.Figure()
    by_group = {"alone": "item alone", "prompts": "item in a prompt"}
    colours = iter(PALETTE)
    for group, words in by_group.items():
        some = bars[bars["group"] == group]
        one_encoder = some.loc[some["encoder"] != "", "encoder"].nunique() <= 1
        for encoder in dict.fromkeys(some["encoder"]) if not one_encoder else [None]:
            part = some if encoder is None else some[some["encoder"] == encoder]
            part = part.drop_duplicates("level").set_index("level").reindex(order).dropna(subset=["estimate"])
            figure.add_bar(
                x=[LEVELS[str(level)] for level in part.index],
                y=part["estimate"],
                error_y=error_bars(part),
                name=words + (f", {encoder or 'whole text'}" if encoder is not None else ""),
                marker={"color": next(colours)},
            )
    figure.update_xaxes(
        title="what is kept", categoryorder="array", categoryarray=[LEVELS[level] for level in order], tickangle=-35
    )
    figure.update_yaxes(title="share of pictures that show the item", range=[0, 1.05])
    styled(
        figure,
        title=f"Which tokens carry an item · {rates['model'].iloc[0]}",
        caption="Everything else is clean padding, after the text encoder. 95% bootstrap intervals over items, or over prompts.",
        height=540,
    )
    return figure.update_layout(barmode="group", **LEGEND_ABOVE)


def plot_flow_matrix(rates: pd.DataFrame) -> go.Figure:
    """Returns two matrices: item i kept with its vectors from the prompt, or alone; share of pictures that show item j."""
    from plotly.subplots import make_subplots

    titles = {"seen_from_prompt": "vectors from the prompt", "seen_from_alone": "vectors encoded alone"}
    figure = make_subplots(1, 2, subplot_titles=list(titles.values()), horizontal_spacing=0.12)
    for column, quantity in enumerate(titles, start=1):
        rows = rates[(rates["quantity"] == quantity) & (rates["group"] == "all")]
        pairs = rows["level"].str.split(">", expand=True).astype(int)
        size = int(pairs.to_numpy().max()) + 1
        grid = np.full((size, size), np.nan)
        grid[pairs[0], pairs[1]] = rows["estimate"]
        names = [_ordinal(index) for index in range(size)]
        text = [["" if np.isnan(value) else f"{value:.2f}" for value in line] for line in grid]
        figure.add_heatmap(
            z=grid, x=names, y=names, text=text, texttemplate="%{text}", zmin=0, zmax=1, colorscale=SEQUENTIAL,
            showscale=column == 2, colorbar={"title": "share"}, row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(title="item asked for", row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="item kept", col=1)
    return styled(
        figure,
        title=f"Item by item: what an item's vectors show · {rates['model'].iloc[0]}",
        caption="Only the kept item's vectors are there, everything else clean padding. Off the diagonal: another item seen in "
        "them. Items in the order of the prompt; shares of pictures, mean over prompts.",
        height=420,
    )


def _ordinal(index: int) -> str:
    return ("first", "second", "third")[index] if index < 3 else f"{index + 1}th"


def plot_flow_rates(rates: pd.DataFrame) -> go.Figure:
    """Returns leak, flow and neglect by group of prompts, as points with intervals."""
    rows = rates[(rates["question"] == "inter_item") & rates["quantity"].isin(FLOWS)].dropna(subset=["estimate"])
    groups = [group for group in dict.fromkeys(rows["group"]) if group != "all"]
    figure = go.Figure()
    for place, (quantity, (name, colour)) in enumerate(FLOWS.items()):
        part = rows[rows["quantity"] == quantity].set_index("group").reindex(groups)
        shift = (place - (len(FLOWS) - 1) / 2) * 0.13
        figure.add_scatter(
            x=[index + shift for index in range(len(groups))], y=part["estimate"], mode="markers", name=name,
            marker={"color": colour, "size": 9}, error_y=error_bars(part),
        )  # fmt: skip
    labels = [group.replace("_", " ") for group in groups]
    figure.update_xaxes(title="prompts", tickvals=list(range(len(groups))), ticktext=labels)
    figure.update_yaxes(title="share of pictures", range=[-0.03, 1.05])
    figure.update_layout(legend={"orientation": "h", "y": -0.25})
    return styled(
        figure,
        title=f"Leak, flow and neglect · {rates['model'].iloc[0]}",
        caption="Shares of (item, seed); 95% bootstrap intervals over prompts. Leaks are defined for items that name how they "
        "look when something got into them.",
        height=520,
    )


def plot_repair(rates: pd.DataFrame) -> go.Figure:
    """Returns leak, own look and the other items before and after each way of repair."""
    from plotly.subplots import make_subplots

    rows = rates[(rates["question"] == "repair") & (rates["group"] == "all")]
    arms = [arm for arm in ARM_NAMES if arm in set(rows["level"])]
    panels = {"leak": "the leak is seen", "own": "the item is seen as itself", "others": "other items are seen"}
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=list(panels.values()), horizontal_spacing=0.04)
    for column, quantity in enumerate(panels, start=1):
        for when, colour in (("before", GREY), ("after", BLUE)):
            part = rows[rows["quantity"] == f"{quantity}_{when}"].set_index("level").reindex(arms)
            figure.add_bar(
                x=[ARM_NAMES[arm] for arm in arms], y=part["estimate"], error_y=error_bars(part), name=when,
                marker={"color": colour}, legendgroup=when, showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    figure.update_yaxes(range=[0, 1.05])
    figure.update_yaxes(title="share of pictures", col=1)
    figure.update_xaxes(tickangle=-30)
    figure.update_layout(barmode="group", legend={"orientation": "h", "y": -0.32})
    return styled(
        figure,
        title=f"Repair of leaking items, before and after · {rates['model'].iloc[0]}",
        caption="Items chosen by their flow, measured from other noises than they were chosen by; the same noise before and after. "
        "95% bootstrap intervals over prompts.",
        width=900,
        height=480,
    )


def plot_attention(masses: pd.DataFrame, rates: pd.DataFrame) -> go.Figure:
    """Returns, for every word, its share of attention against what the picture changes without it."""
    figure = go.Figure()
    for role, colour in ROLE_COLOURS.items():
        part = masses[masses["token_role"] == role]
        if len(part):
            figure.add_scatter(
                x=part["mass"].clip(lower=1e-5), y=part["change_removed"], mode="markers",
                name=LEVELS.get(role, role), text=part["word"] + " · " + part["prompt_id"],
                marker={"color": colour, "size": 8, "opacity": 0.75},
            )  # fmt: skip
    correlation = rates[rates["quantity"] == "rank_correlation_change_removed"].set_index("level")
    words = ", ".join(
        f"{level} {row.estimate:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]" for level, row in correlation.iterrows()
    )
    figure.update_xaxes(title="share of cross-attention", type="log", tickvals=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
    figure.update_yaxes(title="mean change of the picture without it", rangemode="tozero")
    return styled(
        figure,
        title=f"Attention against effect · {masses['model'].iloc[0]}",
        caption=f"A point is a word of a prompt (or its beginning, end, or padding). Rank correlation within prompts: {words}.",
    )


LINES = {
    ("full", "own"): ("item alone, whole text", GREY),
    ("last_token", "own"): ("item alone, its last token", GREEN),
    ("item", "own"): ("item in a prompt, its own look", BLUE),
    ("item", "leak"): ("item in a prompt, the leak", RED),
}


def plot_lens(rates: pd.DataFrame) -> go.Figure:
    """Returns share of pictures that show an item by layer: a row of panels for each encoder, one for each group of texts."""
    from plotly.subplots import make_subplots

    encoders, groups = (list(dict.fromkeys(rates[name])) for name in ("encoder", "group"))
    titles = [_title(group, encoder, len(encoders)) for encoder in encoders for group in groups]
    figure = make_subplots(
        len(encoders),
        len(groups),
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.03,
        vertical_spacing=0.16,
    )
    named: set[str] = set()
    for key, part in rates.groupby(["group", "encoder", "token_role", "asked"], sort=False):
        group, encoder, role, asked = map(str, key)  # type: ignore[call-overload]
        name, colour = LINES[role, asked]
        row, column = encoders.index(encoder) + 1, groups.index(group) + 1
        figure.add_scatter(
            x=part["layer"], y=part["estimate"], mode="lines+markers", name=name, legendgroup=name,
            showlegend=name not in named, line={"color": colour}, marker={"size": 8},
            error_y={**error_bars(part), "width": 3, "thickness": 1}, row=row, col=column,
        )  # fmt: skip
        named.add(name)
        figure.update_xaxes(tickvals=sorted(set(part["layer"])), row=row, col=column)
    figure.update_yaxes(range=[-0.03, 1.05])
    figure.update_yaxes(title="share of pictures", col=1)
    figure.update_xaxes(title="layers gone through", row=len(encoders))
    styled(
        figure,
        title=f"Layer by layer: what an encoder's states show · {rates['model'].iloc[0]}",
        caption="0: the embeddings. All that is not kept, or not of this encoder, is clean padding. 95% intervals over items or "
        "prompts.",
        width=max(640, 240 * len(groups) + 60),
        height=200 + 230 * len(encoders),
    )
    below = {"orientation": "h", "y": -0.3 / len(encoders), "yanchor": "top"}
    return figure.update_layout(legend=below, margin={"t": 90, "b": 110})


def _title(group: str, encoder: str, n_encoders: int) -> str:
    words = "items alone" if group == "alone" else str(group).replace("_", " ")
    return f"{words} · {encoder}" if n_encoders > 1 else words
