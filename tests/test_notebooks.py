"""The notebooks run from first to last cell on the default model, and show tables and figures."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from interp.experiments.catalogue import experiments

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.py"))


def test_every_experiment_has_a_notebook_and_there_is_a_tour() -> None:
    assert set(NOTEBOOKS) == {"tour", *experiments()}


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
