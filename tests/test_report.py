"""The report: one page that opens anywhere and loads nothing."""

import base64
import gzip
import io
import json
import subprocess
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding
from interp.experiments.export import require_browser, write_figures
from interp.experiments.page import LARGEST_TABLE, ROWS_SHOWN, render
from interp.experiments.report import render_report, write_comparison
from interp.experiments.run import Run, compare
from tests.counting import Counting, Yardstick

HOSTILE = "<script>alert('x')</script> </script> & <img src=https://example.org/x.png> \"quoted\""
LOADING = ("src", "href", "data", "poster", "srcset", "action")


class Page(HTMLParser):
    """What a page is made of: its tags, what each would load or link to, its ids, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.named: list[str] = []
        self.texts: list[str] = []
        self.packed: list[str] = []
        self.sections: dict[str, list[str]] = {"": []}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in LOADING]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.named += [str(value) for name, value in attrs if name == "aria-labelledby"]
        self.in_packed = ("type", "text/plain") in attrs

    def handle_data(self, data: str) -> None:
        if not data.strip():
            return
        if self.tags[-1:] not in (["script"], ["style"]):
            self.texts.append(data.strip())
            if self.tags[-1:] == ["h2"]:
                self.sections[data] = []
            self.sections[list(self.sections)[-1]].append(data.strip())
        elif self.in_packed and self.tags[-1:] == ["script"]:
            self.packed.append(gzip.decompress(base64.b64decode(data)).decode())


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Counting(model=tiny, note=HOSTILE).run(out=tmp_path_factory.mktemp("report"))


def comparison(figures: dict[str, go.Figure] | None = None, tables: dict[str, pd.DataFrame] | None = None) -> str:
    """The page of a comparison: figures and tables and little else."""
    return render("comparison.html", title="some runs", figures=figures or {}, tables=tables or {})


def data_of(figure: go.Figure) -> list[dict]:
    return json.loads(str(figure.to_json()))["data"]


def written(run: Run) -> str:
    return (run.folder / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_links_into_itself_the_run_and_to_the_paper(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(written(run))
    inside = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert [link for link in page.links if not link.startswith("#")] == [
        "tables/texts.parquet",  # under the figure that was drawn from it
        "tables/texts.parquet",
        "tables/tokens.parquet",
    ]
    assert all((run.folder / link).is_file() for link in page.links if not link.startswith("#"))
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    style = written(run).split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert page.tags.count("html") == page.tags.count("body") == 1
    assert any("plotly.js" in text and len(text) > 1_000_000 for text in page.packed)  # the script is inside
    monkeypatch.setattr(Counting, "paper", "Nobody 2024, On Counting, arXiv:2404.15574")
    assert Page(render_report(run)).links[-1] == "https://arxiv.org/abs/2404.15574"


def test_words_of_the_run_stay_words(run: Run) -> None:
    page = Page(written(run))
    assert f"The texts are random. {HOSTILE}" in page.texts
    assert f"Mean surprisal of each text. {HOSTILE}" in page.texts
    assert HOSTILE in page.texts  # a cell, and a setting
    figure = Page(comparison({"surprisal": run.figures["surprisal"]}))  # its axis has the hostile words too
    plain = Page(comparison({"surprisal": go.Figure(go.Bar(x=["text"], y=[1.0]))}))
    assert figure.tags == plain.tags
    # the page's own script, plotly's, and the data of the figure and of both tables
    assert page.tags.count("script") == 1 + 1 + 1 + 2


def test_the_page_has_a_section_for_everything(run: Run) -> None:
    page = Page(written(run))
    sections = "What was found, Warnings, Tables, Model, Settings, How to repeat it, How to cite".split(", ")
    assert list(page.sections) == ["", *sections]
    _, found, warnings, tables, model, settings, repeat, cite = page.sections.values()
    assert "How surprising are random texts?" in page.texts  # the question
    mean = run.tables["tokens"]["surprisal_nats"].mean()
    assert any(text.startswith(f"4 texts have {mean:.3f} nats per token.") for text in found)
    assert not any("random" in text for text in found)
    assert any("The texts are random." in text for text in warnings)
    assert any("Mean surprisal of each text." in text for text in found)  # the first figure stands beside what it shows
    # 4 texts of 6 tokens and 2 of 12, the first token of each not scored
    assert [text for text in tables if text.endswith(" rows")] == ["6 rows", f"{4 * 5 + 2 * 11} rows"]
    assert f"{run.tables['tokens']['surprisal_nats'][0]:.4g}" in tables
    assert run.description["model"]["identity"]["revision"] in model
    assert settings[settings.index("note") + 1 : settings.index("note") + 3] == [HOSTILE, "default"]
    assert settings[settings.index("texts") + 1 : settings.index("texts") + 3] == ["4", "tokens"]
    assert run.description["command"].strip() in repeat
    assert run.description["versions"]["torch"] in repeat
    assert any(Counting.paper in text for text in cite)
    assert any(run.folder.name in text for text in cite)


def test_the_python_of_a_report_makes_the_same_experiment(run: Run) -> None:
    page = Page(written(run))
    (text,) = [text for text in page.texts if text.startswith("from tests.counting import Counting")]
    call = text.split("run = ")[1].split(".run()")[0]
    assert eval(call, {"Counting": Counting}) == run.experiment


def test_the_python_under_a_figure_draws_it_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.experiments.run.find_experiment", lambda name: Counting)
    page = Page(written(run))
    (code,) = [text for text in page.texts if text.startswith("from tests.counting import plot_surprisal")]
    assert f"run = open_run('{run.folder.as_posix()}')" in code
    *lines, last = code.splitlines()
    names: dict = {}
    exec("\n".join(lines), names)
    again = eval(last, names)
    whole = run.figures["surprisal"]
    assert data_of(again) == data_of(whole)
    assert again.layout.title == whole.layout.title
    place = page.texts.index("texts")
    assert page.texts[place + 1].startswith(", 6 rows")
    assert page.texts.index(f"{run.tables['texts']['mean_nats'][0]:.4g}") > place  # rows of the table itself


def test_a_figure_that_does_not_say_how_it_was_drawn_is_taken_from_the_run(run: Run) -> None:
    figure = next(iter(run.experiment.figures(run.tables).values()))
    figure.layout.meta = {"caption": "Nothing more."}
    other = Run(run.folder, run.experiment, run.description)
    vars(other)["figures"] = {"plain": figure}
    page = Page(render_report(other))
    (code,) = [text for text in page.texts if text.startswith("from interp.experiments.run import open_run")]
    assert code.endswith("run.figures['plain']")
    assert [link for link in page.links if link.endswith(".parquet")] == [
        "tables/texts.parquet",
        "tables/tokens.parquet",
    ]


def test_headings_descend_by_one_and_every_region_has_a_name(run: Run) -> None:
    page = Page(written(run))
    levels = [int(tag[1]) for tag in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert set(page.named) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_findings_about_several_things_are_put_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [
        Finding("a: one.", about="a"),
        Finding("b: two.", about="b"),
        Finding("a: three.", about="a"),
        Finding("All."),
    ]
    monkeypatch.setattr(Counting, "findings", lambda *_: findings)
    texts = Page(render_report(run)).texts
    start = texts.index("All.")
    assert texts[start : start + 6] == ["All.", "a", "one.", "three.", "b", "two."]


def test_a_report_without_warnings_has_no_such_section(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "findings", lambda *_: [])
    assert "Warnings" not in Page(render_report(run)).texts


def test_a_notebook_shows_a_run_by_its_findings_and_names(run: Run) -> None:
    shown = Page(run._repr_html_())
    assert shown.tags.count("li") == len(run.findings) == 2
    assert "Warning:" in shown.texts
    assert any(HOSTILE in text for text in shown.texts)
    assert "script" not in shown.tags
    assert repr(run) == f"<counting on tiny: {run.folder}>"
    assert repr(run.tables) == "<tables: texts, tokens>"


def test_runs_are_compared_from_python(run: Run) -> None:
    tables, figures = compare(run, run)
    assert tables["means"]["mean_nats"].tolist() == 2 * [run.tables["texts"]["mean_nats"].mean()]
    assert tables["means"]["run"].tolist() == [run.label, f"{run.label} ({run.folder})"]
    assert list(figures) == ["means"]
    with pytest.raises(ArgumentError, match="two or more"):
        compare(run)
    with pytest.raises(ArgumentError, match="runs of counting, yardstick"):
        compare(run, Run(run.folder, Yardstick(), run.description))


def test_a_comparison_is_such_a_page_too(run: Run, tmp_path: Path) -> None:
    folder, text = write_comparison(Counting(), {"one": run.tables, f"two {HOSTILE}": run.tables}, tmp_path)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert f"counting: one · two {HOSTILE}" in page.texts
    assert list(page.sections) == ["", "Figures", "Tables"]
    assert page.links == ["tables/means.parquet"]
    assert (folder / page.links[0]).is_file()
    data = [json.loads(packed) for packed in page.packed if packed.startswith('{"columns"')]
    assert [row[0] for row in data[0]["rows"]] == ["one", f"two {HOSTILE}"]
    assert "mean_nats" in text


# ---------------------------------------------------------------------- what is packed


def test_a_packed_table_holds_every_value_to_its_last_digit() -> None:
    frame = pd.DataFrame(
        {
            "model": ["tiny", 'a "quoted", word', "</script>"],
            "score": np.array([0.1, np.nan, 1 / 3], dtype=np.float32),
            "surprisal_nats": [1e-9, np.inf, 2 / 3],
            "large": [2**53 + 1, 5, -(2**60)],
            "passed": [True, False, True],
            "ids": [np.array([1, 2]), np.array([], dtype=int), np.array([3])],
            "png": [b"abc", b"", b"d"],
            "head": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    (packed,) = Page(comparison(tables={"scores": frame})).packed
    table = json.loads(packed)
    assert table["columns"] == list(frame.columns)
    assert table["rows"][0] == ["tiny", 0.1, 1e-9, str(2**53 + 1), True, "[1,2]", "3 bytes", 1]
    assert table["rows"][1] == ['a "quoted", word', None, "inf", 5, False, "[]", "0 bytes", None]
    third = table["rows"][2]
    assert np.float32(third[1]) == frame["score"][2]
    assert third[2] == frame["surprisal_nats"][2]
    assert third[3] == str(-(2**60))


def test_of_a_table_too_large_the_first_rows_and_where_the_others_are() -> None:
    frame = pd.DataFrame({"row": np.arange(LARGEST_TABLE + 1)})
    page = Page(comparison(tables={"rows": frame}))
    assert page.packed == []
    assert page.tags.count("tr") == 1 + ROWS_SHOWN
    assert 'pandas.read_parquet("tables/rows.parquet").to_csv("rows.csv")' in page.texts


def test_a_packed_figure_is_the_figure(run: Run) -> None:
    figure = run.figures["surprisal"]
    packed, plotly = Page(comparison({"surprisal": figure})).packed
    assert "plotly.js" in plotly
    drawn, whole = json.loads(packed), json.loads(str(figure.to_json()))
    assert drawn["data"] == whole["data"]
    assert drawn["config"]["showSendToCloud"] is False  # plotly's own default is a button that uploads the figure
    del whole["layout"]["title"]  # it is the heading
    assert drawn["layout"] == whole["layout"]


OPEN_AND_USE = """<script>
addEventListener("load", async () => {
  const details = document.getElementById("table-tokens");
  details.open = true;
  while (!details.querySelector("input")) await new Promise((done) => setTimeout(done, 50));
  const column = (name) => [...details.querySelectorAll("thead button")].find((button) => button.textContent === name);
  column("surprisal_nats").click();
  column("surprisal_nats").click();
  const search = details.querySelector("input");
  search.value = "text-1";
  search.dispatchEvent(new Event("input"));
  let blob;
  URL.createObjectURL = (given) => { blob = given; return "#"; };
  [...details.querySelectorAll(".controls button")].at(-1).click();
  document.body.append(Object.assign(document.createElement("textarea"), { textContent: await blob.text() }));
});
</script>"""


def test_in_a_browser_figures_are_drawn_and_tables_are_sorted_searched_and_saved(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(run).replace("</body>", f"{OPEN_AND_USE}</body>"), encoding="utf-8")
    answer = subprocess.run(
        [
            *(
                require_browser(),
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'user'}",
            ),
            *("--window-size=400,900", "--virtual-time-budget=30000", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    dom = answer.stdout
    assert dom.count("main-svg") >= 1
    assert "scale(0." in dom  # the figure is wider than the window
    rows = run.tables["tokens"].query("text_id == 'text-1'").sort_values("surprisal_nats", ascending=False)
    assert f"Rows 1 to {len(rows)} of {len(rows)}" in dom
    body = dom.split('id="table-tokens"')[1].split("<tbody>")[1].split("</tbody>")[0]
    first = body.split("</tr>")[0]
    assert f">{rows['surprisal_nats'].iloc[0]:.4g}<" in first
    assert f">{rows['position'].iloc[0]}<" in first
    assert 'aria-sort="descending"' in dom
    saved = pd.read_csv(io.StringIO(unescape(dom.split("<textarea>")[1].split("</textarea>")[0])))
    pd.testing.assert_frame_equal(saved, run.tables["tokens"], check_dtype=False, check_exact=True)


def test_figures_open_without_a_network(run: Run) -> None:
    (path,) = write_figures(run)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.links == ["plotly.min.js"]
    assert (path.parent / "plotly.min.js").stat().st_size > 1_000_000


def test_no_figure_page_offers_to_send_its_data_away(run: Run) -> None:
    """plotly's own default is a button that uploads the figure."""
    (path,) = write_figures(run)
    assert '"showSendToCloud": false' in path.read_text(encoding="utf-8").rsplit("Plotly.newPlot(", 1)[1]
