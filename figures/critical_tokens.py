"""Figures of the critical-token experiment, each from its tables."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, band, drawn, styled
from interp.tables import Tables

SHOWN_TRAJECTORIES = 3
_CONDITIONS = {
    "forbidden": (RED, "critical token forbidden"),
    "kept": (GREY, "critical token kept"),
    "random": (SKY, "random token forbidden"),
    "entropy": (BLUE, "token of like entropy forbidden"),
}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns every figure there is data for, in the order a reader wants them."""
    figures: dict[str, go.Figure] = {}
    positions, critical = tables["positions"], tables["critical"]
    if len(tables["replacement"]):  # the question is whether these tokens decide the answer
        figures["replacement"] = drawn(plot_replacement, tables, "replacement")
    for number, id in enumerate(_telling(positions, critical), start=1):
        figures[f"trajectory_{number}"] = drawn(plot_trajectory, tables, "positions", "critical", "trajectories", id=id)
    if len(tables["agreement"]):
        figures["agreement"] = drawn(plot_agreement, tables, "agreement")
    if len(critical):
        figures["token_classes"] = drawn(plot_token_classes, tables, "critical", "positions")
        if (critical["first_error_position"] >= 0).any():
            figures["relative_to_error"] = drawn(plot_relative_to_error, tables, "critical")
    if len(tables["cost"]):
        figures["cost"] = drawn(plot_cost, tables, "cost")
    figures["levels"] = drawn(plot_levels, tables, "levels")
    return figures


def _telling(positions: pd.DataFrame, critical: pd.DataFrame) -> list[str]:
    """The trajectories with the largest proven drops first."""
    ids = list(dict.fromkeys(positions["trajectory_id"]))
    drops = critical.dropna(subset=["drop"]).groupby("trajectory_id")["drop"].max()
    return sorted(ids, key=lambda name: -float(drops.get(name, 0.0)))[:SHOWN_TRAJECTORIES]


def plot_replacement(replacement: pd.DataFrame) -> go.Figure:
    """Returns pass@k with the critical token forbidden, kept, and with control tokens forbidden, by definition."""
    definitions = list(dict.fromkeys(replacement["definition"]))
    figure = make_subplots(rows=1, cols=len(definitions), subplot_titles=definitions, shared_yaxes=True)
    for column, definition in enumerate(definitions, start=1):
        for condition, (colour, name) in _CONDITIONS.items():
            rows = replacement[(replacement["definition"] == definition) & (replacement["condition"] == condition)]
            if not len(rows):
                continue
            if rows["ci_low"].notna().all():
                area = band(rows["k"].tolist(), rows["ci_low"].tolist(), rows["ci_high"].tolist(), colour, name)
                figure.add_trace(area, row=1, col=column)
            figure.add_scatter(
                x=rows["k"],
                y=rows["pass_at_k"],
                mode="lines+markers",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colour, "width": 2},
                row=1,
                col=column,
            )
    ks = sorted(replacement["k"].unique())
    styled(
        figure,
        title=f"Forbidding one token · {replacement['model'].iloc[0]}",
        caption="Unbiased pass@k on fresh rollouts from wrong trajectories, mean over trajectories with 95% bootstrap "
        "intervals over problems.",
        width=860,
    )
    figure.update_xaxes(title="k", type="log", tickvals=ks, ticktext=[str(k) for k in ks])
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="pass@k", row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0}, margin={"b": 100, "t": 90})
    return figure


def plot_agreement(agreement: pd.DataFrame) -> go.Figure:
    """Returns how well every cheap score finds the confirmed cliffs: AUROC, average precision, top-1 hit."""
    figure = go.Figure()
    measures = (
        ("auroc", "auroc", BLUE),
        ("average_precision", "average_precision", ORANGE),
        ("top1_hit", "top1", GREEN),
    )
    for column, prefix, colour in measures:
        low, high = agreement[f"{prefix}_ci_low"], agreement[f"{prefix}_ci_high"]
        figure.add_bar(
            x=agreement["score"],
            y=agreement[column],
            name=column.replace("_", " ").replace("top1", "top-1"),
            marker_color=colour,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high - agreement[column],
                "arrayminus": agreement[column] - low,
                "thickness": 1.2,
            },
        )
    figure.add_hline(y=0.5, line={"dash": "dash", "color": GREY})
    figure.update_layout(barmode="group")
    figure.update_yaxes(title="quality", range=[0, 1.05])
    first = agreement.iloc[0]
    return styled(
        figure,
        title=f"Which cheap score finds cliffs? · {first['model']}",
        caption=f"Scores of {int(first['n_tokens'])} tokens against {int(first['n_positive'])} cliffs confirmed by rollouts, "
        "95% bootstrap intervals over trajectories. The dashed line is chance for the AUROC. Only tokens with a large 1 − p can be "
        "cliffs, which helps 1 − p, entropy and surprisal.",
        width=860,
    )


