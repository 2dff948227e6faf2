"""Figures of the kv_policies experiment, each from its tables."""

from itertools import product

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.kv_policies_kept import plot_depths, plot_kept_tokens, plot_variants
from figures.style import BLUE, DASHES, GREEN, GREY, ORANGE, PALETTE, SEQUENTIAL, band, drawn, error_bars, styled
from interp.tables import Tables

TITLES = {"prose": "prose", "lists": "repeated lists", "needles": "needles"}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for."""
    figures = {}
    if len(tables["restored"]):
        figures["restored"] = drawn(plot_restored, tables, "restored")
    figures["losses"] = drawn(plot_losses, tables, "policies")
    if len(tables["head_map"]):
        figures["head_map"] = drawn(plot_head_map, tables, "head_map")
    for name, plot in (("kept_tokens", plot_kept_tokens), ("depths", plot_depths), ("variants", plot_variants)):
        if len(tables[name]):
            figures[name] = drawn(plot, tables, name)
    if len(tables["roles"]):
        figures["roles"] = drawn(plot_roles, tables, "roles")
    for name, plot in (("stale", plot_stale), ("best_alpha", plot_best_alpha), ("recurring", plot_recurring)):
        table = "stale_mass" if name == "stale" else name
        if len(tables[table]):
            figures[name] = drawn(plot, tables, table)
    return figures


def plot_restored(restored: pd.DataFrame) -> go.Figure:
    """Returns recall and surprisal of needles by the number of heads that keep the whole prompt, best heads against random ones."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    panels = (("recall", "share of tokens recalled"), ("change_nats", "nats per token over full cache"))
    for col, (quantity, title) in enumerate(panels, start=1):
        rows = restored[restored["quantity"] == quantity]
        start = rows[rows["head_set"] == "none"]
        for name, colour in (("best", BLUE), ("random", ORANGE)):
            line = pd.concat([start, rows[rows["head_set"] == name].sort_values("k")])
            x = line["k"].tolist()
            figure.add_trace(band(x, line["ci_low"].tolist(), line["ci_high"].tolist(), colour, name), row=1, col=col)
            label = "best retrieval heads" if name == "best" else "random heads"
            figure.add_scatter(
                x=x, y=line["value"], mode="lines+markers", line_color=colour, name=label, legendgroup=name,
                showlegend=col == 1, row=1, col=col,
            )  # fmt: skip
        figure.update_xaxes(title="key-value heads with the whole prompt", row=1, col=col)
        figure.update_yaxes(title=title, row=1, col=col)
    caption = (
        "All other key-value heads keep sinks and recent tokens at the smallest budget. Random heads: as many, in the same layers or the "
        "nearest with heads left. Bands: 95% intervals over needles."
    )
    figure = styled(figure, title="How many heads must keep the whole prompt?", caption=caption, width=900)
    return figure.update_layout(legend={"orientation": "h", "y": -0.22}, margin={"b": 100})


