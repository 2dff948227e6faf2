"""Every command and every block of Python that a page shows is run, or read by the parser that would run it.

`RULES` says which is done with what; a command that fits no rule fails. Commands that measure for minutes, or name a model of
the hub, go as far as the moment at which the model would be loaded: arguments, files, and whether the model can be used.
"""

import argparse
import dataclasses
import gc
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
import tyro

from interp.assets import ASSETS, ENCODERS
from interp.errors import RunError
from interp.experiments import runner, verbs
from interp.experiments.__main__ import VERBS, main
from interp.experiments.atlas_settings import Atlas, configured_experiments, kinds, read_configuration
from interp.experiments.catalogue import EXPERIMENTS, JOINS, experiments, joins
from interp.experiments.experiment import Experiment
from interp.experiments.export import require_browser
from interp.experiments.options import RunOptions
from interp.experiments.run import Run, configured, with_checked_settings
from interp.experiments.run_names import run_hash
from interp.models.identity import ModelFacts
from interp.models.loading.names import ModelEntry, aliases
from interp.retention.policies.catalogue import GROUP
from interp.tables import empty
from tests.abuse import small
from tests.counting import install_package, installed
from tests.fenced import PAGES, ROOT, SHELL, Block, blocks, commands

pytestmark = pytest.mark.slow

PROGRAM = ["python", "-m", "interp.experiments"]
SMALLEST = "transformer-news-2"
"""The model that stands for the default one where something is measured: a second instead of minutes."""
Asked = pytest.FixtureRequest
MEASURED = {"verbatim_memory --preset quick", "attention_sinks --passages 4"}
"""What is measured: with its settings as they are typed, on the smallest model."""
OURS = ("asset:", "trained:")
"""Sources of models that are here without a hub."""


class ReachedModelError(BaseException):
    """Everything typed was understood, and the next step would load the model."""


# ---------------------------------------------------------------------- where the commands are typed


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, with the files of their own that readers are told to have."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("docs", "experiments", "interp", "training"):
        (place / name).symlink_to(ROOT / name)
    needles = next(block for block in json_blocks() if '"needle"' in block.text)
    prompts = next(block for block in json_blocks() if '"items"' in block.text)
    (place / "my_needles.jsonl").write_text(needles.text)
    (place / "my_prompts.jsonl").write_text(prompts.text)
    (place / "sentences.tsv").write_text("id\ttext\na\tA sentence of one's own.\n")
    (place / "pair").mkdir()  # what `python -m experiments.known_duplicates pair` writes, without its models
    for counted, separator in (("counts.tsv", "\t"), ("pair/counts.csv", ",")):
        (place / counted).write_text(f"text{separator}duplicates\nA sentence of one's own.{separator}4\n")
    for name, text in named_files().items():
        (place / name).write_text(text)
    for folder in ("my_texts", "my_corpus"):
        (place / folder).mkdir()
        (place / folder / "text.txt").write_text("A text of one's own.")
    return place


@pytest.fixture(scope="session")
def runs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two small finished runs of retrieval_heads, which stand for every run that a command names."""
    experiment = dataclasses.replace(small("retrieval_heads", tmp_path_factory.mktemp("needles")), model=SMALLEST)
    made = [dataclasses.replace(experiment, seed=seed).run(out=place / "runs", device="cpu") for seed in (0, 1)]
    (place / "head_score").mkdir()
    shutil.copy(made[0].folder / "head_score_set.json", place / "head_score" / "Mistral-7B-v0.2-hf.json")
    return made


@pytest.fixture(scope="module", autouse=True)
def example_probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package that docs/adding_a_probe.md tells to install."""
    source = ROOT / "docs" / "example_probe"
    entries = tomllib.loads((source / "pyproject.toml").read_text())["project"]["entry-points"]["interp.experiments"]
    with installed(source, install_package(tmp_path_factory.mktemp("site"), "sinks", entries)):
        yield


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as where we are, with what a shell there would know."""
    monkeypatch.chdir(place)
    for name, value in {"SLURM_ARRAY_TASK_ID": "3", "SCRATCH": str(place)}.items():
        monkeypatch.setenv(name, value)
    return place


def json_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.text.startswith("{")]


def named_files() -> dict[str, str]:
    """Files of one's own that a page shows whole, their name in the first line."""
    shown = [block.text for page in PAGES for block in blocks(page) if block.language == "text"]
    return {name[1]: text for text in shown if (name := re.match(r"# (my_\w+\.\w+)\n", text))}


# ---------------------------------------------------------------------- what is done with a command