def plot_token_classes(critical: pd.DataFrame, positions: pd.DataFrame) -> go.Figure:
    """Returns the classes of critical tokens by definition, beside those of all tokens."""
    figure = go.Figure()
    order = ["number", "operator", "content", "function", "punctuation", "space"]
    groups = {"all tokens": (GREY, positions["token_class"])} | {
        name: (colour, critical[critical["definition"] == name]["token_class"])
        for name, (colour, _) in DEFINITIONS.items()
    }
    for name, (colour, classes) in groups.items():
        if len(classes):
            share = 100 * classes.value_counts(normalize=True).reindex(order).fillna(0)
            figure.add_bar(x=order, y=share, name=f"{name} (n = {len(classes)})", marker_color=colour)
    figure.update_layout(barmode="group")
    figure.update_yaxes(title="share of tokens, %")
    return styled(
        figure,
        title=f"Classes of critical tokens · {positions['model'].iloc[0]}",
        caption="Token classes after Lin et al. 2024, table 2 (a token with a digit is a number; a token of spaces only is space).",
    )


def plot_relative_to_error(critical: pd.DataFrame) -> go.Figure:
    """Returns how far critical tokens lie from the first wrong token."""
    known = critical[critical["first_error_position"] >= 0]
    figure = go.Figure()
    reach = range(int(known["relative_to_error"].min()), int(known["relative_to_error"].max()) + 1)
    for name, (colour, _) in DEFINITIONS.items():
        counts = known[known["definition"] == name]["relative_to_error"].value_counts()
        if len(counts):
            figure.add_bar(x=list(reach), y=[int(counts.get(at, 0)) for at in reach], name=name, marker_color=colour)
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="tokens behind the first wrong token (0: that token)", dtick=max(1, len(reach) // 15))
    figure.update_yaxes(title="critical tokens", rangemode="tozero")
    return styled(
        figure,
        title=f"Critical tokens and the first error · {known['model'].iloc[0]}",
        caption="Where critical tokens lie relative to the first token that leaves the one right solution of the problem.",
    )


def plot_cost(cost: pd.DataFrame) -> go.Figure:
    """Returns the generated tokens of every trajectory by stage, beside those of rollouts at every position."""
    ids = list(dict.fromkeys(cost["trajectory_id"]))
    figure = go.Figure()
    brute = cost.drop_duplicates("trajectory_id").set_index("trajectory_id")["brute_tokens"]
    figure.add_scatter(
        x=ids,
        y=[brute[id] for id in ids],
        mode="markers",
        name="rollouts at every position",
        marker={"color": GREY, "symbol": "line-ew", "size": 18, "line": {"width": 3, "color": GREY}},
    )
    stages = (("curve and paper's rule", BLUE), ("confirmation", ORANGE), ("causal test", GREEN))
    for stage, colour in stages:
        tokens = cost[cost["stage"] == stage].set_index("trajectory_id")["generated_tokens"]
        if len(tokens):
            figure.add_bar(x=ids, y=[int(tokens.get(id, 0)) for id in ids], name=stage, marker_color=colour)
    figure.update_layout(barmode="group")
    figure.update_yaxes(title="generated tokens", type="log", tickvals=[10**power for power in range(1, 8)])
    figure.update_xaxes(title="trajectory", tickangle=-40, tickfont={"size": 10}, type="category")
    return styled(
        figure,
        title=f"Generated tokens · {cost['model'].iloc[0]}",
        caption="Tokens generated on each trajectory by stage, and what rollouts at every position would generate "
        "at the trajectory's own length.",
        width=900,
        height=520,
    )


def plot_levels(levels: pd.DataFrame) -> go.Figure:
    """Returns the calibration: success by level, and the range in which a level is usable."""
    figure = go.Figure(
        go.Bar(
            x=levels["level"],
            y=100 * levels["success"],
            marker_color=[BLUE if usable else GREY for usable in levels["usable"]],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": 100 * (levels["ci_high"] - levels["success"]),
                "arrayminus": 100 * (levels["success"] - levels["ci_low"]),
            },
        )
    )
    for edge in (5, 95):
        figure.add_hline(y=edge, line={"dash": "dash", "color": GREY})
    figure.update_xaxes(title="level (family-size-difficulty)", type="category")
    figure.update_yaxes(title="responses right, %", range=[0, 102])
    return styled(
        figure,
        title=f"Calibration · {levels['model'].iloc[0]}",
        caption="Share of right responses by level with 95% intervals over problems (bootstrap; Wilson's at 0 and 100%); levels between "
        "the dashed lines are usable.",
    )


