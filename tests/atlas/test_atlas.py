"""The atlas: what applies is found, runs are ordinary ones, failures stay alone, and joins read the runs they name."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.experiments import catalogue
from interp.experiments.__main__ import main
from interp.experiments.atlas import run_atlas
from interp.experiments.atlas_settings import Atlas, configured_experiments, read_configuration
from interp.experiments.experiment import Finding
from interp.experiments.join import Join
from interp.experiments.options import RunOptions
from interp.experiments.run import configured, open_run
from interp.models.loading.names import ModelKind
from tests.counting import FAIL, Counting, Yardstick, save_model


@dataclass(frozen=True, kw_only=True)
class Pictures(Counting):
    """What is in a picture?"""

    name: ClassVar[str] = "pictures"
    model_kind: ClassVar[ModelKind] = "image"


@dataclass(frozen=True, kw_only=True)
class Picky(Counting):
    """What does a model of ninety layers do?"""

    name: ClassVar[str] = "picky"

    def check_model(self, facts: Any) -> None:
        raise ArgumentError(f"{facts.name} has too few layers: name a larger one.")


@dataclass(frozen=True, kw_only=True)
class Ratio(Join):
    """Are counted texts longer than measured ones?"""

    name: ClassVar[str] = "ratio"
    summary: ClassVar[str] = "two runs beside each other"
    paper: ClassVar[str] = "nobody"
    schema_version: ClassVar[int] = 1
    reads: ClassVar[Mapping[str, str]] = {"counting": "counting", "yardstick": "yardstick"}
    tables_read: ClassVar[Mapping[str, Sequence[str]]] = {"counting": ("texts",), "yardstick": ("texts",)}

    counting: Path | None = None
    """Folder of a counting run."""
    yardstick: Path | None = None
    """Folder of a yardstick run."""

    def schemas(self) -> Any:
        from interp.experiments.atlas_tables import Answers

        return {"answers": Answers}

    def plan(self, facts: Any, measured: Any) -> Any:
        return ()

    def summarise(self, facts: Any, measured: Any) -> Any:
        counted, measured_with = (len(self.tables_of(name)["texts"]) for name in ("counting", "yardstick"))
        row = dict(model=facts.name, quantity="ratio", about="texts", value=counted / measured_with)
        return {"answers": pd.DataFrame([{**row, "ci_low": 0.0, "ci_high": 9.0, "n": counted, "resampled": "texts"}])}

    def figures(self, tables: Any) -> Any:
        return {}

    def findings(self, tables: Any) -> Sequence[Finding]:
        return [Finding(f"One has {tables['answers']['value'].iloc[0]:.2f} times the texts of the other.")]


INSTALLED = {
    catalogue.EXPERIMENTS: {kind.name: kind for kind in (Counting, Picky, Pictures, Yardstick)},
    catalogue.JOINS: {"ratio": Ratio},
}


def entry_points(group: str) -> dict[str, SimpleNamespace]:
    return {name: SimpleNamespace(load=lambda kind=kind: kind) for name, kind in INSTALLED[group].items()}


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    """Only these experiments and this join are installed."""

    def forget() -> None:
        catalogue.experiments.cache_clear()
        catalogue.joins.cache_clear()

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_points", entry_points)
        yield
    forget()


@pytest.fixture(scope="module")
def whole(installed: None, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An atlas that nothing disturbed."""
    return run_atlas(Atlas(model=tiny), RunOptions(out=tmp_path_factory.mktemp("whole")), lambda line: None)


@pytest.fixture
def finished(whole: Any, tmp_path: Path) -> Path:
    """A folder elsewhere that holds the finished runs of `whole`."""
    for name in ("counting", "yardstick"):
        shutil.copytree(whole.folder.parents[2] / name, tmp_path / "elsewhere" / name)
    return tmp_path / "elsewhere"


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "atlas.toml"
        path.write_text(text)
        return path

    return write


def statuses(outcome: Any) -> dict[str, str]:
    return {member.experiment.name: member.status for member in outcome.members}