def plot_losses(policies: pd.DataFrame) -> go.Figure:
    """Returns the surprisal change by the share of keys kept, one panel for each material, one line for each policy."""
    rows = policies[policies["policy"] != "full"]
    first = rows.loc[
        rows.groupby("protection")["budget"].transform("nunique")
        == rows.groupby("protection")["budget"].nunique().max()
    ]
    first = first[first["protection"] == first["protection"].iloc[0]]
    panels = list(dict.fromkeys(zip(first["material"], first["scope"], strict=True)))
    titles = [
        TITLES[material] + (", question seen" if scope == "context_and_question" else "") for material, scope in panels
    ]
    rows_of = {"change_nats": "nats per token over full cache"}
    if first["recall"].notna().any():
        rows_of["recall"] = "share of tokens recalled"
    figure = make_subplots(
        rows=len(rows_of), cols=len(panels), subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.1
    )
    names = list(dict.fromkeys(first["policy"]))
    ends = {"change_nats": ("ci_low", "ci_high"), "recall": ("recall_ci_low", "recall_ci_high")}
    for (row, quantity), (col, (material, scope)) in product(enumerate(rows_of, start=1), enumerate(panels, start=1)):
        panel = first[(first["material"] == material) & (first["scope"] == scope)].dropna(subset=quantity)
        for place, name in enumerate(names if len(panel) else ()):
            line = panel[panel["policy"] == name].sort_values("budget")
            figure.add_scatter(
                x=line["budget"], y=line[quantity], error_y=error_bars(line[quantity], *(line[end] for end in ends[quantity])),
                mode="lines+markers", name=name, legendgroup=name, showlegend=(row, col) == (1, 1), row=row, col=col,
                line={"color": PALETTE[place % len(PALETTE)], "dash": DASHES[place // len(PALETTE) % 3]},
            )  # fmt: skip
        most = 1.15 * first["budget"].max()
        figure.update_xaxes(title="share of keys kept", tickformat=".0%", range=[0, most], row=row, col=col)
    for row, title in enumerate(rows_of.values(), start=1):
        figure.update_yaxes(title=title, row=row, col=1 if row == 1 else next(iter(_recalled(panels)), 1))
    caption = (
        f"Surprisal of scored tokens minus that with the full cache, and the share of them that greedy decoding gets right, protection "
        f"{first['protection'].iloc[0]}; 95% intervals over texts. Policies that spare heads (duo, razor) keep more than the budget."
    )
    size = {"width": 260 + 300 * len(panels), "height": 140 + 400 * len(rows_of)}
    figure = styled(figure, title="What policies cost", caption=caption, **size)
    for col, (material, _) in enumerate(panels, start=1):
        if len(rows_of) > 1 and material == "prose":  # any text goes on as well: nothing is recalled
            figure.update_xaxes(visible=False, row=2, col=col)
            figure.update_yaxes(visible=False, row=2, col=col)
    return figure


def _recalled(panels: list[tuple[str, str]]) -> list[int]:
    """The columns that have something to recall."""
    return [col for col, (material, _) in enumerate(panels, start=1) if material != "prose"]


def plot_head_map(head_map: pd.DataFrame) -> go.Figure:
    """Returns the change of what each head writes, layer by head, one panel for each policy; on needles where there are any."""
    material = "needles" if "needles" in set(head_map["material"]) else head_map["material"].iloc[0]
    rows = head_map[(head_map["material"] == material) & (head_map["policy"] != "full")]
    names = list(dict.fromkeys(rows["policy"]))
    n_cols = min(5, len(names))
    n_rows = -(-len(names) // n_cols)
    figure = make_subplots(
        rows=n_rows, cols=n_cols, subplot_titles=names, horizontal_spacing=0.03, vertical_spacing=0.28 / n_rows
    )
    for place, name in enumerate(names):
        grid = rows[rows["policy"] == name].pivot_table(index="layer", columns="head", values="output_change")
        figure.add_heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            coloraxis="coloraxis",
            row=place // n_cols + 1,
            col=place % n_cols + 1,
        )
    figure.update_layout(
        coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1.2, "colorbar": {"title": "|o' − o| / |o|"}}
    )
    caption = f"Relative change of head outputs at scored steps, middle budget, {TITLES[material]}. x: head; y: layer."
    return styled(
        figure, title="Which heads lose", caption=caption, width=230 + 190 * n_cols, height=130 + 270 * n_rows
    )


def plot_roles(roles: pd.DataFrame) -> go.Figure:
    """Returns the change of head outputs by role, minus that of other heads of the same layers, with intervals."""
    rows = roles[roles["quantity"] == "output_change"]
    material = "needles" if "needles" in set(rows["material"]) else rows["material"].iloc[0]
    rows = rows[rows["material"] == material]
    rows = rows[rows["scope"] == rows["scope"].iloc[0]]
    budgets = sorted(rows["budget"].unique())
    rows = rows[rows["budget"] == budgets[len(budgets) // 2]]
    figure = go.Figure()
    for role, colour in (("retrieval", BLUE), ("induction", ORANGE), ("echo", GREEN)):
        part = rows[rows["role"] == role]
        bars = error_bars(part["difference"], part["difference_ci_low"], part["difference_ci_high"])
        figure.add_scatter(
            x=part["policy"],
            y=part["difference"],
            error_y=bars,
            mode="markers",
            name=role,
            marker={"color": colour, "size": 8},
        )
    figure.add_hline(y=0, line_color=GREY)
    figure.update_layout(yaxis_title="change of output minus other heads'", scattermode="group")
    figure.update_xaxes(tickangle=-40)
    caption = f"|o' − o| / |o| of a role's heads minus that of heads without a role in the same layers, {TITLES[material]}, middle budget."
    return styled(figure, title="Which roles lose", caption=caption, width=860)


def plot_stale(stale_mass: pd.DataFrame) -> go.Figure:
    """Returns the mass that a row's best keys recover some rows later, beside recent keys and the later row's own best."""
    roles = [role for role in ("all", "retrieval", "induction", "echo") if role in set(stale_mass["role"])]
    figure = make_subplots(rows=1, cols=len(roles), subplot_titles=roles, shared_yaxes=True, horizontal_spacing=0.03)
    names = {
        "mass_stale": "best keys of an earlier row",
        "mass_recent": "sinks and recent",
        "mass_oracle": "own best keys",
    }
    for col, role in enumerate(roles, start=1):
        for (quantity, name), colour in zip(names.items(), (BLUE, ORANGE, GREY), strict=True):
            rows = stale_mass[(stale_mass["role"] == role) & (stale_mass["quantity"] == quantity)].sort_values("lag")
            x = rows["lag"].tolist()
            figure.add_trace(band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, name), row=1, col=col)
            figure.add_scatter(
                x=x, y=rows["value"], mode="lines+markers", line_color=colour, name=name, legendgroup=name, showlegend=col == 1,
                row=1, col=col,
            )  # fmt: skip
        figure.update_xaxes(title="rows later", type="log", tickvals=sorted(stale_mass["lag"].unique()), row=1, col=col)
    figure.update_yaxes(title="attention mass", row=1, col=1)
    caption = (
        "Mean over heads and prose texts; every key after the earlier row is kept too. Bands: 95% intervals over texts."
    )
    figure = styled(
        figure, title="How long a selection of keys stays useful", caption=caption, width=180 + 220 * len(roles)
    )
    return figure.update_layout(legend={"orientation": "h", "y": -0.22}, margin={"b": 100})


def plot_best_alpha(best_alpha: pd.DataFrame) -> go.Figure:
    """Returns the discount of old queries that keeps most of later queries' mass, by layer."""
    rows = best_alpha.sort_values("layer")
    figure = go.Figure(band(rows["layer"].tolist(), rows["ci_low"].tolist(), rows["ci_high"].tolist(), BLUE, "alpha"))
    figure.add_scatter(x=rows["layer"], y=rows["value"], mode="lines+markers", line_color=BLUE, showlegend=False)
    figure.update_layout(xaxis_title="layer", yaxis_title="best alpha", yaxis_range=[0, 1.03])
    caption = "A2SF's alpha: 1 sums all queries' weights, 0 takes the last query's. Mean over texts of prose and its 95% interval."
    return styled(figure, title="How much to forget", caption=caption)


def plot_recurring(recurring: pd.DataFrame) -> go.Figure:
    """Returns the share of tokens that come back, and their largest gap, beside the same with activations in random order."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    for col, (quantity, title) in enumerate(
        (("recur_share", "share of tokens that come back"), ("gap", "largest gap, steps")), start=1
    ):
        rows = recurring[recurring["quantity"] == quantity]
        bars = error_bars(rows["value"], rows["ci_low"], rows["ci_high"])
        figure.add_bar(
            x=rows["threshold"], y=rows["value"], error_y=bars, name="found", marker_color=BLUE, legendgroup="found", showlegend=col == 1,
            row=1, col=col,
        )  # fmt: skip
        figure.add_bar(
            x=rows["threshold"], y=rows["null"], name="random order", marker_color=GREY, legendgroup="null", showlegend=col == 1,
            row=1, col=col,
        )  # fmt: skip
        figure.update_yaxes(title=title, row=1, col=col)
    figure.update_xaxes(title="active from a weight of", type="category")
    caption = "A token recurs if it is active again after 16 or more inactive steps. Random order: each token's activations shuffled."
    return styled(figure, title="Do tokens become active again?", caption=caption, width=860)


def plot_comparison(comparison: pd.DataFrame) -> go.Figure:
    """Returns what each policy costs in several runs, at the smallest budget they share: a panel for each material."""
    rows = comparison[(comparison["policy"] != "full") & (comparison["scope"] == "context_only")]
    rows = rows[(rows["budget"] == rows["budget"].min()) & (rows["protection"] == rows["protection"].iloc[0])]
    panels, runs = list(dict.fromkeys(rows["material"])), list(dict.fromkeys(rows["run"]))
    names = list(dict.fromkeys(rows["policy"]))
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=[TITLES[name] for name in panels], shared_yaxes=True, horizontal_spacing=0.04
    )  # fmt: skip
    for col, material in enumerate(panels, start=1):
        for place, run in enumerate(runs):
            line = rows[(rows["material"] == material) & (rows["run"] == run)].set_index("policy").reindex(names)
            figure.add_scatter(
                x=line["change_nats"], y=[row - 0.22 * (place - (len(runs) - 1) / 2) for row in range(len(names))],
                error_x=error_bars(line["change_nats"], line["ci_low"], line["ci_high"]), mode="markers", name=run,
                legendgroup=run, showlegend=col == 1, marker_color=PALETTE[place % len(PALETTE)], row=1, col=col,
            )  # fmt: skip
        figure.add_vline(x=0, line_color=GREY, line_width=1, row=1, col=col)  # type: ignore[arg-type]
        figure.update_xaxes(title="nats per token over full cache", row=1, col=col)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    budget, protection = rows["budget"].iloc[0], rows["protection"].iloc[0]
    caption = f"Budget {budget:.0%}, protection {protection}, cut before the question. 95% intervals over texts."
    size = {"width": 260 + 300 * len(panels), "height": 260 + 30 * len(names)}
    return styled(figure, title="What policies cost, model by model", caption=caption, **size)