def is_made(words: list[str], _: Asked) -> None:
    """The Makefile knows it."""
    plan = subprocess.run(
        ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert plan.returncode == 0, plan.stderr


def is_installed(words: list[str], _: Asked) -> None:
    """Packages have the versions that the code takes, extras are the project's, folders hold a package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {asset.requirement for asset in (*ASSETS.values(), *ENCODERS.values())}
    for word in words[words.index("pip") + 2 :]:
        if "==" in word:
            assert word in pinned, f"{word} is not what the toolkit fetches"
        elif extra := re.fullmatch(r"(?:interp|\.)\[(.+)\]", word):
            assert set(extra[1].split(",")) <= set(project["optional-dependencies"])
        elif "/" in word:
            assert (ROOT / word / "pyproject.toml").is_file()


def is_answered(words: list[str], asked: Asked) -> None:
    """Run as it is typed, on small runs."""
    filled = [word for word in words[3:] if word != "…"]
    if places := [place for place, word in enumerate(filled) if word in ("RUN", "6ca2", "1417", "a2d0")]:
        for place, run in zip(places, asked.getfixturevalue("runs"), strict=False):
            filled[place] = str(run.folder)
    if filled[0] == "runs":
        asked.getfixturevalue("runs")  # there are some to list
    if filled[0] == "figures" and not has_browser():
        filled = [*filled[: filled.index("--format")], "--format"]
    status, said, errors = asked.getfixturevalue("call")(*filled)
    assert (status, errors) == (0, "")
    assert said


def is_understood(words: list[str], asked: Asked) -> None:
    """Read as it would be run, up to the model."""
    filled = ["gpt2" if word in ("MODEL", "NAME") else word for word in words[3:]]
    if any("HASH" in word for word in filled):
        run = asked.getfixturevalue("runs")[0]
        filled = [str(run.folder) if "HASH" in word else word for word in filled] + ["--model", SMALLEST]
    asked.getfixturevalue("monkeypatch").setattr(runner, "run_experiment", stop_at_the_model)
    asked.getfixturevalue("monkeypatch").setattr(verbs, "atlas", stop_at_the_atlas)
    with pytest.raises(ReachedModelError):
        raise AssertionError(f"exit status {main(filled)}")


def stop_at_the_model(experiment: Experiment, options: RunOptions) -> Run:
    """Does what comes before a model is loaded; for a model that is not here, what can be done without it."""
    experiment = with_checked_settings(experiment)
    runner.check_kind(experiment)
    assert all(path.exists() for path in experiment.input_files())
    if facts := facts_here(experiment):
        runner.check_usable(experiment, facts)
        assert len(run_hash(experiment, facts)) == 12
        assert experiment.plan(facts, {name: empty(schema) for name, schema in experiment.schemas().items()})
    raise ReachedModelError


def stop_at_the_atlas(atlas: Atlas, _: RunOptions) -> None:
    """Configures every experiment of an atlas."""
    assert configured_experiments(atlas, read_configuration(atlas.config)[1] if atlas.config else {})
    raise ReachedModelError


def facts_here(experiment: Experiment) -> ModelFacts | None:
    """Identity and size of a model that is here without a hub, or None."""
    from interp.models.loading.image import look_up_image
    from interp.models.loading.language import look_up

    if experiment.model not in aliases() or not aliases()[experiment.model].source.startswith(OURS):
        return None
    look = look_up_image if experiment.model_kind == "image" else look_up
    return look(experiment.model, dtype="float32", revision=experiment.revision)


def is_a_module(words: list[str], asked: Asked) -> None:
    """The module can be started, and its own parser takes the words."""
    name, arguments = words[2], words[3:]
    found = importlib.import_module(name)
    module = importlib.import_module(f"{name}.__main__") if hasattr(found, "__path__") else found
    source = Path(str(module.__file__)).read_text()
    assert 'if __name__ == "__main__":' in source
    if "argparse" in source:
        plain = argparse.ArgumentParser.parse_args

        def parse(parser: argparse.ArgumentParser, *_: Any) -> None:
            plain(parser, arguments)
            raise ReachedModelError

        asked.getfixturevalue("monkeypatch").setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(ReachedModelError):
            module.main()
    elif "tyro.cli(Recipe)" in source:
        tyro.cli(module.Recipe, args=arguments)
    else:
        assert takes_words(module, arguments), f"{name} does not say that it takes {arguments}"


def takes_words(module: ModuleType, arguments: list[str]) -> bool:
    """Whether a module without a parser says in its own words that it takes so many arguments, or takes none."""
    usage = re.findall(
        rf"python -m {re.escape(module.__name__)}((?: [\w./-]+)*)", Path(str(module.__file__)).read_text()
    )
    return any(len(line.split()) == len(arguments) for line in usage or [""])


def is_a_synopsis(words: list[str], _: Asked) -> None:
    """Words in brackets and between bars are settings and commands that there are."""
    line = " ".join(words)
    fields = {field for kind in kinds().values() for field in kind.__dataclass_fields__}
    fields |= set(signature(verbs.transplant).parameters) if "transplant" in words else set()
    flags = {flag.replace("-", "_") for flag in re.findall(r"--([\w-]+)", line)}
    assert flags <= {*fields, *RunOptions.__dataclass_fields__, "preset", "config", "format"}
    for part in re.split(r" \| ", line.removeprefix(" ".join(PROGRAM)).strip()):
        assert part.split()[0] in {*VERBS, *joins(), "EXPERIMENT", "atlas", "plan"}


def is_the_shells(_words: list[str], _: Asked) -> None:
    """Nothing of ours: the shell's own, Slurm's and Ray's."""


def is_measured(words: list[str], asked: Asked) -> None:
    """Run as it is typed, on the smallest model."""
    captured = asked.getfixturevalue("capsys")
    assert main([*words[3:], "--model", SMALLEST, "--device", "cpu"]) == 0
    said = captured.readouterr().out
    assert Path(said.splitlines()[-1].removeprefix("report: ")).is_file()


def is_planned(words: list[str], request: Asked) -> None:
    """What would be planned is a run whose arguments are understood; its model is on the hub."""
    is_understood([word for word in words if word != "plan"], request)


RULES: list[tuple[str, Callable[[list[str], Asked], None]]] = [
    (r"make [\w-]+( \w+=[\w.]+)*", is_made),
    (r"(python -m )?pip (install|download) .*", is_installed),
    (r"(mkdir|mv|export|cd|git clone) .*|\w+=\$\(.*|ray (symmetric-run|get-auth-token|start)\b.*", is_the_shells),
    (r"python3 -m venv \.venv|source \.venv/bin/activate", is_the_shells),
    (r"python -m interp\.experiments( compare| (?=.*(\[| \| | FOLDER)).*)", is_a_synopsis),
    (r"python -m interp\.experiments (.* )?--help", is_answered),
    (rf"python -m interp\.experiments ({'|'.join(VERBS)})\b.*", is_answered),
    (r"python -m interp\.experiments plan (?!.*llama2-7b).*", is_answered),
    (r"python -m interp\.experiments plan .*", is_planned),
    (rf"python -m interp\.experiments ({'|'.join(sorted(MEASURED))})", is_measured),
    (r"python -m interp\.experiments .*", is_understood),
    (r"python -m .*", is_a_module),
]
"""The first whose pattern fits the whole command, after what Slurm or Ray put before it, decides."""


@pytest.mark.real
@pytest.mark.parametrize("text", sorted({command.text for command in commands()}), ids=str)
@pytest.mark.usefixtures("typed")
def test_every_command_is_run_or_understood(text: str, request: Asked) -> None:
    text = re.sub(r"^srun .*?(?=python -m)", "", text)
    check = next((check for pattern, check in RULES if re.fullmatch(pattern, text)), None)
    assert check, f"no rule says what is to be done with: {text}"
    words = shlex.split(os.path.expandvars(text))
    check(words, request)


def has_browser() -> bool:
    try:
        return bool(require_browser())
    except RunError:
        return False


# ---------------------------------------------------------------------- Python and files

STANDS_FOR = {"stable-diffusion-1.5": "shapes-t2i"}
"""Models of the hub, and those that stand for them."""
SMALL_PICTURES: dict[str, Any] = {"parts": ("in_item",), "n_prompts": 6, "n_items": 6, "seeds": 1, "judge_check": 0}
"""Settings of the run of pictures that stands for a whole one."""


def in_python() -> dict[str, str]:
    """The Python of each page that has any, in order, each line where it is on the page."""
    pages: dict[str, str] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                before = pages.get(block.page, "")
                pages[block.page] = before + "\n" * (block.line - 1 - before.count("\n")) + block.text + "\n"
    return pages


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")  # SAELens asks for it
@pytest.mark.parametrize("page", in_python())
def test_the_python_of_a_page_runs_from_its_first_to_its_last_line(
    page: str, typed: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = runner.run_experiment

    def answer(experiment: Experiment, options: RunOptions) -> Run:
        """A small run in place of one that takes minutes."""
        if type(experiment) is type(runs[0].experiment):
            return runs[0]
        smaller = {"model": SMALLEST} if experiment.model_kind == "language" else SMALL_PICTURES
        return measure(dataclasses.replace(experiment, **smaller), options)

    monkeypatch.setattr(runner, "run_experiment", answer)
    monkeypatch.setattr(go.Figure, "show", lambda figure: figure.to_json())
    code = in_python()[page]
    for name, here in STANDS_FOR.items():
        code = code.replace(name, here)
    names: dict[str, Any] = {"run": runs[0], "residuals": torch.randn(3, 576)}
    exec(compile(code, page, "exec"), names)
    names.clear()
    gc.collect()  # functions of the page hold its names in a circle, and models among them


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page)], ids=lambda block: block.place)
def test_every_block_is_of_a_kind_that_is_checked(block: Block, tmp_path: Path) -> None:
    if block.language == "toml":
        values = tomllib.loads(block.text)
        if "experiment" in values:
            configured(experiments()[values.pop("experiment")], values)
        elif "preset" in values:
            (tmp_path / "atlas.toml").write_text(block.text)
            shared, tables = read_configuration(tmp_path / "atlas.toml")
            assert configured_experiments(Atlas(**shared), tables)
        elif set(values) == {"project"}:
            assert set(values["project"]["entry-points"]) <= {EXPERIMENTS, JOINS, GROUP}
        else:
            assert all(ModelEntry(name, **entry) for name, entry in values.items())
    elif block.language == "json":
        assert all(json.loads(line) for line in block.text.splitlines())
    else:
        assert block.language in (*SHELL, "python", "bibtex", "text")
