"""Commands about runs that are there: they are listed, shown, drawn again and set side by side."""

import struct
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from figures.style import HEIGHT, WIDTH
from interp.errors import RunError
from interp.experiments.export import require_browser
from interp.experiments.run import Run
from interp.models.check.verdicts import WAYS_OUT
from tests.counting import Call, Counting, Yardstick

pytestmark = pytest.mark.usefixtures("counting_installed")


@pytest.fixture(scope="module")
def runs(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs of one experiment and one of another, under one folder."""
    out = tmp_path_factory.mktemp("runs")
    counting = Counting(model=tiny, texts=1)
    return [counting.run(out=out), replace(counting, seed=1).run(out=out), Yardstick(model=tiny, texts=1).run(out=out)]


# ---------------------------------------------------------------------- list, models, show


def test_list_and_models_name_what_there_is(call: Call) -> None:
    status, listed, _ = call("list")
    assert status == 0
    assert "surprisal of random texts, to try the runner" in listed
    assert "Nobody 2024, On Counting" in listed
    assert "retrieval_heads" in listed
    status, listed, _ = call("models")
    assert status == 0
    assert {"smollm2-135m", "gpt2", "llama2-7b"} <= {line.split()[0] for line in listed.splitlines()}


def test_models_with_a_name_says_what_the_check_at_load_found(call: Call, tiny: str) -> None:
    status, said, _ = call("models", tiny)
    assert status == 0
    title, *lines = said.splitlines()
    assert title == f"tiny ({tiny}, float32, llama)"
    assert [line.split()[0] for line in lines] == list(WAYS_OUT)
    for line in lines:
        assert line.split(maxsplit=1)[1].startswith("right (off by ")
    status, _, errors = call("models", "sdxl-base")
    assert (status, errors) == (
        2,
        "sdxl-base is an image model, which has no check at load: name a language model.\n",
    )


def test_a_run_is_shown_by_its_folder_or_by_digits_of_its_hash(call: Call, runs: list[Run]) -> None:
    folder = runs[0].folder
    out = folder.parents[2]
    by_folder = call("show", folder)
    assert by_folder[0] == 0
    assert by_folder == call("show", folder.name, "--out", out) == call("show", folder.name[:8], "--out", out)
    lines = by_folder[1].splitlines()
    assert lines[0].startswith("counting on tiny (")
    assert lines[1] == runs[0].description["command"]
    assert lines[2].startswith("1 texts have ")
    assert lines[3] == "warning: The texts are random. "
    assert lines[4] == f"report: {folder / 'report.html'}"
    assert lines[5].split() == ["texts", "2", "rows", str(folder / "tables" / "texts.parquet")]
    assert lines[6].split() == ["tokens", "16", "rows", str(folder / "tables" / "tokens.parquet")]  # 5 and 11


def test_a_run_that_cannot_be_shown_says_why(
    call: Call, runs: list[Run], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("abc123", "abd456"):
        (tmp_path / "counting" / "tiny" / name).mkdir(parents=True)
        (tmp_path / "counting" / "tiny" / name / "run.json").write_text(
            '{"status": "stopped", "command": "python again"}'
        )
    status, _, errors = call("show", "ab", "--out", tmp_path)
    assert (status, errors.count("tiny/ab")) == (2, 2)
    assert errors.endswith(": give more digits or the folder.\n")
    status, _, errors = call("show", "abc", "--out", tmp_path)
    assert status == 2
    assert errors.endswith("abc123 is not finished (stopped): python again\n")
    status, _, errors = call("show", tmp_path)
    assert status == 2
    assert "holds no run.json: name a run's folder, or the first digits of its hash." in errors
    (tmp_path / "counting" / "tiny" / "abc123" / "run.json").write_text("{")
    status, _, errors = call("show", "abc", "--out", tmp_path)
    assert (status, "run.json is damaged: delete it and run the same command again." in errors) == (1, True)
    monkeypatch.setattr(Counting, "schema_version", 2)
    status, _, errors = call("show", runs[0].folder)
    assert (status, errors) == (2, "This run's tables are of version 1 and this toolkit's of 2: run it again.\n")


# ---------------------------------------------------------------------- figures and comparisons


def test_figures_are_drawn_again_from_the_tables_alone(
    call: Call, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs[0].folder / "figures"
    for file in folder.iterdir():
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        patch.delenv("BROWSER_PATH", raising=False)
        if not browser():
            status, _, errors = call("figures", runs[0].folder, "--format", "png")
            assert (status, "needs a Chromium or Chrome" in errors) == (1, True)
            assert {path.name for path in folder.iterdir()} == {"surprisal.html", "plotly.min.js"}
    if not browser():
        pytest.skip("no Chromium is installed, which only the exported picture needs")
    status, said, _ = call("figures", runs[0].folder, "--format", "png")
    assert status == 0
    assert said.split() == [str(folder / "surprisal.html"), str(folder / "surprisal.png")]
    picture = (folder / "surprisal.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    size = struct.unpack(">II", picture[16:24])
    assert size == (3 * WIDTH, 3 * HEIGHT)  # three pixels of the file for one of the screen


def browser() -> str | None:
    try:
        return require_browser()
    except RunError:
        return None


def test_runs_of_one_experiment_are_set_side_by_side(call: Call, runs: list[Run]) -> None:
    out = runs[0].folder.parents[2]
    status, said, _ = call("compare", runs[0].folder, runs[1].folder.name, "--out", out)
    assert status == 0
    report = Path(said.splitlines()[-1].removeprefix("report: "))
    assert report.is_relative_to(out / "comparisons" / "counting")
    table = pd.read_parquet(report.parent / "tables" / "means.parquet")
    assert table["run"].tolist() == [f"tiny {run.folder.name[:6]}" for run in runs[:2]]
    assert table["mean_nats"].tolist() == [run.tables["texts"]["mean_nats"].mean() for run in runs[:2]]
    assert all(label in report.read_text() for label in table["run"])


def test_what_cannot_be_compared_is_said(call: Call, runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "strange.json").write_text('{"hello": 1}')
    (tmp_path / "strange.dat").write_text("hello")
    first = runs[0].folder
    for other, sentence in [
        (runs[2].folder, "These are runs of counting, yardstick: compare runs of one experiment."),
        (tmp_path / "strange.json", "strange.json"),
        (tmp_path / "strange.dat", f"No experiment reads files like {tmp_path / 'strange.dat'}."),
    ]:
        status, _, errors = call("compare", first, other, "--out", tmp_path)
        assert (status, len(errors.splitlines())) == (2, 1), errors
        assert sentence in errors


def test_files_of_other_tools_go_to_the_experiment_that_reads_them(call: Call, runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("mean_nats\n2.5\n3.5\n")
    (tmp_path / "theirs.json").write_text('{"format": "yardstick"}')
    status, said, _ = call("compare", runs[0].folder, tmp_path / "theirs.csv", "--out", tmp_path)
    assert (status, "theirs" in said, "3.0" in said) == (0, True, True)
    status, said, _ = call("compare", runs[2].folder, tmp_path / "theirs.json", "--out", tmp_path)
    assert (status, "theirs" in said, "1.0" in said) == (0, True, True)
