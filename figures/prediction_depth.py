"""Figures of the prediction_depth experiment, each from its tables."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, RED, SKY, band, drawn, error_bars, styled
from interp.tables import Tables

LENSES = {"logit": BLUE, "tuned": ORANGE, "shuffled": GREY, "less unigram": GREEN, "upper layers": PURPLE}
_BELOW = {"orientation": "h", "y": -0.2, "x": 0}


def draw_all(tables: Tables) -> dict[str, go.Figure]:
    """Returns all figures."""
    return {
        "depths": drawn(plot_depths, tables, "quality"),
        "contrasts": drawn(plot_contrasts, tables, "contrasts"),
        "settled": drawn(plot_settled, tables, "settled"),
        "ways": drawn(plot_ways, tables, "ways"),
        "selective": drawn(plot_selective, tables, "selective"),
        "skips": drawn(plot_skips, tables, "skip_costs"),
        "drafts": drawn(plot_drafts, tables, "accepted"),
        "woven": drawn(plot_woven, tables, "woven"),
    }


def _curve(figure: go.Figure, rows: pd.DataFrame, x: str, name: str, colour: str, *, col: int = 1) -> None:
    """A line with its interval."""
    rows = rows.sort_values(x)
    at, low, high = (rows[column].tolist() for column in (x, "ci_low", "ci_high"))
    figure.add_trace(band(at, low, high, colour, name), row=1, col=col)
    figure.add_scatter(
        x=at, y=rows["value"], mode="lines+markers", name=name, legendgroup=name, showlegend=col == 1,
        line={"color": colour, "width": 1.8}, marker={"size": 4}, row=1, col=col,
    )  # fmt: skip


def _panels(*titles: str) -> go.Figure:
    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.11)


def _wide(figure: go.Figure, title: str, caption: str, *, width: int = 1000) -> go.Figure:
    figure = styled(figure, title=title, caption=caption, width=width, height=480)
    return figure.update_layout(legend=_BELOW, margin={"t": 90, "b": 110})


def plot_depths(quality: pd.DataFrame) -> go.Figure:
    """Returns how near each depth's predictions are to the last one's, and how many of them are among the ten commonest tokens."""
    figure = _panels(
        "same top token as the model", "KL from the model's prediction", "among the ten most common tokens"
    )
    for col, quantity in enumerate(("agreement", "kl_nats", "common_share"), start=1):
        for lens, rows in quality[quality["quantity"] == quantity].groupby("lens", sort=False):
            _curve(figure, rows, "depth", str(lens), LENSES[str(lens)], col=col)
    figure.update_xaxes(title="depth (layers applied)")
    figure.update_yaxes(title="share of tokens", col=1)
    figure.update_yaxes(title="nats (log scale)", type="log", col=2)
    figure.update_yaxes(title="share of tokens", col=3)
    caption = "Means over tokens with 95% intervals (texts resampled). shuffled: a lens trained on predictions at other positions."
    return _wide(figure, "What each depth predicts", caption, width=1200)


def plot_contrasts(contrasts: pd.DataFrame) -> go.Figure:
    """Returns differences of settle depth between kinds of tokens, as they are and under controls for frequency."""
    figure = go.Figure()
    shown = contrasts.dropna(subset="value")
    for lens, colour in LENSES.items():
        for matched in (False, True):
            rows = shown[(shown["lens"] == lens) & (shown["matched"] == matched)]
            if not len(rows):
                continue
            name = f"{lens}, matched in frequency" if matched else lens
            figure.add_scatter(
                x=rows["value"], y=rows["contrast"].map(_broken), mode="markers", name=name,
                marker={"color": colour, "size": 9, "symbol": "diamond-open" if matched else "circle"},
                error_x=error_bars(rows["value"], rows["ci_low"], rows["ci_high"]),
            )  # fmt: skip
    figure.add_vline(x=0, line_dash="dash", line_color="gray")
    figure.update_layout(scattermode="group", scattergap=0.4)
    figure.update_xaxes(title="difference of settle depth (layers)")
    figure.update_yaxes(autorange="reversed")
    caption = "Negative: settles earlier. 95% intervals (texts or questions resampled)."
    figure = styled(figure, title="What settles earlier", caption=caption, width=900, height=620)
    return figure.update_layout(legend={"orientation": "h", "y": -0.15, "x": 0}, margin={"l": 190, "b": 140})


def _broken(text: str) -> str:
    return text.replace(" less ", "<br>less ").replace(", both", ",<br>both")


def plot_settled(settled: pd.DataFrame) -> go.Figure:
    """Returns mean settle depths by class, frequency, position and surprisal."""
    groupings = ("token class", "log10 frequency", "quarter of the text", "surprisal")
    units = ("token class", "log10 per million tokens", "quarter of the text", "surprisal, nats")
    figure = make_subplots(rows=1, cols=4, subplot_titles=units, shared_yaxes=True, horizontal_spacing=0.03)
    for col, grouping in enumerate(groupings, start=1):
        for lens, rows in settled[(settled["grouping"] == grouping)].groupby("lens", sort=False):
            ordered = rows.sort_values("group", key=lambda groups: groups.map(_order))
            figure.add_scatter(
                x=ordered["group"].map(_group), y=ordered["value"], mode="markers+lines", name=str(lens), legendgroup=str(lens),
                showlegend=col == 1, line={"color": LENSES[str(lens)], "width": 1},
                error_y=error_bars(ordered["value"], ordered["ci_low"], ordered["ci_high"]), row=1, col=col,
            )  # fmt: skip
    figure.update_yaxes(title="settle depth (layers)", col=1)
    figure.update_xaxes(tickangle=-35)
    caption = "Means with 95% intervals (texts resampled)."
    figure = _wide(figure, "Where predictions settle", caption, width=1200)
    return figure.update_layout(legend={"orientation": "h", "y": -0.36, "x": 0}, margin={"b": 170})


def _order(group: str) -> tuple[float, str]:
    low = group.strip("(]").split(",")[0]
    return (float(low), "") if low.lstrip("-").replace(".", "").replace("inf", "0").isdigit() else (0.0, group)


def _group(group: str) -> str:
    """An interval (1.0, 2.0] in words, and quarters counted from 1."""
    if not group.startswith("("):
        return f"{int(group) + 1}." if group.isdigit() else group
    low, high = (float(part) for part in group.strip("(]").split(","))
    if low == -math.inf:
        return f"up to {high:g}"
    return f"over {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def plot_ways(ways: pd.DataFrame) -> go.Figure:
    """Returns how often each way of reading an early state out says what the model will say, and what is right."""
    figure = _panels("says what the model says", "says the right first token")
    for col, quantity in enumerate(("agrees", "is_right"), start=1):
        for way, rows in ways[ways["quantity"] == quantity].groupby("way", sort=False):
            _curve(figure, rows, "depth", str(way), LENSES[str(way)], col=col)
    chance = ways[ways["quantity"] == "agrees_with_another"].groupby("depth", as_index=False)["value"].max()
    figure.add_scatter(
        x=chance["depth"], y=chance["value"], mode="lines", name="what it says to another question (highest of the ways)",
        line={"color": "black", "dash": "dot", "width": 1}, row=1, col=1,
    )  # fmt: skip
    figure.update_xaxes(title="depth (layers applied)")
    figure.update_yaxes(title="share of questions", range=[0, 1])
    return _wide(figure, "Decoding the first token of an answer", "95% intervals (questions resampled).", width=1000)


def plot_selective(selective: pd.DataFrame) -> go.Figure:
    """Returns accuracy when only the questions are answered that a signal is surest of."""
    figure = go.Figure()
    colours = dict(zip(selective["signal"].drop_duplicates(), PALETTE, strict=False))
    for signal, rows in selective.groupby("signal", sort=False):
        dash = "dot" if "shuffled" in str(signal) else "solid"
        figure.add_scatter(
            x=rows["coverage"], y=rows["value"], mode="lines+markers", name=str(signal),
            line={"color": colours[signal], "dash": dash}, marker={"size": 5},
            error_y=error_bars(rows["value"], rows["ci_low"], rows["ci_high"]) if signal in ("readout", "probability") else None,
        )  # fmt: skip
    figure.update_xaxes(title="share of questions answered", tickformat=".0%")
    figure.update_yaxes(title="share of these answered right", tickformat=".0%", range=[0, 1])
    caption = "95% intervals for two of the signals (questions resampled)."
    return styled(figure, title="Selective answering", caption=caption, width=860)


ARMS = {"drop_top": BLUE, "drop_lower_middle": ORANGE, "stride": GREEN, "random": GREY}


def plot_skips(skip_costs: pd.DataFrame) -> go.Figure:
    """Returns what leaving layers out costs, by arm, schedule and budget."""
    costs = skip_costs[skip_costs["quantity"] == "change_nats"]
    budgets = sorted(set(costs["budget"]), reverse=True)
    figure = _panels(*(f"{budget:.0%} of the layers" for budget in budgets))
    for col, budget in enumerate(budgets, start=1):
        for arm, rows in costs[costs["budget"] == budget].groupby("arm", sort=False):
            figure.add_bar(
                x=rows["schedule"], y=rows["value"], name=str(arm).replace("_", " "), legendgroup=str(arm), showlegend=col == 1,
                marker_color=ARMS[str(arm)], error_y=error_bars(rows["value"], rows["ci_low"], rows["ci_high"]), row=1, col=col,
            )  # fmt: skip
    figure.update_yaxes(title="surprisal added (nats per token)")
    figure.update_xaxes(title="layers over position")
    caption = "Same number of layers in all; 95% intervals (texts resampled)."
    return _wide(figure, "Skipped layers, at equal budget", caption)


def plot_drafts(accepted: pd.DataFrame) -> go.Figure:
    """Returns tokens a pass for each kind of draft, on what the model writes and on news."""
    figure = go.Figure()
    for (domain, rows), colour in zip(accepted.groupby("domain", sort=False), (BLUE, ORANGE), strict=False):
        figure.add_bar(
            x=rows["drafter"], y=rows["value"], name=str(domain), marker_color=colour,
            error_y=error_bars(rows["value"], rows["ci_low"], rows["ci_high"]),
        )  # fmt: skip
    figure.add_hline(y=1, line_dash="dash", line_color="gray")
    figure.update_yaxes(title="tokens per pass")
    caption = "Replayed offline; trees of 80 nodes, prompt lookup copies 10 tokens; 95% intervals (texts resampled)."
    return styled(figure, title="Accepted drafts", caption=caption)


def plot_woven(woven: pd.DataFrame) -> go.Figure:
    """Returns what adding earlier layers' states does to surprisal, against a random direction of the same length."""
    sites = woven["site"].drop_duplicates().tolist()
    figure = _panels(*(f"at {site}" for site in sites))
    for col, site in enumerate(sites, start=1):
        for added, colour in (("earlier states", RED), ("random direction", SKY)):
            rows = woven[(woven["site"] == site) & (woven["added"] == added)]
            _curve(figure, rows, "beta", added, colour, col=col)
    figure.add_hline(y=0, line_dash="dash", line_color="gray")
    figure.update_xaxes(title="strength β", type="log" if (woven["beta"] > 0).all() else "linear")
    figure.update_yaxes(title="change of surprisal (nats per token)")
    return _wide(figure, "Adding earlier layers' states (reweaving)", "95% intervals (texts resampled).")


