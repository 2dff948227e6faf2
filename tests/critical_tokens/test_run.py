"""Whole runs: what is planned from what is measured, what is refused, and a run stopped in the middle of a trajectory."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import ArgumentError, RunError
from interp.experiments.experiment import WorkUnit
from interp.experiments.run import Run
from interp.models.identity import ModelFacts, ModelIdentity
from interp.tables import checked, empty
from probes.critical_tokens import audit, checks, contrastive, units
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.plan import (
    ConfirmUnit,
    ContrastiveUnit,
    ProblemUnit,
    ReplacementUnit,
    TrajectoryUnit,
    chosen_trajectories,
)
from probes.critical_tokens.preferences import response_pairs, token_pairs
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.tables import SCHEMAS
from tests.critical_tokens.small import PROBLEM, small_model, small_setting

FACTS = ModelFacts(ModelIdentity("toy", "toy", "1", "float32"), "llama", None, 512)


def responses(level: str, index: int, right: int, n: int = 4, ended: bool = True) -> pd.DataFrame:
    """Responses to one problem, the right ones first."""
    rows = [
        {
            "model": "toy",
            "trajectory_id": f"{level}-{index}-{draw}",
            "problem_id": f"{level}-{index}",
            "level": level,
            "draw": draw,
            "outcome": "right" if draw < right else "wrong",
            "ended": ended,
            "n_tokens": 3,
            "first_error_position": -1 if draw < right else 1,
            "n_wrong_steps": 0,
            "prompt_tokens": 5,
            "gold": "7",
            "prompt": "Q: 1\nA: 1\n\nQ: 2\nA:",
            "text": " 7\n",
            "token_ids": [5, 6, draw],
        }
        for draw in range(n)
    ]
    return pd.DataFrame(rows)


def tables(**given: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: checked(given[name], schema) if name in given else empty(schema) for name, schema in SCHEMAS.items()}


SETTINGS = CriticalTokens(
    levels=("arithmetic-1-9", "words-3-0"), calibration_problems=2, n_trajectories=2, max_problems=4
)


def plan(settings: CriticalTokens, **given: pd.DataFrame) -> list[WorkUnit]:
    return list(settings.plan(FACTS, tables(**given)))


def test_calibration_comes_first_and_is_not_left_half_done() -> None:
    first = plan(SETTINGS)
    assert [unit.id for unit in first] == [
        f"problem-{level}-{index}" for level in ("arithmetic-1-9", "words-3-0") for index in range(2)
    ]
    assert plan(SETTINGS, trajectories=responses("arithmetic-1-9", 0, 2)) == first


def calibrated(*right: int, level: str = "arithmetic-1-9", others: int = 0) -> pd.DataFrame:
    """Calibration of both levels: right answers of 4 to each problem of the first, `others` to each of the second."""
    parts = [responses(level, index, count) for index, count in enumerate(right)]
    parts += [responses("words-3-0", index, others) for index in range(2)]
    return pd.concat(parts, ignore_index=True)


def test_levels_that_are_never_or_always_solved_are_left_out() -> None:
    units = plan(SETTINGS, trajectories=calibrated(0, 1, others=0))
    assert {unit.level for unit in units[4:] if isinstance(unit, ProblemUnit)} == {"arithmetic-1-9"}


@pytest.mark.parametrize(
    ("right", "others", "word"), [(0, 0, "wrong"), (4, 4, "right"), (4, 0, "wrong or always right")]
)
def test_a_model_without_a_usable_level_is_told_so_with_its_calibration(right: int, others: int, word: str) -> None:
    given = calibrated(right, right, others=others)
    with pytest.raises(RunError, match=f"almost always {word} at every level .arithmetic-1-9 {25 * right}%"):
        plan(SETTINGS, trajectories=given)
    assert len(plan(dataclasses.replace(SETTINGS, calibrate_only=True), trajectories=given)) == 4


def test_only_unsure_problems_and_ended_responses_are_analysed() -> None:
    given = pd.concat(
        [
            responses("arithmetic-1-9", 0, 2),
            responses("arithmetic-1-9", 1, 4),  # V_0 = 1
            responses("arithmetic-1-9", 2, 2, ended=False),
            responses("arithmetic-1-9", 3, 3),
        ],
        ignore_index=True,
    )
    assert chosen_trajectories(SETTINGS, ["arithmetic-1-9"], given) == ["arithmetic-1-9-0-2", "arithmetic-1-9-3-3"]
    assert chosen_trajectories(SETTINGS, ["words-3-0"], given) == []


def test_trajectories_are_searched_until_there_are_enough() -> None:
    found = plan(SETTINGS, trajectories=calibrated(2, 2))
    assert [type(unit) for unit in found[4:]] == [TrajectoryUnit] * 2
    assert found[4].token_ids == (5, 6, 2)  # type: ignore[attr-defined]
    more = plan(SETTINGS, trajectories=calibrated(2, 4))
    assert [unit.id for unit in more[4:]] == ["problem-arithmetic-1-9-2"]


P = [0.5, 0.99, 0.6]


def analysed(id: str, drop_at: int = 0) -> dict[str, pd.DataFrame]:
    """The curve of one trajectory of three tokens that falls from 20 of 24 to 2 at one token."""
    spine = pd.DataFrame(
        {
            "model": "toy", "trajectory_id": id, "position": range(3), "token_id": [5, 6, 2], "token": [" 7", ".", "\n"],
            "token_class": "number", "p": P, "rank": 0, "entropy_nats": [0.7, 0.1, 0.6],
            "surprisal_nats": -np.log(P),
        }
    )  # fmt: skip
    rows = [
        {"model": "toy", "trajectory_id": id, "arm": "scan", "kept": kept, "draw": draw, "branched_at": 3,
         "right": kept < 3 and draw < (20 if kept <= drop_at else 2)}
        for kept in range(4)
        for draw in range(24)
    ]  # fmt: skip
    scan = pd.DataFrame(
        [{"model": "toy", "trajectory_id": id, "critical_position": 1, "set_first": 0, "set_last": 1, "n_rollouts": 64}]
    )
    return {"spines": spine, "rollouts": pd.DataFrame(rows), "scans": scan}


def pairs(id: str, token: int, without: int, after: int, n: int = 40) -> pd.DataFrame:
    rows = [
        {
            "model": "toy",
            "trajectory_id": id,
            "arm": arm,
            "kept": kept,
            "draw": draw,
            "branched_at": kept,
            "right": draw < right,
        }
        for arm, kept, right in (("without", token, without), ("after", token + 1, after))
        for draw in range(n)
    ]
    return pd.DataFrame(rows)


def merged(*parts: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}


def test_candidates_causal_tests_and_adapters_come_in_their_turn() -> None:
    given = merged(analysed("arithmetic-1-9-0-2"), analysed("arithmetic-1-9-1-3"))
    found = pd.concat([calibrated(2, 3), responses("arithmetic-1-9", 2, 2)], ignore_index=True)
    waiting = plan(SETTINGS, trajectories=found, **given)
    tries = [unit for unit in waiting if isinstance(unit, ConfirmUnit)]
    assert [(unit.trajectory_id, unit.candidates) for unit in tries] == [
        ("arithmetic-1-9-0-2", (0,)), ("arithmetic-1-9-1-3", (0,)),
    ]  # fmt: skip
    assert not [unit for unit in waiting if isinstance(unit, ReplacementUnit | ContrastiveUnit)]
    given["rollouts"] = pd.concat(
        [given["rollouts"], pairs("arithmetic-1-9-0-2", 0, 38, 2), pairs("arithmetic-1-9-1-3", 0, 20, 20)],
        ignore_index=True,
    )
    tests = plan(SETTINGS, trajectories=found, **given)
    replaced = [(u.trajectory_id, u.position) for u in tests if isinstance(u, ReplacementUnit)]
    assert replaced == [
        ("arithmetic-1-9-0-2", 1),
        ("arithmetic-1-9-0-2", 0),  # proven on its pairs; the other trajectory's token is not
        ("arithmetic-1-9-1-3", 1),
    ]
    (trained,) = [unit for unit in tests if isinstance(unit, ContrastiveUnit)]
    assert {problem for problem, _ in (*trained.right, *trained.wrong)} == {
        "arithmetic-1-9-2",
        "words-3-0-0",
        "words-3-0-1",
    }


def test_summaries_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHAINS", 20)
    id = "arithmetic-1-9-0-2"
    given = analysed(id)
    causal = pd.concat([pairs(id, 0, 10, 2, n=16), pairs(id, 1, 4, 0, n=16)], ignore_index=True)
    arms = {
        ("without", 0): "forbidden-0",
        ("after", 1): "kept-0",
        ("without", 1): "forbidden-1",
        ("after", 2): "kept-1",
    }
    causal["arm"] = [arms[pair] for pair in zip(causal["arm"], causal["kept"], strict=True)]
    given["rollouts"] = pd.concat([given["rollouts"], pairs(id, 0, 38, 2), causal], ignore_index=True)
    measured = tables(trajectories=calibrated(2, 3), **given)
    made = {
        name: checked(table, SCHEMAS[name])
        for name, table in dataclasses.replace(SETTINGS, n_trajectories=1).summarise(FACTS, measured).items()
    }
    positions = made["positions"]
    np.testing.assert_allclose(positions["value_before"], [20 / 24, 2 / 24, 2 / 24])
    np.testing.assert_allclose(positions["value"], [2 / 24, 2 / 24, 0])
    assert positions["certified"].tolist() == [False, True, False]
    assert positions["n_recycled"].tolist() == [24, 24, 0]
    critical = made["critical"].set_index("definition")
    assert critical["position"].to_dict() == {"paper": 1, "cliff": 0, "pivot": 0}
    assert critical.loc["cliff", "drop"] == pytest.approx(0.5 * (38 - 2) / 40)
    assert critical["relative_to_error"].to_dict() == {"paper": 0, "cliff": -1, "pivot": -1}
    assert made["levels"].set_index("level")["success"].to_dict() == {"arithmetic-1-9": 5 / 8, "words-3-0": 0}
    once = made["replacement"][made["replacement"]["k"] == 1].set_index(["definition", "condition"])["pass_at_k"]
    assert once.to_dict() == {
        ("paper", "forbidden"): 4 / 16, ("paper", "kept"): 0,
        ("cliff", "forbidden"): 10 / 16, ("cliff", "kept"): 2 / 16,
    }  # fmt: skip
    assert made["audit"].set_index("check").loc["replication", "value"] == 1
    agreement = made["agreement"].set_index("score")
    assert agreement.loc["entropy", "auroc"] == 1  # the cliff has the largest entropy of three
    assert agreement.loc["position", "top1_hit"] == 0
    whole = {**measured, **made}
    assert SETTINGS.figures(whole).keys() >= {
        "trajectory_1",
        "agreement",
        "token_classes",
        "relative_to_error",
        "levels",
    }
    assert any("certified" in finding.text for finding in SETTINGS.findings(whole))
    (pair,) = response_pairs(whole)
    assert pair == {"prompt": "Q: 1\nA: 1\n\nQ: 2\nA:", "chosen": " 7\n", "rejected": " 7\n"}
    whole["branches"] = pd.DataFrame(
        {"model": "toy", "trajectory_id": id, "arm": "without", "kept": 0, "draw": range(3), "token": [" 8", " 9", " 9"],
         "outcome": ["right", "right", "right"]}
    )  # fmt: skip
    assert list(token_pairs(whole)) == [{"prompt": "Q: 1\nA: 1\n\nQ: 2\nA:", "chosen": " 9", "rejected": " 7"}]


def test_calibration_alone_has_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHAINS", 5)
    settings = dataclasses.replace(SETTINGS, calibrate_only=True)
    measured = tables(trajectories=calibrated(2, 3))
    made = {name: checked(table, SCHEMAS[name]) for name, table in settings.summarise(FACTS, measured).items()}
    whole = {**measured, **made}
    assert set(settings.figures(whole)) == {"levels"}
    assert settings.findings(whole)[0].text.startswith("Answered right, by level")
    assert set(settings.documents(whole).values()) == {""}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(top_p=0.0), "--top-p"),
        (dict(temperature=0.0), "--top-k 1"),
        (dict(top_k=0), "--top-k"),
        (dict(levels=()), "--levels"),
        (dict(definitions=()), "--definitions"),
        (dict(margin=0.3), "--margin"),
        (dict(alpha=0.9), "--alpha"),
        (dict(max_pairs=4), "--max-pairs"),
        (dict(rule_rollouts=32), "--rule-rollouts 59"),
        (dict(scan_rollouts=0), "--scan-rollouts"),
        (dict(exact_tokens=-1), "--exact-tokens"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        CriticalTokens(**wrong)


def test_the_pairs_that_are_asked_for_are_enough() -> None:
    with pytest.raises(ArgumentError, match=r"--max-pairs (\d+)") as refused:
        CriticalTokens(max_pairs=1)
    enough = int(str(refused.value).split("--max-pairs ")[1].split()[0])
    assert CriticalTokens(max_pairs=enough).max_pairs == enough


def test_problems_are_checked_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no family"):
        CriticalTokens(levels=("sums-2-5",)).check_model(FACTS)
    with pytest.raises(ArgumentError, match="cannot be read"):
        CriticalTokens(task_file=tmp_path / "none").check_model(FACTS)
    with pytest.raises(ArgumentError, match=r"no adapter_config\.json"):
        CriticalTokens(positive_adapter=tmp_path).check_model(FACTS)
    with pytest.raises(ArgumentError, match="--max-new-tokens 256"):
        CriticalTokens(max_new_tokens=600).check_model(FACTS)


SMALL = CriticalTokens(
    levels=("parity-1-1",), calibration_problems=3, max_problems=4, n_trajectories=2, replacement_rollouts=4, effect=0.3,
    contrastive_examples=4, contrastive_epochs=1, exact_nodes=4, max_pairs=32,
)  # fmt: skip


def parity_problem(_: CriticalTokens, level: str, index: int) -> Problem:
    """Problems of their own prompts, for the tiny model."""
    return dataclasses.replace(PROBLEM, id=f"{level}-{index}", level=level, prompt=f"w3 w{4 + index} w5 w6")


def test_a_run_stopped_in_the_middle_of_a_trajectory_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(checks, "check_tasks", lambda _: None)
    monkeypatch.setattr(audit, "CHAINS", 20)
    monkeypatch.setattr(units, "setting_of", lambda *_: small_setting(10, top_k=4, temperature=2.0))
    for module in (units, contrastive):
        monkeypatch.setattr(module, "find_problem", parity_problem)
    small = dataclasses.replace(SMALL, model=str(tmp_path / "model"))
    whole = small.run(out=tmp_path / "whole")
    measure = CriticalTokens.measure
    stops = [TrajectoryUnit, ReplacementUnit]

    def stopping(self: CriticalTokens, model: Any, unit: WorkUnit) -> Any:
        """Measures, but is interrupted when the first unit of each kind in turn has been begun."""
        made = measure(self, model, unit)
        if stops and isinstance(unit, stops[0]):
            stops.pop(0)
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(CriticalTokens, "measure", stopping)
    resumed: Run | None = None
    for _ in range(3):
        try:
            resumed = small.run(out=tmp_path / "resumed")
        except KeyboardInterrupt:
            continue
    assert resumed is not None
    assert not stops
    for name in SCHEMAS:
        pd.testing.assert_frame_equal(resumed.tables[name], whole.tables[name])
    assert len(whole.tables["positions"])
    assert len(whole.tables["replacement"])
    assert len(whole.tables["contrastive"])
    assert len(whole.tables["audit"]) >= 7
    for document in ("preferences_responses.jsonl", "preferences_tokens.jsonl"):
        for line in (whole.folder / document).read_text().splitlines():
            assert {"prompt", "chosen", "rejected"} <= json.loads(line).keys()
