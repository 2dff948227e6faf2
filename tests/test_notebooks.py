"""The notebooks run from first to last cell on the default model, and show tables and figures; what is committed is what they show."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from experiments.notebooks import FOLDER, is_older, names
from interp.experiments.catalogue import experiments

NOTEBOOKS = names()
COMMITTED = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 300_000
"""Bytes of a notebook that a code host still shows at once."""


def test_every_experiment_has_a_notebook_and_there_is_a_tour() -> None:
    assert set(NOTEBOOKS) == {"tour", *experiments()}


@pytest.mark.slow
def test_every_notebook_is_committed_with_what_it_shows() -> None:
    assert COMMITTED == NOTEBOOKS, "run `make notebooks` and commit what it writes"


@pytest.mark.parametrize("name", COMMITTED)
def test_what_is_committed_is_made_from_the_text_beside_it_and_easy_to_read(name: str) -> None:
    assert not is_older(name), f"run `python -m experiments.notebooks {name}` and commit notebooks/{name}.ipynb"
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size <= LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds <= {"image/png", "text/html", "text/plain"}
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = [output.get("text") or {**output.data, "image/png": ""} for output in outputs]
    assert not re.search(r"(?<![\w.)])/(tmp|home|root|Users|work|var)/", str(shown))


def test_a_notebook_is_older_when_a_cell_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.notebooks.FOLDER", tmp_path)
    text = tmp_path / "one.py"
    text.write_text("# %% [markdown]\n# # One\n\n# %%\n1 + 1\n")
    assert is_older("one")  # there is none
    nbformat.write(jupytext.read(text), tmp_path / "one.ipynb")
    assert not is_older("one")
    text.write_text(text.read_text() + "# a remark\n")
    assert is_older("one")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_shows_tables_and_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = jupytext.read(FOLDER / f"{name}.py")
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = [kind for output in outputs if "data" in output for kind in output["data"]]
    assert "application/vnd.plotly.v1+json" in kinds
    assert any("<table" in output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert list(tmp_path.glob("runs/*/*/*/report.html"))
