"""The command line: every wish that cannot be granted gets one sentence that says what to type next."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from figures.style import HEIGHT, WIDTH
from interp.errors import RunError
from interp.experiments import runner
from interp.experiments.__main__ import main
from interp.experiments.catalogue import experiments
from interp.experiments.experiment import Experiment
from interp.experiments.export import require_browser
from interp.experiments.run import Run
from tests.counting import FAIL, Counting, Yardstick, environment, install_plugin, one_thread, save_model

Result = tuple[int, str, str]
"""Exit status, standard output, standard error."""


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = install_plugin(tmp_path_factory.mktemp("plugin"))
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.syspath_prepend(path)
        experiments.cache_clear()
        yield path
    experiments.cache_clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def runs(model: str, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs of one experiment and one of another, under one folder."""
    out = tmp_path_factory.mktemp("runs")
    counting = Counting(model=model, texts=1)
    return [counting.run(out=out), replace(counting, seed=1).run(out=out), Yardstick(model=model, texts=1).run(out=out)]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*words: object) -> Result:
        try:
            status: Any = main([str(word) for word in words])
        except SystemExit as end:  # the parser's own way to end
            status = end.code
        return (status or 0, *capsys.readouterr())

    return run


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiments that the command line starts, which are not run."""
    started: list[Experiment] = []

    def start(experiment: Experiment, options: object) -> Run:
        started.append(experiment)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_experiment", start)
    return started


def in_a_process(plugin: Path, *words: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "interp.experiments", *map(str, words)]
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, env=environment(plugin), text=True, check=False, timeout=120, **captured)


# ---------------------------------------------------------------------- help


@pytest.mark.parametrize("words", [["--help"], ["counting", "--help"], ["retrieval_heads", "--help"]])
def test_help_answers_within_a_second(plugin: Path, words: list[str]) -> None:
    seconds: list[float] = []
    while len(seconds) < 3 or (min(seconds) >= 1 and len(seconds) < 12):  # more than three only on a busy machine
        started = time.perf_counter()
        answer = in_a_process(plugin, *words)
        seconds.append(time.perf_counter() - started)
        assert (answer.returncode, answer.stderr) == (0, "")
    assert min(seconds) < 1
    named = ["retrieval_heads", "counting", "show"] if words == ["--help"] else ["--model", "--seed", "--preset"]
    assert all(name in answer.stdout for name in named)


def test_help_loads_nothing_heavy(plugin: Path) -> None:
    heavy = {"torch", "transformers", "pandas", "scipy", "plotly", "pandera"}
    code = f"import sys; from interp.experiments.__main__ import main; main(['--help']); print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment(plugin), text=True, capture_output=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["models"], ["--help"], ["counting", "--help"]])
def test_a_reader_who_has_read_enough_is_no_error(plugin: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head` does when it is done
    answer = in_a_process(plugin, *words, stdout=write)
    os.close(write)
    assert (answer.returncode, answer.stderr) == (0, "")


# ---------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["countin"], "There is no command or experiment called countin. Did you mean counting? Try python -m interp"),
        (["modles"], "Did you mean models?"),
        (["xyzzy"], "There is no command or experiment called xyzzy. Try python -m interp.experiments --help"),
        (["--model", "gpt2"], "There is no command or experiment called --model."),
        (["counting", "--texts", "0"], "--texts is too small (0)."),
        (["counting", "--preset", "shrot"], "counting has no preset shrot. Did you mean short? It has: short, long."),
        (["yardstick", "--preset", "short"], "yardstick has no preset short. It has: none."),
        (["counting", "--config", "no.toml"], "no.toml cannot be read as TOML"),
        (["counting", "--model", "smolm2-135m"], "Did you mean smollm2-135m?"),
        (["counting", "--model", "MODEL", "--device", "gpu"], "There is no device called gpu: use --device auto, cpu,"),
        (["show", "f00"], "There is no run f00 here: name its folder, or the first digits of its hash under runs."),
        (["compare", "f00"], "There is nothing to compare: name two or more runs."),
        (["compare", "f00", "f01"], "There is no run f00 here"),
    ],
)
def test_wrong_arguments_get_a_sentence_and_status_2(
    call: Callable[..., Result], model: str, words: list[str], sentence: str
) -> None:
    status, said, errors = call(*(model if word == "MODEL" else word for word in words))
    assert (status, said, len(errors.splitlines())) == (2, "", 1)
    assert sentence in errors
    assert errors.endswith((".\n", "?\n", "--help\n", "too.\n"))


@pytest.mark.parametrize(
    ("words", "complaint", "advice"),
    [
        (["counting", "--modle", "gpt2"], "--modle", "--model STR"),
        (["counting", "--txts", "3"], "--txts", "--texts INT"),
        (["counting", "--texts", "many"], "--texts", "How many texts."),
        (["counting", "--dtype", "float8"], "'float8'", "'float32', 'bfloat16', 'float16'"),
        (["counting", "--preset"], "--preset", "value"),
        (["show"], "show", "Folder of a run, or the first digits of its hash."),
        (["figures", "f00", "--format", "gif"], "'gif'", "'pdf', 'svg', 'png'"),
        (["list", "counting"], "counting", "--help"),
    ],
)
def test_what_the_parser_refuses_is_named_with_advice_and_status_2(
    call: Callable[..., Result], words: list[str], complaint: str, advice: str
) -> None:
    status, said, errors = call(*words)
    assert (status, said, "Traceback" in errors) == (2, "", False)
    text = " ".join(errors.replace("│", " ").split())
    assert complaint in text
    assert advice in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("texts = ", "config.toml cannot be read as TOML (Invalid value (at end of document))."),
        (b"\xff\xfe", "config.toml cannot be read as TOML"),
        ("txts = 3", "counting has no setting txts. Did you mean texts?"),
        ("out = 'elsewhere'", "counting has no setting out."),
        ("experiment = 'yardstick'", "config.toml is a configuration of another experiment than counting."),
        ("texts = 0", "--texts is too small (0)."),
        ("texts = 'many'", "texts"),
        ("sharing = 3", "sharing"),
        ("depths = ['a']", "depths"),
        ("dtype = 'float8'", "float8"),
    ],
)
def test_a_wrong_configuration_file_gets_a_sentence_and_status_2(
    call: Callable[..., Result], configured: list[Experiment], tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    (tmp_path / "config.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, _, errors = call("counting", "--config", tmp_path / "config.toml")
    assert (status, configured) == (2, [])
    assert sentence in errors
    assert "This should not happen" not in errors


def test_the_command_line_goes_before_the_file_and_the_file_before_the_preset(
    call: Callable[..., Result], configured: list[Experiment], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(
        "experiment = 'counting'\ntexts = 3\nseed = 3\ndepths = [0.1, 0.2]\nwords = 'words.txt'"
    )
    words = ["counting", "--preset", "long", "--config", tmp_path / "config.toml", "--seed", 7]
    assert call(*words)[0] == 130
    assert call("counting", "--preset", "short")[0] == 130
    assert configured == [
        Counting(tokens=40, texts=3, seed=7, depths=(0.1, 0.2), words=Path("words.txt")),
        Counting(tokens=4, texts=2),
    ]


def test_what_should_not_happen_is_said_in_a_sentence(
    call: Callable[..., Result], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAIL, "text-0")
    status, said, errors = call("counting", "--model", model, "--out", tmp_path)
    assert (status, said) == (1, "")
    assert errors == "ValueError: nothing can be read in text-0. This should not happen: --debug shows where.\n"


@pytest.mark.parametrize("words", [["counting", "--preset", "shrot"], ["show", "run"]])
def test_only_debug_shows_a_traceback_and_the_exit_status_stays_the_same(
    plugin: Path, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"status": "done"}')  # nothing that a run has written
    plain, debugged = (in_a_process(plugin, *words, *more, cwd=tmp_path) for more in ([], ["--debug"]))
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debugged.stderr
    assert 0 < plain.returncode == debugged.returncode


def test_an_out_folder_that_cannot_be_is_explained(call: Callable[..., Result], model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, _, errors = call("counting", "--model", model, "--out", tmp_path / "file")
    assert status == 1
    assert "cannot be written: choose another folder with --out." in errors


# ---------------------------------------------------------------------- list, models, show


def test_list_and_models_name_what_there_is(call: Callable[..., Result]) -> None:
    status, listed, _ = call("list")
    assert status == 0
    assert "surprisal of random texts, to try the runner" in listed
    assert "Nobody 2024, On Counting" in listed
    assert "retrieval_heads" in listed
    status, listed, _ = call("models")
    assert status == 0
    assert {"smollm2-135m", "gpt2", "llama2-7b"} <= {line.split()[0] for line in listed.splitlines()}


def test_a_run_is_shown_by_its_folder_or_by_digits_of_its_hash(call: Callable[..., Result], runs: list[Run]) -> None:
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
    call: Callable[..., Result], runs: list[Run], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    call: Callable[..., Result], runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_runs_of_one_experiment_are_set_side_by_side(call: Callable[..., Result], runs: list[Run]) -> None:
    out = runs[0].folder.parents[2]
    status, said, _ = call("compare", runs[0].folder, runs[1].folder.name, "--out", out)
    assert status == 0
    report = Path(said.splitlines()[-1].removeprefix("report: "))
    assert report.is_relative_to(out / "comparisons" / "counting")
    table = pd.read_parquet(report.parent / "tables" / "means.parquet")
    assert table["run"].tolist() == [f"tiny {run.folder.name[:6]}" for run in runs[:2]]
    assert table["mean_nats"].tolist() == [run.tables["texts"]["mean_nats"].mean() for run in runs[:2]]
    assert all(label in report.read_text() for label in table["run"])


def test_what_cannot_be_compared_is_said(call: Callable[..., Result], runs: list[Run], tmp_path: Path) -> None:
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


def test_files_of_other_tools_go_to_the_experiment_that_reads_them(
    call: Callable[..., Result], runs: list[Run], tmp_path: Path
) -> None:
    (tmp_path / "theirs.csv").write_text("mean_nats\n2.5\n3.5\n")
    (tmp_path / "theirs.json").write_text('{"format": "yardstick"}')
    status, said, _ = call("compare", runs[0].folder, tmp_path / "theirs.csv", "--out", tmp_path)
    assert (status, "theirs" in said, "3.0" in said) == (0, True, True)
    status, said, _ = call("compare", runs[2].folder, tmp_path / "theirs.json", "--out", tmp_path)
    assert (status, "theirs" in said, "1.0" in said) == (0, True, True)