DEFINITIONS = {"paper": (ORANGE, "diamond-open"), "cliff": (RED, "x"), "pivot": (PURPLE, "circle-open")}
"""Colour and mark of each definition of a critical token."""
_SIZES = {"paper": 26, "cliff": 11, "pivot": 17}


def plot_trajectory(positions: pd.DataFrame, critical: pd.DataFrame, responses: pd.DataFrame, id: str) -> go.Figure:
    """Returns V after every token of one trajectory with its band, 1 − p below, critical tokens marked."""
    rows = positions[positions["trajectory_id"] == id].sort_values("position")
    response = responses[responses["trajectory_id"] == id].iloc[0]
    x = rows["position"].tolist()
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.05)
    figure.add_trace(band(x, rows["ci_low"].tolist(), rows["ci_high"].tolist(), BLUE, "V"), row=1, col=1)
    figure.add_scatter(
        x=x,
        y=rows["value"],
        mode="lines+markers",
        name="V after token",
        line={"color": BLUE, "width": 2},
        marker={"size": 5},
        hovertext=rows["token"],
        row=1,
        col=1,
    )
    found = critical[critical["trajectory_id"] == id]
    values = rows.set_index("position")["value"]
    for definition, (colour, symbol) in DEFINITIONS.items():
        marked = found[found["definition"] == definition]
        if len(marked):
            figure.add_scatter(
                x=marked["position"],
                y=values[marked["position"]],
                mode="markers",
                name=definition,
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": _SIZES[definition],
                    "line": {"width": 2.5, "color": colour},
                },
                row=1,
                col=1,
            )
    error = int(response["first_error_position"])
    if error >= 0:
        figure.add_shape(
            type="line", x0=error, x1=error, y0=0, y1=1, line={"color": GREY, "dash": "dot", "width": 1.5}, row=1, col=1
        )
        figure.add_annotation(
            x=error, y=1.04, text="first wrong token", showarrow=False, font={"size": 12, "color": GREY}, row=1, col=1
        )
    colours = [GREY if sure else BLUE for sure in rows["certified"]]
    figure.add_bar(x=x, y=1 - rows["p"], marker_color=colours, showlegend=False, row=2, col=1)
    figure.update_yaxes(title="V", range=[-0.04, 1.1], row=1, col=1)
    figure.update_yaxes(title="1 − p", range=[0, 1], row=2, col=1)
    texts = [visible(token) for token in rows["token"]]
    styled(
        figure,
        title=f"{_last_line(str(response['prompt']))} · {rows['model'].iloc[0]}",
        caption=f"Chance V of a right answer after every token of the wrong response {id} to "
        f"“{_last_line(str(response['prompt']))}” (right: {response['gold']}), with 95% intervals. "
        "Below: 1 − p, the most by which a token can change V; grey tokens are certified.",
        width=max(820, 160 + 38 * len(x)),
        height=520,
    )
    figure.update_xaxes(tickvals=x, ticktext=texts, tickangle=0, row=2, col=1)
    return figure


def _last_line(prompt: str) -> str:
    """What was asked: the last paragraph of the prompt on one line."""
    return " ".join(prompt.rstrip().split("\n\n")[-1].split("\n")).removesuffix(" A:").removeprefix("Q: ")


def visible(token: str) -> str:
    """Returns a token's text with spaces and line breaks shown."""
    return token.replace(" ", "␣").replace("\n", "⏎") or "∅"
