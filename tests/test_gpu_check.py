"""The check of a GPU: tiny, on the processor and on the device that stands in for a card; what is wrong gets its row; its page."""

import os
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import GptOssForCausalLM

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import kernels, page, runs
from benchmarks.gpu_check.card import Card, modules_of
from benchmarks.gpu_check.groups import groups
from benchmarks.gpu_check.processes import measure
from benchmarks.gpu_check.verdicts import Group, Measured, NotRunError, Row, run_group
from interp.models.language.model import LanguageModel
from interp.models.language.recording import AttentionRows
from tests.elsewhere import DEVICE, OtherDevice, move

pytestmark = pytest.mark.slow

CPU = Card(torch.device("cpu"), torch.float32)
GROUPS = {group.name: group for group in groups(tiny=True, profile=True)}


def rows_of(group: Group, card: Card = CPU) -> list[Row]:
    rows: list[Row] = []
    run_group(group, card, rows.append)
    assert list(dict.fromkeys(row.check for row in rows)) == list(group.checks)
    return rows


def verdicts(rows: list[Row]) -> set[str]:
    return {row.verdict for row in rows}


# ---------------------------------------------------------------------- every check


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GROUPS)
def test_every_check_holds_on_tiny_models(name: str) -> None:
    rows = rows_of(GROUPS[name])
    assert verdicts(rows) <= {"holds", "measured"}, rows
    assert any(row.verdict == "holds" for row in rows)
    assert all(row.value is not None and row.seconds > 0 and row.peak_gb is None for row in rows)


def test_rows_are_within_rounding_of_bfloat16_too() -> None:
    card = Card(torch.device("cpu"), torch.bfloat16)
    group = GROUPS["gpt_oss"]
    rows = rows_of(Group(group.name, group.shape, group.make, {"rows": group.checks["rows"]}), card)
    assert verdicts(rows) == {"holds"}, rows
    assert 0 < (rows[1].value or 0) < 1


class There(Card):
    """The device that stands in for a card: what is made in main memory is moved to it."""

    def built(self, build: Any) -> Any:
        made = CPU.built(build)
        for module in modules_of(made):
            if isinstance(module, GptOssForCausalLM):
                module.set_experts_implementation("eager")  # the kernel for experts is one that it cannot stand for
            move(module)
        return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["llama", "flux", pytest.param("sdxl", marks=pytest.mark.slow), pytest.param("gpt_oss", marks=pytest.mark.slow)],
)
def test_every_check_holds_on_the_other_device(name: str) -> None:
    with OtherDevice(), torch.no_grad():
        rows = rows_of(GROUPS[name], There(DEVICE, torch.float32))
    assert verdicts(rows) == {"holds", "measured"}, rows


# ---------------------------------------------------------------------- what is wrong


@pytest.fixture
def llama() -> Any:
    return GROUPS["llama"].make(CPU)


def check(name: str, subject: Any) -> set[str]:
    return verdicts(rows_of(Group("llama", "", lambda card: subject, {name: GROUPS["llama"].checks[name]})))


