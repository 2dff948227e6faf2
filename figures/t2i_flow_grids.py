"""Grids of pictures with what each shows, as figures and as PNG files."""

import base64
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image, ImageDraw, ImageFont

from figures.style import styled
from interp.tables import Tables

SIDE = 92
"""Pixels of a picture's longer side in a grid; whole multiples of small pictures, so that their pixels stay sharp."""
GAP, LABEL, HEAD = 14, 20, 30
NARROWEST = 640
"""Pixels that a title needs."""
ROLES = {"bos": "[bos]", "eos": "[eos]", "pad": "[pad]", "article": "article", "other_words": "other words"}
ARMS = {
    "full": "before",
    "paste": "pasted",
    "random_paste": "pasted elsewhere",
    "attention": "context hidden",
    "without_redundant": "redundant out",
}


class Shown(NamedTuple):
    """A picture and what stands under it."""

    label: str
    picture: np.ndarray


class Grid(NamedTuple):
    """Rows of pictures, each with the text that it is of."""

    title: str
    caption: str
    rows: Sequence[tuple[str, Sequence[Shown]]]


def read_png(png: bytes) -> np.ndarray:
    """Returns a PNG file's bytes as whole numbers from 0 to 255, [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def grown(picture: np.ndarray) -> np.ndarray:
    """Returns a picture of SIDE pixels or the whole multiple just above, every pixel a sharp square; large ones are shrunk."""
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        times = int(np.ceil(factor))
        return picture.repeat(times, axis=0).repeat(times, axis=1)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def plot_grid(grid: Grid) -> go.Figure:
    """Returns rows of pictures, each row under its text and each picture above its label."""
    rows = grid.rows
    pictures = [[grown(shown.picture) for shown in row] for _, row in rows]
    side_y = max(picture.shape[0] for row in pictures for picture in row)
    side_x = max(picture.shape[1] for row in pictures for picture in row)
    n_columns = max(len(row) for row in pictures)
    step_x, step_y = side_x + GAP, HEAD + side_y + LABEL
    canvas = np.full((len(rows) * step_y, n_columns * step_x, 3), 255, dtype=np.uint8)
    notes = []
    for r, ((text, shown), row) in enumerate(zip(rows, pictures, strict=True)):
        top = r * step_y + HEAD
        notes.append(_note(text, 0, top - 4, "left", 13, "bottom"))
        for c, (one, picture) in enumerate(zip(shown, row, strict=True)):
            left = c * step_x
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            notes.append(_note(one.label, left + side_x / 2, top + side_y + 2, "center", 11, "top"))
    figure = go.Figure(go.Image(source=_data_uri(canvas), hoverinfo="skip"))
    width = max(NARROWEST, canvas.shape[1])
    styled(figure, title=grid.title, caption=grid.caption, width=width + 60, height=canvas.shape[0] + 80)
    hidden = {"visible": False, "showline": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(range=[-0.5, width - 0.5], constrain="domain", **hidden)
    figure.update_yaxes(range=[canvas.shape[0] - 0.5, -0.5], scaleanchor="x", **hidden)
    figure.update_layout(annotations=notes, margin={"l": 20, "r": 20, "t": 55, "b": 15})
    return figure


def _note(text: str, x: int | float, y: int | float, anchor: str, size: int, yanchor: str) -> dict:
    return {
        "text": text, "x": x, "y": y, "xanchor": anchor, "yanchor": yanchor, "showarrow": False,
        "font": {"size": size}, "xref": "x", "yref": "y",
    }  # fmt: skip


def _data_uri(picture: np.ndarray) -> str:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


# ---------------------------------------------------------------------- which pictures


def grids_of(tables: Tables) -> dict[str, Grid]:
    """Returns every grid there are pictures for, by name."""
    return {name: GRIDS[name](*(tables[table] for table in read)) for name, read in tables_of_grids(tables).items()}


def tables_of_grids(tables: Tables) -> dict[str, tuple[str, ...]]:
    """Returns the tables each grid is made from, for those there are pictures for."""
    parts = {"in_item": "token_grid", "inter_item": "prompt_grid", "repair": "repair_grid"}
    found: dict[str, tuple[str, ...]] = {
        name: ("pictures", "prompts") for part, name in parts.items() if (tables["pictures"]["part"] == part).any()
    }
    return {**found, "heat_maps": ("heat_maps", "pictures", "prompts")} if len(tables["heat_maps"]) else found


def plot_pictures(*tables: pd.DataFrame, grid: str) -> go.Figure:
    """Returns one of GRIDS as a figure, from the tables that it is made from."""
    return plot_grid(GRIDS[grid](*tables))


def token_grid(pictures: pd.DataFrame, prompts: pd.DataFrame) -> Grid:
    """Returns each item alone as a row: the whole text, nothing of it, each role, each of its tokens, the item."""
    some = pictures[(pictures["part"] == "in_item")]
    some = some[(some["variant"] != "tokens") | ~some["kept_positions"].str.contains(" ")]
    order = {"full": 0, "item": 1, "tokens": 2, "article": 3, "bos": 4, "eos": 5, "pad": 6, "clean": 7}
    texts = dict(zip("alone " + prompts["alone_text"], prompts["alone_text"], strict=True))
    return Grid(
        f"What each token shows by itself · {pictures['model'].iloc[0]}",
        "Every other position is clean padding, after the text encoder; all pictures of a row from the same noise.",
        _rows(
            some, order, _kept_label, {name: texts.get(name, name.removeprefix("alone ")) for name in some["prompt_id"]}
        ),
    )


def prompt_grid(pictures: pd.DataFrame, prompts: pd.DataFrame) -> Grid:
    """Returns each prompt as a row: whole, nothing, roles, and each item with its vectors from the prompt and alone."""
    some = pictures[(pictures["part"] == "inter_item") & ~pictures["variant"].isin(["word_only", "word_without"])]
    order = {"full": 0, "item": 1, "alone": 2, "other_words": 3, "article": 4, "bos": 5, "eos": 6, "pad": 7, "clean": 8}
    return Grid(
        f"What is kept of a prompt, and what it shows · {pictures['model'].iloc[0]}",
        "An item with the vectors it has in the prompt, or with those it has when encoded alone, everything else clean "
        "padding; all pictures of a row from the same noise.",
        _rows(some, order, _flow_label, dict(zip(prompts["prompt_id"], prompts["text"], strict=True))),
    )


def repair_grid(pictures: pd.DataFrame, prompts: pd.DataFrame) -> Grid:
    """Returns each prompt with a repaired item as a row: before, repaired, and the baselines."""
    some = pictures[pictures["part"] == "repair"]
    order = {name: index for index, name in enumerate(ARMS)}
    return Grid(
        f"Repair: vectors encoded alone, pasted into the prompt · {pictures['model'].iloc[0]}",
        "All pictures of a row from the same noise.",
        _rows(some, order, _arm_label, dict(zip(prompts["prompt_id"], prompts["text"], strict=True))),
    )


def _rows(
    pictures: pd.DataFrame, order: dict[str, int], label: Callable[..., str], texts: dict[str, str]
) -> list[tuple[str, list[Shown]]]:
    rows = []
    for prompt_id, some in pictures.groupby("prompt_id", sort=False):
        ranked = some.assign(rank=some["variant"].map(order)).sort_values("rank", kind="stable")
        cells: list[Any] = list(ranked.itertuples())
        shown = [Shown(label(cell), read_png(cell.png)) for cell in cells]
        rows.append((texts[str(prompt_id)], shown))
    return rows


def _token(text: str) -> str:
    return text.replace("</w>", "").replace("▁", "")


def _kept_label(row: Any) -> str:
    names = {"full": "all", "clean": "nothing", "item": "the item", "tokens": _token(row.kept_tokens), **ROLES}
    return names[row.variant]


def _flow_label(row: Any) -> str:
    names = {"full": "all", "clean": "nothing", "item": row.source_item, "alone": f"{row.source_item}, alone", **ROLES}
    return names[row.variant]


def _arm_label(row: Any) -> str:
    return ARMS[row.variant]


# ---------------------------------------------------------------------- heat maps


def heat_map_grid(maps: pd.DataFrame, pictures: pd.DataFrame, prompts: pd.DataFrame) -> Grid:
    """Returns each prompt's picture, then beside it where each word is looked at, bright over the darkened picture."""
    full = pictures[(pictures["part"] == "inter_item") & (pictures["variant"] == "full")]
    whole: dict[str, Any] = dict(zip(full["prompt_id"], full["png"], strict=True))
    texts = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
    rows = []
    for prompt_id, words in maps.groupby("prompt_id", sort=False):
        picture = read_png(whole[str(prompt_id)])
        shown = [Shown("picture", picture)]
        for row in words.itertuples():
            attention = np.array(list(row.attention), dtype=float).reshape(row.height, row.width)  # type: ignore[arg-type]
            shown.append(Shown(str(row.word), overlaid(picture, attention)))
        rows.append((texts[str(prompt_id)], shown))
    return Grid(
        f"Where each word is looked at · {maps['model'].iloc[0]}",
        "Cross-attention of all layers, heads and steps, each map from its least to its most: it says where the model "
        "looked, not what that look did.",
        rows,
    )


