"""The report and the exported figures: one page that opens anywhere, and a sentence where a browser is missing."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from interp.errors import RunError
from interp.experiments.export import export_figures, require_browser, write_figures
from interp.experiments.report import ROWS_SHOWN, render_figure, render_report
from interp.experiments.run import Run
from tests.counting import Counting, environment, one_thread, save_model

HOSTILE = "<script>alert('x')</script> </script> & <img src=https://example.org/x.png> \"quoted\""
LOADING = ("src", "href", "data", "poster", "srcset", "action")


class Page(HTMLParser):
    """What a page is made of: its tags, what each would load or link to, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in LOADING]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["script"], ["style"]):
            self.texts.append(data.strip())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("report")
    with one_thread():
        yield Counting(model=str(save_model(folder / "tiny")), note=HOSTILE).run(out=folder / "runs")


def test_the_page_loads_nothing_and_links_only_into_the_run(run: Run) -> None:
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    page = Page(report)
    assert page.links == ["tables/texts.parquet", "tables/tokens.parquet"]
    assert all((run.folder / link).is_file() for link in page.links)
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert "@import" not in report.split("</style>")[0]
    assert "url(" not in report.split("</style>")[0]
    assert page.tags.count("html") == page.tags.count("body") == 1
    assert len(report) > 1_000_000  # plotly's script is inside


def test_words_of_the_run_stay_words(run: Run) -> None:
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    assert f"The texts are random. {HOSTILE}" in page.texts
    assert f"Mean surprisal of each text. {HOSTILE}" in page.texts
    assert HOSTILE in page.texts  # a cell, and the configuration
    # one script with plotly, and those of the one figure, whose axis has the hostile words too
    figure = Page(render_figure("surprisal", run.figures["surprisal"]))
    assert page.tags.count("script") == 1 + figure.tags.count("script")
    plain = Page(render_figure("surprisal", go.Figure(go.Bar(x=["text"], y=[1.0]))))
    assert figure.tags == plain.tags


def test_the_page_has_findings_warnings_captions_and_how_to_repeat_it(run: Run) -> None:
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    sections = "What was found, Warnings, Figures, Tables, Model and configuration, How to repeat it, How to cite"
    positions = [page.texts.index(section) for section in sections.split(", ")]
    assert positions == sorted(positions)
    found, warnings, figures, tables, facts, repeat, cite = (
        page.texts[first:last] for first, last in zip(positions, [*positions[1:], len(page.texts)], strict=True)
    )
    mean = run.tables["tokens"]["surprisal_nats"].mean()
    assert any(text.startswith(f"4 texts have {mean:.3f} nats per token.") for text in found)
    assert not any("random" in text for text in found)
    assert any("The texts are random." in text for text in warnings)
    assert any("Mean surprisal of each text." in text for text in figures)
    # 4 texts of 6 tokens and 2 of 12, the first token of each not scored
    assert [text for text in tables if text.endswith(" rows")] == ["6 rows", f"{4 * 5 + 2 * 11} rows"]
    assert [text for text in tables if text.startswith("The first")] == [
        "The first 6; all of them in",
        f"The first {ROWS_SHOWN}; all of them in",
    ]
    assert f"{run.tables['tokens']['surprisal_nats'][0]:.4g}" in tables
    assert {run.description["model"]["identity"]["revision"], run.description["versions"]["torch"]} <= set(facts)
    assert run.description["command"].strip() in repeat
    assert Counting.paper in cite


def test_a_report_without_warnings_has_no_such_section(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "findings", lambda *_: [])
    assert "Warnings" not in Page(render_report(run)).texts


def test_figures_open_without_a_network(run: Run) -> None:
    (path,) = write_figures(run)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.links == ["plotly.min.js"]
    assert (path.parent / "plotly.min.js").stat().st_size > 1_000_000


def test_no_figure_offers_to_send_its_data_away(run: Run) -> None:
    """plotly's own default is a button that uploads the figure."""
    for path in (run.folder / "report.html", *write_figures(run)):
        calls = path.read_text(encoding="utf-8").rsplit("Plotly.newPlot(", 1)[1]
        assert '"showSendToCloud": false' in calls


# ---------------------------------------------------------------------- browsers


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
