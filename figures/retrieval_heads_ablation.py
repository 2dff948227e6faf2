"""Figures of what masking heads did: against random heads, and detector by detector."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, ORANGE, RED, band, styled


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