def plot_compared(quality: pd.DataFrame) -> go.Figure:
    """Returns how often each share of the layers says what the last one says, for several runs, one panel for each lens."""
    rows = quality[quality["quantity"] == "agreement"]
    rows = rows.assign(share=rows["depth"] / rows.groupby("run")["depth"].transform("max"))
    lenses = list(dict.fromkeys(rows["lens"]))
    colours = dict(zip(dict.fromkeys(rows["run"]), PALETTE * 3, strict=False))
    figure = _panels(*lenses)
    for col, lens in enumerate(lenses, start=1):
        for run, part in rows[rows["lens"] == lens].groupby("run", sort=False):
            _curve(figure, part, "share", str(run), colours[str(run)], col=col)
    named: set[str] = set()
    drawn_lines: Any = figure.select_traces(selector={"mode": "lines+markers"})
    for trace in drawn_lines:  # a run need not have the first panel's lens
        trace.showlegend = trace.name not in named
        named.add(trace.name)
    figure.update_xaxes(title="share of layers passed")
    figure.update_yaxes(title="same top token as the model", range=[-0.03, 1.03], col=1)
    caption = "Share of tokens with 95% intervals (texts resampled)."
    return _wide(figure, "What each depth predicts, by run", caption, width=300 + 300 * len(lenses))
