"""The command line: every wish that cannot be granted gets one sentence that says what to type next."""

import os
import re
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from interp.experiments import runner
from interp.experiments.__main__ import main
from interp.experiments.catalogue import experiment_names
from interp.experiments.experiment import Experiment
from interp.experiments.run import Run
from probes.kv_policies.experiment import KvPolicies
from tests.counting import FAIL, Call, Counting, environment

pytestmark = pytest.mark.usefixtures("counting_installed")


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


@pytest.mark.parametrize("words", [["--help"], ["counting", "--help"], ["plan", "retrieval_heads", "--help"]])
def test_help_takes_less_than_a_second_of_the_processor(plugin: Path, words: list[str]) -> None:
    seconds: list[float] = []
    while not seconds or (seconds[-1] >= 1 and len(seconds) < 5):  # more than once only on a busy machine
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = in_a_process(plugin, *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
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


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["atlas", *experiment_names()])
def test_the_help_of_a_setting_is_broken_only_where_a_line_is_full(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line break of the source is none of the sentence."""
    lines = [line[:78].replace("│", " ").rstrip() for line in help_of(name, capsys).splitlines()]
    broken = [
        line
        for line, following in pairwise(lines)
        if re.match(r" {12,}\S", following)  # goes on in the column of meanings
        and re.search(r"\S {2,}\S|^ {12,}\S", line)  # in which this one begins
        and len(line) + 1 + len(following.split()[0]) <= 78
    ]
    assert broken == []


@pytest.mark.parametrize("name", ["plan", "atlas", *experiment_names()])
def test_the_sentences_of_a_help_end_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [name, "retrieval_heads"] if name == "plan" else [name]
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert re.findall(r".*[.?!:;,]\.(?!\w|\.).*", capsys.readouterr().out.replace("...", "")) == []


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
def test_wrong_arguments_get_a_sentence_and_status_2(call: Call, tiny: str, words: list[str], sentence: str) -> None:
    status, said, errors = call(*(tiny if word == "MODEL" else word for word in words))
    assert (status, said, len(errors.splitlines())) == (2, "", 1)
    assert sentence in errors
    assert errors.endswith((".\n", "?\n", "--help\n", "too.\n"))


def test_a_flag_that_comes_twice_loses_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        KvPolicies,
        "run",
        lambda self, **how: seen.append((self.policies, self.budgets, how["export"])) or SystemExit(0),
    )
    monkeypatch.setattr("interp.experiments.verbs.say_findings", lambda run: None)
    for words in (
        "--policies random oracle --budgets 0.2 0.5 --export pdf svg",
        "--policies random --export pdf --budgets 0.2 --policies oracle --budgets=0.5 --export=svg",
        "--policies=random --seed 0 --export pdf --policies oracle --budgets 0.2 0.5 --export svg",
    ):
        assert main(["kv_policies", *words.split()]) == 0
    assert seen == [(("random", "oracle"), (0.2, 0.5), ("pdf", "svg"))] * 3


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
    call: Call, words: list[str], complaint: str, advice: str
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
    call: Call, configured: list[Experiment], tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    (tmp_path / "config.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, _, errors = call("counting", "--config", tmp_path / "config.toml")
    assert (status, configured) == (2, [])
    assert sentence in errors
    assert "This should not happen" not in errors


def test_the_command_line_goes_before_the_file_and_the_file_before_the_preset(
    call: Call, configured: list[Experiment], tmp_path: Path
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
    call: Call, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAIL, "text-0")
    status, said, errors = call("counting", "--model", tiny, "--out", tmp_path)
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


def test_an_out_folder_that_cannot_be_is_explained(call: Call, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, _, errors = call("counting", "--model", tiny, "--out", tmp_path / "file")
    assert status == 1
    assert "cannot be written: choose another folder with --out." in errors
