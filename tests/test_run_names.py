"""What a run is called: everything that changes what is measured is in its name, and its recorded command repeats it."""

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp.errors import RunError
from interp.experiments.__main__ import main
from interp.experiments.experiment import ADDED
from interp.experiments.options import RunOptions
from interp.experiments.provenance import command_line
from interp.experiments.run_names import run_hash
from interp.models.loading.language import look_up
from probes.retrieval_heads.experiment import RetrievalHeads
from tests.counting import Counting

pytestmark = pytest.mark.usefixtures("counting_installed")


@pytest.fixture
def settled(tiny: str, tmp_path: Path) -> Counting:
    """A configuration with a model and an input file of its own."""
    (tmp_path / "words.txt").write_text("one two")
    return Counting(model=str(shutil.copytree(tiny, tmp_path / "tiny")), words=tmp_path / "words.txt")


def name_of(counting: Counting) -> str:
    return run_hash(counting, look_up(counting.model, dtype=counting.dtype))


@pytest.mark.parametrize(
    "change",
    [dict(seed=1), dict(note="x"), dict(depths=(0.5, 0.6)), dict(limit=None), dict(words=None), dict(dtype="bfloat16")],
)
def test_another_setting_gives_another_name(settled: Counting, change: dict[str, Any]) -> None:
    assert len(name_of(settled)) == 12
    assert name_of(settled) == name_of(dataclasses.replace(settled))
    assert name_of(dataclasses.replace(settled, **change)) != name_of(settled)


@pytest.mark.parametrize(
    "file",
    ["words.txt", "tiny/model.safetensors", "tiny/config.json", "tiny/tokenizer.json", "tiny/chat_template.jinja"],
)
def test_other_contents_of_a_file_give_another_name(settled: Counting, tmp_path: Path, file: str) -> None:
    before = name_of(settled)
    with (tmp_path / file).open("ab") as stream:
        stream.write(b" ")
    assert name_of(settled) != before


def test_another_version_of_the_tables_gives_another_name(settled: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    before = name_of(settled)
    monkeypatch.setattr(Counting, "schema_version", 2)
    assert name_of(settled) != before


def test_the_same_weights_under_any_path_and_the_same_precision_keep_the_name(
    settled: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = name_of(settled)
    assert name_of(dataclasses.replace(settled, dtype="float32")) == before  # which auto is on a CPU
    monkeypatch.chdir(tmp_path)
    assert name_of(dataclasses.replace(settled, model="./tiny")) == before
    elsewhere = shutil.copytree(settled.model, tmp_path / "elsewhere" / "tiny")
    assert name_of(dataclasses.replace(settled, model=str(elsewhere))) == before


def test_the_day_of_chats_is_recorded_and_named_only_where_a_prompt_holds_it(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "tiny"))
    template = folder / "chat_template.jinja"
    for written, day in (("{{ messages }}", None), ("{{ strftime_now('%d') }}{{ messages }}", "2024-07-26")):
        template.write_text(written)
        names = {}
        for today in ("2024-07-26", "2030-01-01"):
            monkeypatch.setattr("interp.models.tokens.chat.CHAT_DATE", today)
            facts = look_up(str(folder), dtype="float32")
            assert facts.chat_date == (day and today)
            for wanted in ("auto", "chat", "plain"):
                names[today, wanted] = run_hash(RetrievalHeads(model=str(folder), prompt_format=wanted), facts)
        for wanted in ("auto", "chat", "plain"):
            same = names["2024-07-26", wanted] == names["2030-01-01", wanted]
            assert same is (day is None or wanted == "plain")


def test_a_setting_that_came_later_leaves_the_names_of_earlier_runs_alone(settled: Counting) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later(Counting):
        tail: str | None = dataclasses.field(default=None, metadata=ADDED)

    values = {field.name: getattr(settled, field.name) for field in dataclasses.fields(settled)}
    assert name_of(Later(**values)) == name_of(settled)
    assert len({name_of(Later(**values, tail=tail)) for tail in (None, "", "x")}) == 3


WORDS = st.text(st.sampled_from("ab -'\"$;\\*=é\n"), max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    chosen=st.fixed_dictionaries(
        {},
        optional=dict(
            model=st.just("gpt2"),
            revision=st.just("main"),
            dtype=st.just("bfloat16"),
            seed=st.integers(-5, 5),
            note=WORDS,
            depths=st.lists(st.floats(-1, 1), max_size=3).map(tuple),
            sharing=st.booleans(),
            limit=st.none() | st.integers(0, 3),
            words=st.just(Path("a folder/it's.txt")),
        ),
    ),
    place=st.fixed_dictionaries({}, optional=dict(out=st.just(Path("my runs")), export=st.just(("pdf", "svg")))),
)
@example(chosen=dict(note="--preset"), place={})
@example(chosen=dict(limit=None, depths=()), place={})
def test_the_recorded_command_repeats_the_run(chosen: dict[str, Any], place: dict[str, Any]) -> None:
    counting, options = Counting(**chosen), RunOptions(**place)
    words = shlex.split(command_line(counting, options))
    assert words[:4] == ["python", "-m", "interp.experiments", "counting"]
    repeated: list[Any] = []

    def capture(self: Counting, **given_options: Any) -> Any:
        repeated.extend([self, RunOptions(**given_options)])
        raise RunError("not run")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "run", capture)
        assert main(words[3:]) == 1
    assert repeated == [counting, options]
