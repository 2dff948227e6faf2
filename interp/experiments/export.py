"""Exports of a run: figures as interactive pages always, and PDF, SVG, PNG and CSV on request."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from interp.errors import RunError
from interp.experiments.options import ExportFormat, FigureFormat
from interp.experiments.page import FIGURE_CONFIG
from interp.tables import write_aside

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from interp.experiments.run import Run

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PNG_COLOURS = 128


def write_figures(run: "Run") -> list[Path]:
    """Writes every figure of a run as an interactive page that works offline; returns the paths."""
    return write_figure_pages(run.figures, run.folder / "figures")


def write_figure_pages(figures: "Mapping[str, go.Figure]", folder: Path) -> list[Path]:
    """Writes figures as `<name>.html`, interactive pages that work offline together with the script beside them."""
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.html"
        page = figure.to_html(include_plotlyjs="plotly.min.js", full_html=True, config=FIGURE_CONFIG)
        write_aside(path, lambda aside, page=page: aside.write_text(page, encoding="utf-8"))
        paths.append(path)
    from plotly.offline import get_plotlyjs

    script = folder / "plotly.min.js"
    write_aside(script, lambda aside: aside.write_text(get_plotlyjs(), encoding="utf-8"))
    return paths


def export_run(run: "Run", formats: Sequence[ExportFormat]) -> list[Path]:
    """Writes every figure of a run in each image format, and its tables if CSV is requested; returns the paths.

    Raises RunError when no Chromium is there to draw the figures.
    """
    pictures: list[FigureFormat] = [format for format in get_args(FigureFormat) if format in formats]
    tables = write_csv(run) if "csv" in formats else []
    return [*tables, *(export_figures(run, pictures) if pictures else [])]


def write_csv(run: "Run") -> list[Path]:
    """Writes every table of a run as `tables/<name>.csv` beside its parquet file, without pictures; returns the paths."""
    paths = []
    for name, frame in run.tables.items():
        path = run.folder / "tables" / f"{name}.csv"
        pictures = [column for column in frame if any(isinstance(value, bytes) for value in frame[column])]
        shown = frame.drop(columns=pictures)
        write_aside(path, lambda aside, shown=shown: shown.to_csv(aside, index=False, lineterminator="\n"))
        paths.append(path)
    return paths


def export_figures(run: "Run", formats: Sequence[FigureFormat]) -> list[Path]:
    """Writes every figure of a run in each format; returns the paths.

    Raises RunError when no Chromium is there to draw them.
    """
    return write_images(run.figures, run.folder / "figures", formats)


def write_images(
    figures: "Mapping[str, go.Figure]",
    folder: Path,
    formats: Sequence[FigureFormat],
    *,
    pixels_per_png_pixel: float = 3,
) -> list[Path]:
    """Writes figures as `<name>.<format>`; returns the paths.

    Raises RunError when no Chromium is there to draw them.
    """
    import plotly.io

    require_browser()
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[Any, Path]] = [
        (figure, folder / f"{name}.{format}") for name, figure in figures.items() for format in formats
    ]
    plotly.io.write_images(
        fig=[figure for figure, _ in jobs],
        file=[str(path) for _, path in jobs],
        scale=[pixels_per_png_pixel if path.suffix == ".png" else 1 for _, path in jobs],
        width=[figure.layout.width for figure, _ in jobs],  # or plotly writes all in its own default size
        height=[figure.layout.height for figure, _ in jobs],
    )
    return [path for _, path in jobs]


def shrink_png(path: Path) -> None:
    """Writes a PNG file again with at most PNG_COLOURS colours, a third of the size for a chart.

    The colours kept are those that lie furthest apart, so that a few red dots among many greys stay red; Pillow's own
    choice, by how many pixels have a colour, made the red diamonds of a grid of pictures pink.
    """
    from PIL import Image

    small = (
        Image.open(path)
        .convert("RGB")
        .quantize(PNG_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    small.save(path, optimize=True)


def require_browser() -> str:
    """Returns the path of the browser that figure export will use.

    Raises RunError when there is none.
    """
    from choreographer.cli._cli_utils import get_chrome_download_path  # where plotly_get_chrome puts it

    named = os.environ.get("BROWSER_PATH")
    if named:
        if Path(named).is_file():
            return named
        raise RunError(f"BROWSER_PATH names {named}, which is no file: set it to a Chromium or Chrome, or unset it.")
    downloaded = get_chrome_download_path(mkdir=False)
    for path in (*map(shutil.which, _BROWSERS), downloaded):
        if path and Path(path).is_file():
            return str(path)
    raise RunError(
        "Writing PDF, SVG or PNG needs a Chromium or Chrome: install one (Debian: apt-get install chromium; elsewhere: "
        "plotly_get_chrome) or set BROWSER_PATH to it; the HTML figures need none."
    )
