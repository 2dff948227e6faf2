"""Grids of pictures as PNG files, drawn without a browser."""

import io
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from figures.t2i_flow_grids import Grid, grids_of, grown
from interp.tables import Tables

EDGE, GAP, LINE, HEAD, TITLE = 16, 14, 15, 26, 30
"""Pixels: around everything, between pictures, of a line under one, of a row's text, of the title."""
LABEL_LINES = 2
NARROWEST, HIGHEST = 640, 6000
"""Pixels that a title needs, and that a file has at most: what does not fit is said to be left out."""


def grid_documents(tables: Tables) -> dict[str, bytes]:
    """Returns `grids/<name>.png` for every grid there are pictures for, as bytes of PNG files."""
    return {f"grids/{name}.png": grid_png(grid) for name, grid in grids_of(tables).items()}


def grid_png(grid: Grid, *, highest: int = HIGHEST) -> bytes:
    """Returns the bytes of a PNG file: title, rows of pictures under their texts and above their labels, caption.

    It has as many rows as fit into `highest` pixels, at least one; the last line says how many there are more.
    """
    pictures = [[grown(shown.picture) for shown in row] for _, row in grid.rows]
    side_y, side_x = (max(picture.shape[axis] for row in pictures for picture in row) for axis in (0, 1))
    step_x, step_y = side_x + GAP, HEAD + side_y + LABEL_LINES * LINE + GAP
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
            canvas.paste(Image.fromarray(picture.astype(np.uint8)), (left, top + HEAD))
            for line, words in enumerate(_wrapped(one.label, draw, small, side_x + GAP - 2)):
                at = (left + side_x / 2, top + HEAD + side_y + 2 + line * LINE)
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
