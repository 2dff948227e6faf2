"""Runs the notebooks and stores their outputs, so that they can be read on a code host: `make notebooks` turns notebooks/*.py into *.ipynb.

    python -m experiments.notebooks          # the notebooks whose text has changed
    python -m experiments.notebooks tour     # this notebook, changed or not

Figures become PNG images; progress bars, folder names and run times are left out.
"""

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient

from interp.experiments.export import shrink_png, write_images

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"
KEPT = ("image/png", "text/html", "text/plain")


def names() -> list[str]:
    """Returns the names of all notebooks."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def cells_of(path: Path) -> list[tuple[str, str]]:
    """Returns the kind and source of every cell of a notebook, in either of its forms."""
    notebook: Any = jupytext.read(path)
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def is_older(name: str) -> bool:
    """Returns whether a notebook's .ipynb is missing or made from another text."""
    written = FOLDER / f"{name}.ipynb"
    return not written.is_file() or cells_of(written) != cells_of(FOLDER / f"{name}.py")


def write(name: str) -> Path:
    """Runs a notebook in an empty folder and writes its .ipynb; returns the path.

    Raises nbclient's CellExecutionError when a cell fails.
    """
    notebook: Any = jupytext.read(FOLDER / f"{name}.py")
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = [_static(output, folder) for output in cell.outputs if _is_shown(output)]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    path = FOLDER / f"{name}.ipynb"
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def _is_shown(output: Any) -> bool:
    """Whether an output is more than progress and warnings, and not a widget."""
    return output.get("name") != "stderr" and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def _static(output: Any, folder: str) -> Any:
    """The output with its figure as an image, and without the folder it was made in."""
    if "text" in output:
        output.text = output.text.replace(f"{folder}/", "")
        return output
    if PLOTLY in output.data:
        output.data = {"image/png": _png(output.data[PLOTLY])}
    output.data = {kind: value.replace(f"{folder}/", "") for kind, value in output.data.items() if kind in KEPT}
    output.metadata = {}
    return output


def _png(figure: Any) -> str:
    """A plotly figure, as JSON has it, as a small PNG."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = go.Figure({part: figure[part] for part in ("data", "layout")})
        (path,) = write_images({"figure": drawn}, Path(folder), ("png",), pixels_per_png_pixel=1)
        shrink_png(path)
        return base64.b64encode(path.read_bytes()).decode()


if __name__ == "__main__":
    for name in sys.argv[1:] or filter(is_older, names()):
        write(name)