def test_one_command_runs_what_applies_and_says_what_does_not(tiny, tmp_path, config, capsys) -> None:
    file = config('preset = "short"\nseed = 3\n\n[yardstick]\ntexts = 1\nseed = 5\n')
    out = tmp_path / "runs"
    assert main(["atlas", "--model", tiny, "--config", str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "counting: done" in said
    assert "picky: does not apply: tiny has too few layers: name a larger one." in said
    assert "pictures: does not apply: " in said
    assert "One has 4.00 times the texts of the other." in said or "One has 2.00 times" in said
    (record,) = out.glob("atlas/tiny/*/atlas.json")
    members = json.loads(record.read_text())["members"]
    assert {name: member["status"] for name, member in members.items()} == {
        "counting": "done",
        "picky": "does not apply",
        "pictures": "does not apply",
        "yardstick": "done",
        "ratio": "done",
    }
    counting, yardstick = (open_run(members[name]["run"]).experiment for name in ("counting", "yardstick"))
    assert isinstance(counting, Counting)
    assert isinstance(yardstick, Yardstick)
    assert (counting.texts, counting.tokens, counting.seed) == (2, 4, 3)  # the preset and the shared seed
    assert (yardstick.texts, yardstick.seed) == (1, 5)  # a table of its own goes before both
    answers = pd.read_parquet(record.parent / "tables" / "answers.parquet")
    assert answers["question"].tolist() == ["ratio"]
    sentences = pd.read_parquet(record.parent / "tables" / "sentences.parquet")
    assert set(sentences["experiment"]) == {"counting", "yardstick", "ratio"}


def test_the_page_ends_with_what_joins_the_experiments(whole) -> None:
    text = (whole.folder / "report.html").read_text()
    titles = [part.split("</h2>")[0].split(">")[-1] for part in text.split("<h2 ")[1:]]
    assert titles == ["What was found", "counting", "yardstick", "Joined", "How to repeat it"]
    assert "Are counted texts longer than measured ones?" in text.split('id="joined"')[1]
    assert "does not apply: tiny has too few layers" in text
    assert text.count('id="figure-counting_surprisal"') == 1
    assert text.count('id="figure-yardstick_surprisal"') == 1
    for member in whole.members:
        if member.run:
            link = f"../../../{member.experiment.name}/tiny/{member.run.folder.name}/report.html"
            assert f'href="{link}"' in text
            assert (whole.folder / link).is_file()
    assert {path.name for path in (whole.folder / "figures").iterdir()} == {
        "counting_surprisal.html",
        "yardstick_surprisal.html",
        "plotly.min.js",
    }


def test_one_failure_leaves_the_others_and_the_same_command_finishes(
    tiny, whole, tmp_path, monkeypatch, capsys
) -> None:
    words = ["atlas", "--model", tiny, "--out", str(tmp_path / "runs")]
    with monkeypatch.context() as patch:
        patch.setenv(FAIL, "text-2")
        patch.setitem(INSTALLED[catalogue.EXPERIMENTS], "yardstick", _Sturdy)
        catalogue.experiments.cache_clear()
        assert main(words) == 1
        told = capsys.readouterr()
    catalogue.experiments.cache_clear()
    assert "counting: failed: ValueError: nothing can be read in text-2." in told.out
    assert "yardstick: done" in told.out
    assert "ratio: does not apply: It joins runs that are not there: counting (failed)." in told.out
    assert "counting failed, and the report says why" in told.err
    (folder,) = (tmp_path / "runs" / "atlas" / "tiny").iterdir()
    page = (folder / "report.html").read_text()
    assert "counting failed: ValueError: nothing can be read in text-2." in page
    assert "Not answered (ratio): It joins runs that are not there: counting (failed)." in page
    assert main(words) == 0
    resumed = tmp_path / "runs" / "atlas" / "tiny" / whole.folder.name
    for name in ("answers", "sentences"):
        tables = [pd.read_parquet(folder / "tables" / f"{name}.parquet") for folder in (resumed, whole.folder)]
        pd.testing.assert_frame_equal(*tables)


@dataclass(frozen=True, kw_only=True)
class _Sturdy(Yardstick):
    """The yardstick, with texts that the planted failure does not name."""

    texts: int = 2


def test_a_refusal_of_what_has_a_table_of_its_own_is_a_failure(tiny, finished, config) -> None:
    asked = run_atlas(
        Atlas(model=tiny, config=config("[picky]\ntexts = 1\n")), RunOptions(out=finished), lambda line: None
    )
    assert statuses(asked)["picky"] == "failed"
    assert [member.why for member in asked.failed] == ["tiny has too few layers: name a larger one."]


def test_runs_that_are_finished_are_read_and_where_they_lie_does_not_name_the_join(
    tiny, whole, finished, monkeypatch
) -> None:
    monkeypatch.setattr(Counting, "measure", None)  # to measure again would fail
    outcome = run_atlas(Atlas(model=tiny), RunOptions(out=finished), lambda line: None)
    folders = [[member.run.folder for member in atlas.members if member.run] for atlas in (outcome, whole)]
    assert [folder.relative_to(finished) for folder in folders[0]] == [
        folder.relative_to(whole.folder.parents[2]) for folder in folders[1]
    ]
    assert len(folders[0]) == 3  # the third is the join


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[countin]\ntexts = 1", "there is no experiment called countin. Did you mean counting?"),
        ("[counting]\ntext = 1", "counting has no setting text. Did you mean texts?"),
        ("[counting]\ntexts = 'many'", "counting: texts cannot be 'many'"),
        ("[counting]\nmodel = 'gpt2'", "[counting] model: all experiments of an atlas share the model"),
        ("sede = 1", "sede is no setting that all experiments share. Did you mean seed?"),
        ("counting = 1", "counting is an experiment: write its settings under [counting]."),
        ("seed = 'x'", "atlas: seed cannot be 'x'"),
        ("preset = 'shrot'", "No experiment has a preset shrot. Did you mean short?"),
        ("[counting", "cannot be read as TOML"),
    ],
)
def test_a_wrong_name_gets_one_sentence_with_the_nearest(text, sentence, tiny, tmp_path, config, capsys) -> None:
    assert main(["atlas", "--model", tiny, "--config", str(config(text)), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not (tmp_path / "atlas").exists()


def test_a_join_refuses_runs_that_it_cannot_read(tiny, whole, tmp_path) -> None:
    counting, yardstick = (
        next(member.run for member in whole.members if member.experiment.name == name)
        for name in ("counting", "yardstick")
    )
    with pytest.raises(ArgumentError, match="reads a run of yardstick: add --yardstick and the folder of one"):
        Ratio(model=tiny, counting=counting.folder).run(out=tmp_path)
    with pytest.raises(ArgumentError, match="is a run of yardstick: name the folder of a counting run"):
        Ratio(model=tiny, counting=yardstick.folder, yardstick=yardstick.folder).run(out=tmp_path)
    other = str(save_model(tmp_path / "other", seed=1))
    with pytest.raises(ArgumentError, match="is a run on tiny, not on other: join runs on one model"):
        Ratio(model=other, counting=counting.folder, yardstick=yardstick.folder).run(out=tmp_path)


def test_a_shared_precision_goes_before_an_experiments_own(config) -> None:
    assert configured_experiments(Atlas(dtype="bfloat16"), {})["counting"].dtype == "bfloat16"
    shared, tables = read_configuration(config("dtype = 'float16'\n[counting]\ndtype = 'float32'"))
    both = configured_experiments(configured(Atlas, shared), tables)
    assert {name: experiment.dtype for name, experiment in both.items()} == {
        **dict.fromkeys(("picky", "pictures", "yardstick", "ratio"), "float16"),
        "counting": "float32",
    }


def test_help_and_list_name_the_joins(capsys) -> None:
    assert main(["--help"]) == 0
    assert re.search(r"^  ratio +two runs beside each other$", capsys.readouterr().out, re.MULTILINE)
    assert main(["list"]) == 0
    assert "ratio" in capsys.readouterr().out
