"""Figures of what policies keep (tokens of one text, parts of a prompt) and of what one choice in a policy does."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from figures.style import BLUE, DASHES, GREY, PALETTE, SEQUENTIAL, error_bars, styled

TOKENS_OF_A_ROW = 96
"""Tokens beside each other whose text can still be read."""
LONGEST_TOKEN = 9


def plot_kept_tokens(kept_tokens: pd.DataFrame) -> go.Figure:
    """Returns how much of the cache keeps each token of one text, policies against positions, row after row with the text under it."""
    rows = kept_tokens[kept_tokens["policy"] != "full"]
    text_id = "needles-000" if "needles-000" in set(rows["text_id"]) else rows["text_id"].iloc[0]
    rows = rows[(rows["text_id"] == text_id)]
    rows = rows[rows["protection"] == rows["protection"].iloc[0]]
    budgets = sorted(rows["budget"].unique())
    rows = rows[rows["budget"] == budgets[len(budgets) // 2]]
    grid = rows.pivot_table(index="policy", columns="position", values="kept_share", sort=False)
    tokens = rows.drop_duplicates("position").sort_values("position")["token"].tolist()
    names, starts = list(grid.index), range(0, len(tokens), TOKENS_OF_A_ROW)
    height = len(starts) * (90 + 14 * len(names))
    figure = make_subplots(rows=len(starts), cols=1, vertical_spacing=78 / height)
    for row, start in enumerate(starts, start=1):
        places = list(range(start, min(start + TOKENS_OF_A_ROW, len(tokens))))
        figure.add_heatmap(
            z=grid[places].to_numpy(), x=places, y=names, coloraxis="coloraxis", customdata=[tokens[start:][:TOKENS_OF_A_ROW]] * len(names),
            hovertemplate="%{y}: %{customdata} (%{x}) %{z:.2f}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.update_xaxes(
            tickvals=places, ticktext=[_written(tokens[place]) for place in places], tickangle=-90, tickfont_size=8,
            range=[start - 0.5, start + TOKENS_OF_A_ROW - 0.5], row=row, col=1,
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", tickfont_size=9, tickvals=list(range(len(names))), ticktext=names)
    figure.update_layout(
        coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1, "colorbar": {"title": "share<br>of heads"}}
    )
    caption = f"Share of heads and layers that still read each token of {text_id} at the middle budget; the text runs from row to row."
    return styled(figure, title="What is kept", caption=caption, width=1180, height=180 + height)


def _written(token: str) -> str:
    """A token as a tick can show it."""
    plain = token.strip().replace("<", "‹").replace("$", "＄") or "·"
    return plain if len(plain) <= LONGEST_TOKEN else f"{plain[: LONGEST_TOKEN - 1]}…"


def plot_depths(depths: pd.DataFrame) -> go.Figure:
    """Returns the share of heads that read a token, by fifth of the prompt: which policies prefer old tokens or young ones."""
    rows = depths[depths["budget"] == sorted(depths["budget"].unique())[depths["budget"].nunique() // 2]]
    panels = list(dict.fromkeys(rows["material"]))
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.03)
    names = list(dict.fromkeys(rows["policy"]))
    for col, material in enumerate(panels, start=1):
        for place, name in enumerate(names):
            line = rows[(rows["material"] == material) & (rows["policy"] == name)].sort_values("depth_fraction")
            figure.add_scatter(
                x=line["depth_fraction"] + 0.1, y=line["value"], mode="lines+markers", name=name, legendgroup=name, showlegend=col == 1,
                error_y=error_bars(line["value"], line["ci_low"], line["ci_high"]), row=1, col=col,
                line={"color": PALETTE[place % len(PALETTE)], "dash": DASHES[place // len(PALETTE) % 3]},
            )  # fmt: skip
        figure.update_xaxes(
            title="position in the prompt", tickformat=".0%", range=[0, 1], tickvals=[0.2, 0.5, 0.8], row=1, col=col
        )
    figure.update_yaxes(title="share of heads that read a token", row=1, col=1)
    caption = (
        "Mean over heads, layers and the tokens of each fifth of the prompt, middle budget; 95% intervals over texts."
    )
    return styled(
        figure, title="Are old or recent tokens kept?", caption=caption, width=260 + 300 * len(panels), height=520
    )


def plot_variants(variants: pd.DataFrame) -> go.Figure:
    """Returns what one choice in a policy does to the surprisal of scored tokens, pairs of policies on the same texts."""
    rows = variants[variants["quantity"] == "change_nats"]
    rows = rows[rows["budget"] == sorted(rows["budget"].unique())[rows["budget"].nunique() // 2]]
    rows = rows[rows["scope"] == rows["scope"].iloc[0]]
    panels = list(dict.fromkeys(rows["material"]))
    labels = list(dict.fromkeys(rows["policy"] + " − " + rows["against"]))
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=panels, shared_yaxes=True, horizontal_spacing=0.04)
    for col, material in enumerate(panels, start=1):
        line = rows[rows["material"] == material]
        figure.add_scatter(
            x=line["value"], y=line["policy"] + " − " + line["against"], mode="markers", marker={"color": BLUE, "size": 8},
            error_x=error_bars(line["value"], line["ci_low"], line["ci_high"]), showlegend=False, row=1, col=col,
        )  # fmt: skip
        figure.add_vline(x=0, line_color=GREY, line_width=1, row=1, col=col)  # type: ignore[arg-type]
        figure.update_xaxes(title="nats per token", row=1, col=col)
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1])
    caption = (
        "Left of 0, the first policy of the pair loses less. Paired by text, middle budget; 95% intervals over texts."
    )
    return styled(
        figure,
        title="One choice at a time",
        caption=caption,
        width=420 + 260 * len(panels),
        height=220 + 26 * len(labels),
    )