def overlaid(picture: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Returns the picture dimmed, with attention (brought to 0 … 1 and to the picture's size) in orange over it."""
    low, high = attention.min(), attention.max()
    share = (attention - low) / (high - low) if high > low else np.zeros_like(attention)
    size = (picture.shape[1], picture.shape[0])
    share = np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)[
        ..., None
    ]
    return (0.45 * picture * (1 - share) + np.array([255, 176, 0]) * share).round().clip(0, 255).astype(np.uint8)


GRIDS: dict[str, Callable[..., Grid]] = {
    "token_grid": token_grid, "prompt_grid": prompt_grid, "repair_grid": repair_grid, "heat_maps": heat_map_grid,
}  # fmt: skip
"""Every grid by name."""


EDGE, LINE, TEXT, TITLE = 16, 15, 26, 30
"""Pixels in a PNG file: around everything, of a line under a picture, of a row's text, of the title."""
LABEL_LINES = 2
HIGHEST = 6000
"""Pixels that a PNG file has at most: what does not fit is said to be left out."""


def grid_documents(tables: Tables) -> dict[str, bytes]:
    """Returns `grids/<name>.png` for every grid there are pictures for, as bytes of PNG files."""
    return {f"grids/{name}.png": grid_png(grid) for name, grid in grids_of(tables).items()}


def grid_png(grid: Grid, *, highest: int = HIGHEST) -> bytes:
    """Returns the bytes of a PNG file: title, rows of pictures under their texts and above their labels, caption.

    It has as many rows as fit into `highest` pixels, at least one; the last line says how many there are more.
    """
    pictures = [[grown(shown.picture) for shown in row] for _, row in grid.rows]
    side_y, side_x = (max(picture.shape[axis] for row in pictures for picture in row) for axis in (0, 1))
    step_x, step_y = side_x + GAP, TEXT + side_y + LABEL_LINES * LINE + GAP
    width = max(NARROWEST, max(len(row) for row in pictures) * step_x) + 2 * EDGE
    foot = textwrap.wrap(grid.caption, width // 7)
    n_rows = max(1, min(len(grid.rows), (highest - 2 * EDGE - TITLE - (len(foot) + 1) * LINE) // step_y))
    if n_rows < len(grid.rows):
        foot.append(f"{len(grid.rows) - n_rows} more rows are in the table `pictures`.")
    height = 2 * EDGE + TITLE + n_rows * step_y + len(foot) * LINE
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    large, middle, small = (ImageFont.load_default(size) for size in (18, 14, 12))
    draw.text((EDGE, EDGE), grid.title, fill="black", font=large)
    for number, ((text, shown), row) in enumerate(zip(grid.rows[:n_rows], pictures, strict=False)):
        top = EDGE + TITLE + number * step_y
        draw.text((EDGE, top + 4), text, fill="black", font=middle)
        for column, (one, picture) in enumerate(zip(shown, row, strict=True)):
            left = EDGE + column * step_x
            canvas.paste(Image.fromarray(picture.astype(np.uint8)), (left, top + TEXT))
            for line, words in enumerate(_wrapped(one.label, draw, small, side_x + GAP - 2)):
                at = (left + side_x / 2, top + TEXT + side_y + 2 + line * LINE)
                draw.text(at, words, fill="#333", font=small, anchor="ma")
    for line, words in enumerate(foot):
        draw.text((EDGE, EDGE + TITLE + n_rows * step_y + line * LINE), words, fill="#333", font=small)
    written = io.BytesIO()
    canvas.save(written, format="PNG", optimize=True)
    return written.getvalue()


def _wrapped(
    label: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> list[str]:
    """The label in at most LABEL_LINES lines of that many pixels, the last one cut where it must be."""
    lines: list[str] = []
    for word in label.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font=font) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    shown = lines[:LABEL_LINES]
    while len(lines) > LABEL_LINES and shown[-1] and draw.textlength(f"{shown[-1]}…", font=font) > width:
        shown[-1] = shown[-1][:-1]
    return [*shown[:-1], f"{shown[-1]}…"] if len(lines) > LABEL_LINES else shown
