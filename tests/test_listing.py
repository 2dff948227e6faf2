"""The list of runs: newest first, filtered, strangers passed over, locked runs under way, a page that leads to every report."""

import json
import os
from pathlib import Path

import pytest

from interp.errors import ArgumentError
from interp.experiments.__main__ import main
from interp.experiments.listing import age_in_words, bytes_in_words, list_runs, render_listing
from interp.experiments.store import RunStore
from tests.counting import Counting


def write(out: Path, place: str, changed: int, **description: object) -> Path:
    folder = out / place
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"experiment": place.partition("/")[0], **description}))
    os.utime(folder / "run.json", (changed, changed))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write(
        tmp_path, "echo/m/aaaaaaaaaaaa", 1_000, status="done", headlines=["Seven <heads> & more.", "Second."], n_bytes=7
    )
    write(tmp_path, "echo/m/bbbbbbbbbbbb", 3_000, status="failed", error="RunError: no room\nmore")
    write(tmp_path, "lists/big/cccccccccccc", 2_000, status="running")
    write(tmp_path, "lists/big/dddddddddddd", 4_000, status="stopped", error="stopped by the user")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "comparisons" / "x" / "y").mkdir(parents=True)
    stranger = tmp_path / "echo" / "m" / "stranger"
    stranger.mkdir()
    (stranger / "run.json").write_text('{"name": "of another tool"}')
    return tmp_path


def test_runs_come_newest_first_with_their_state_and_what_was_found(out: Path) -> None:
    found = [(run.folder.name[0], run.state, run.said) for run in list_runs(out)]
    assert found == [
        ("d", "stopped", "stopped by the user"),
        ("b", "failed", "RunError: no room\nmore"),
        ("c", "interrupted", ""),
        ("a", "done", "Seven <heads> & more."),
    ]


def test_a_run_that_a_process_works_on_is_under_way(out: Path) -> None:
    folder = out / "lists/big/cccccccccccc"
    with RunStore(folder, {}).locked():
        assert [run.state for run in list_runs(out, model="big")] == ["stopped", "under way"]
    assert [run.state for run in list_runs(out, model="big")] == ["stopped", "interrupted"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '"done"', '{"experiment": "echo", "status": 3}', "\0"])
def test_a_damaged_description_is_named_or_passed_over_and_stops_nothing(out: Path, text: str) -> None:
    (out / "echo/m/aaaaaaaaaaaa/run.json").write_text(text)
    states = {run.folder.name[0]: run.state for run in list_runs(out)}
    assert states["a"] == "damaged"
    assert states["b"] == "failed"


def test_filters_and_the_limit_choose_among_all(out: Path) -> None:
    assert [run.folder.name[0] for run in list_runs(out, experiment="echo")] == ["b", "a"]
    assert [run.folder.name[0] for run in list_runs(out, state="done")] == ["a"]
    assert [run.folder.name[0] for run in list_runs(out, limit=2)] == ["d", "b"]
    assert [run.folder.name[0] for run in list_runs(out, state="done", limit=1)] == ["a"]


def test_what_is_not_there_is_refused_with_the_nearest_name(out: Path) -> None:
    with pytest.raises(ArgumentError, match="list"):
        list_runs(out, experiment="list")
    with pytest.raises(ArgumentError, match="big"):
        list_runs(out, model="bigg")
    with pytest.raises(ArgumentError, match="--out"):
        list_runs(out / "nowhere")


def test_the_page_leads_to_every_report_and_shows_headlines_as_text(out: Path) -> None:
    (out / "echo/m/aaaaaaaaaaaa/report.html").write_text("page")
    page = render_listing(list_runs(out), out)
    assert 'href="echo/m/aaaaaaaaaaaa/report.html"' in page
    assert "Seven &lt;heads&gt; &amp; more." in page
    assert page.count("<tr data-state") == 4


def test_the_command_prints_a_line_for_each_run_and_writes_the_page(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "--out", str(out), "--limit", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "stopped by the user" in lines[0]
    assert lines[3].startswith("There are more")
    assert main(["runs", "--out", str(out), "--html"]) == 0
    assert (out / "runs.html").is_file()
    assert main(["runs", "--out", str(out), "--limit", "-1"]) == 2


def test_a_finished_run_says_its_headlines_and_its_size(tiny: str, tmp_path: Path) -> None:
    run = Counting(model=tiny).run(out=tmp_path)
    (found,) = list_runs(tmp_path)
    assert found.state == "done"
    assert found.said == next(finding.text for finding in run.findings if finding.kind == "result")
    on_disk = sum(path.stat().st_size for path in run.folder.rglob("*") if path.name not in ("run.json", ".lock"))
    assert found.n_bytes == pytest.approx(on_disk, rel=0.01)
    assert found.report == run.folder / "report.html"


def test_sizes_and_ages_are_read_as_people_write_them() -> None:
    assert [bytes_in_words(size) for size in (0, 812, 3_400_000, 2 * 10**12)] == ["0 B", "812 B", "3.4 MB", "2 TB"]
    from datetime import timedelta

    ages = [
        timedelta(seconds=40),
        timedelta(minutes=12, seconds=5),
        timedelta(hours=3.5),
        timedelta(days=5),
        -timedelta(1),
    ]
    assert [age_in_words(age) for age in ages] == ["40 s", "12 min", "3 h", "5 d", "0 s"]
