"""Figures are exported by a browser: it is found where it is, and a sentence says where it is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.errors import RunError
from interp.experiments.export import export_figures, export_run, require_browser
from interp.experiments.run import Run
from tests.counting import Counting, environment


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny, texts=1).run(out=tmp_path_factory.mktemp("exported"))


@pytest.fixture
def no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the only place where programs are looked for, by the toolkit and by plotly's exporter."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr("choreographer.browsers.chromium.get_chrome_download_path", lambda **_: None)
    monkeypatch.setattr("choreographer.browsers.chromium.get_old_chrome_download_path", lambda: None)
    monkeypatch.setattr("choreographer.browsers.chromium._is_exe", lambda _: False)  # the usual places
    return tmp_path


def test_export_without_a_browser_says_what_to_install(run: Run, no_browser: Path) -> None:
    with pytest.raises(RunError) as refusal:
        export_figures(run, ("pdf",))
    assert str(refusal.value) == (
        "Writing PDF, SVG or PNG needs a Chromium or Chrome: install one (Debian: apt-get install chromium; elsewhere: "
        "plotly_get_chrome) or set BROWSER_PATH to it; the HTML figures need none."
    )
    assert not list(run.folder.glob("figures/*.pdf"))


def test_tables_are_exported_as_csv_without_a_browser_and_pictures_are_left_out(
    run: Run, no_browser: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, table = next(iter(run.tables.items()))
    monkeypatch.setitem(run.__dict__, "tables", {**run.tables, name: table.assign(png=b"\x89PNG")})
    written = export_run(run, ["csv"])
    assert {path.stem for path in written} == set(run.tables)
    for path in written:
        again, stored = pd.read_csv(path), run.tables[path.stem].drop(columns="png", errors="ignore")
        assert list(again.columns) == list(stored.columns)
        assert len(again) == len(stored)
        for column in stored.select_dtypes("number"):
            np.testing.assert_allclose(again[column], stored[column], rtol=1e-6)


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge"])
def test_a_browser_is_found_by_its_name_or_where_it_is_said_to_be(
    no_browser: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    named = program(no_browser, name)
    assert require_browser() == str(named)
    own = program(no_browser / "own", "browser")
    monkeypatch.setenv("BROWSER_PATH", str(own))
    assert require_browser() == str(own)


def test_a_browser_path_that_leads_nowhere_is_said(no_browser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(no_browser, "chromium")  # plotly asks BROWSER_PATH alone where it is set
    monkeypatch.setenv("BROWSER_PATH", str(no_browser / "nowhere"))
    with pytest.raises(RunError, match="BROWSER_PATH"):
        require_browser()


FIND_DOWNLOADED = """
from choreographer.cli._cli_utils import get_chrome_download_path
from interp.experiments.export import require_browser
browser = get_chrome_download_path(mkdir=True)
assert str(browser).startswith(sys.argv[1]), browser
browser.parent.mkdir(parents=True)
browser.write_text("#!/bin/sh")
browser.chmod(0o755)
assert require_browser() == str(browser)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the download folder is moved by XDG_DATA_HOME, which Linux has")
def test_the_browser_that_plotly_get_chrome_downloads_is_found(no_browser: Path) -> None:
    variables = {**environment(no_browser), "PATH": str(no_browser), "XDG_DATA_HOME": str(no_browser)}
    variables.pop("BROWSER_PATH", None)
    command = [sys.executable, "-c", f"import sys{FIND_DOWNLOADED}", str(no_browser)]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