def test_rows_that_are_a_little_off_fail(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = AttentionRows.weights
    monkeypatch.setattr(AttentionRows, "weights", property(lambda self: right.func(self) * 1.001))
    assert "fails" in check("rows", llama)


def test_a_fork_that_skips_a_token_fails(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LanguageModel.reread
    monkeypatch.setattr(LanguageModel, "reread", lambda self, prefix, ids: right(self, prefix, ids[1:]))
    assert "fails" in check("forks", llama)


def test_a_recording_that_changes_logits_fails(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LanguageModel.extend
    monkeypatch.setattr(
        LanguageModel,
        "extend",
        lambda self, *args, **options: right(self, *args, **options) + len(self.hooks.observers),
    )
    assert "fails" in check("recording 64", llama)


def test_expanded_keys_and_other_kernels_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.sdpa_attention.use_gqa_in_sdpa", lambda *_: False)
    found = {row.quantity: row.verdict for row in rows_of(GROUPS["kernels"])}
    assert found["prefill: key heads given to the kernel"] == "fails"
    monkeypatch.setitem(kernels.FUSED, "aten::_scaled_dot_product_flash_attention_for_cpu", "math")
    found = {row.quantity: row.verdict for row in rows_of(GROUPS["kernels"])}
    assert found["prefill: attention calls by a flash kernel"] == "fails"
    (row,) = rows_of(next(group for group in groups(tiny=True, profile=False) if group.name == "kernels"))
    assert (row.verdict, row.why) == ("not run", "asked for with --profile")


def test_cells_that_differ_are_counted() -> None:
    one = {"a": pd.DataFrame({"x": [1.0, 2.0, float("nan")], "word": ["p", "q", None], "png": [b"1", b"2", b"3"]})}
    other = {"a": pd.DataFrame({"x": [1.0, 2.1, float("nan")], "word": ["p", "r", None], "png": [b"4", b"5", b"6"]})}
    assert runs.cells_apart(one, one) == (6, 0, "a.x")
    assert runs.cells_apart(one, other)[:2] == (6, 2)
    assert runs.cells_apart(one, {"a": one["a"].iloc[:2]}) == (9, 9, "a")
    assert runs.cells_apart(one, {}) == (9, 9, "a")


def test_a_number_that_is_none_never_holds() -> None:
    assert Measured("x", float("nan"), "", 1.0).verdict == "fails"
    assert Measured("x", float("nan"), "", 1.0, at_least=True).verdict == "fails"
    assert (Measured("x", 2.0, "", 1.0).verdict, Measured("x", 2.0, "", 1.0, at_least=True).verdict) == (
        "fails",
        "holds",
    )
    assert Measured("x", 2.0, "").verdict == "measured"


# ---------------------------------------------------------------------- processes


def nothing(card: Card) -> None:
    """A model that none of these checks need."""


def found(subject: None, card: Card) -> list[Measured]:
    return [Measured("answer", 42.0, "times", 42.0)]


def raises(subject: None, card: Card, error: Exception) -> list[Measured]:
    raise error


def crashes(subject: None, card: Card) -> list[Measured]:
    os._exit(9)


def hangs(subject: None, card: Card) -> list[Measured]:
    time.sleep(600)
    return []


def planted() -> list[Group]:
    """One group whose checks go on after errors, one that ends in a crash, one that hangs, one that comes too late."""
    errors = {
        "error": ValueError("no such key"), "full": torch.OutOfMemoryError("CUDA out of memory"), "no": NotRunError("no need"),
    }  # fmt: skip
    first = {name: partial(raises, error=error) for name, error in errors.items()} | {"found": found}
    return [
        Group("first", "a", nothing, first),
        Group(
            "unmade", "b", partial(raises, None, error=torch.OutOfMemoryError("too large")), {"x": found, "y": found}
        ),
        Group("crash", "c", nothing, {"before": found, "crash": crashes, "after": found}),
        Group("hang", "d", nothing, {"before": found, "hang": hangs, "after": found}),
        Group("late", "e", nothing, {"late": found}),
    ]


def test_whatever_becomes_of_a_check_has_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Row] = []
    late = 1e6  # the time is over once the first row of the group that hangs is known
    clock = SimpleNamespace(monotonic=lambda: late * any(row.shape == "d" for row in said))
    monkeypatch.setattr("benchmarks.gpu_check.processes.time", clock)
    rows = measure(planted(), "cpu", True, 600.0, said.append)
    assert said == rows
    told = [(row.shape, row.check, row.verdict) for row in rows]
    assert told == [
        ("a", "error", "fails"), ("a", "full", "did not fit"), ("a", "no", "not run"), ("a", "found", "holds"),
        ("b", "x", "did not fit"), ("b", "y", "did not fit"),
        ("c", "before", "holds"), ("c", "crash", "fails"), ("c", "after", "fails"),
        ("d", "before", "holds"), ("d", "hang", "not run"), ("d", "after", "not run"),
        ("e", "late", "not run"),
    ]  # fmt: skip
    why = {row.check: row.why for row in rows}
    assert why["error"] == "ValueError: no such key"
    assert why["crash"] == "the process ended with 9 before this was measured"
    assert (why["hang"], why["late"]) == ("the time was over before it ended", "the time was over")


# ---------------------------------------------------------------------- the command and its table


def test_no_gpu_and_real_sizes_on_a_processor_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (([], "finds no GPU"), (["--device", "cpu"], "add --tiny to --device cpu")):
        with pytest.raises(SystemExit) as end:
            command.main(words)
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_the_command_writes_a_table_with_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(wanted: list[Group], device: str, tiny: bool, seconds: float, say: Any) -> list[Row]:
        rows = [row for group in planted()[:2] for row in rows_of(group)]
        for row in rows:
            say(row)
        return rows

    monkeypatch.setattr("benchmarks.gpu_check.processes.measure", at_once)
    assert command.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 1
    (stored,) = tmp_path.glob("*.parquet")
    table = pd.read_parquet(stored)
    assert list(table["verdict"]) == ["fails", "did not fit", "not run", "holds", "did not fit", "did not fit"]
    assert set(table["card"]) == {CPU.name}
    assert set(table["precision"]) == {"float32"}
    text = stored.with_suffix(".md").read_text()
    assert text.startswith(f"# {CPU.name}, float32, torch")
    assert "| error | a | — | — | — | **fails** | ValueError: no such key |" in text
    section = page.section(tmp_path)
    assert "3 did not fit, 1 fails, 1 not run, 1 holds." in section
    assert page.NONE_YET.strip() not in section


def test_the_page_says_that_there_is_no_table_yet(tmp_path: Path) -> None:
    assert page.NONE_YET in page.section(tmp_path)


def test_the_manual_has_every_check_and_every_verdict() -> None:
    text = (page.RESULTS.parents[1] / "docs" / "gpu.md").read_text(encoding="utf-8")
    names = {check for group in GROUPS.values() for check in group.checks}
    kinds = {name.split()[0] for name in names}
    assert kinds == {"rows", "recording", "forks", "rollouts", "heat", "tables", "kernels"}
    for name in ("rows", "recording N", "forks", "rollouts", "heat maps", "tables of …", "kernels"):
        assert f"| `{name}` |" in text
    for verdict in ("holds", "fails", "measured", "did not fit", "not run"):
        assert f"`{verdict}`" in text
