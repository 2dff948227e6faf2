"""Whole runs: summaries, what is refused, and a run stopped in the middle of a trajectory."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.experiments.experiment import WorkUnit
from interp.experiments.run import Run
from interp.tables import checked, named
from probes.critical_tokens import audit, contrastive, measure, problems
from probes.critical_tokens.critical import response_pairs, token_pairs
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.plan import (
    ReplacementUnit,
    TrajectoryUnit,
)
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.tables import SCHEMAS
from tests.critical_tokens.hand_tables import FACTS, SETTINGS, analysed, calibrated, pairs, tables
from tests.critical_tokens.small import PROBLEM, small_model, small_setting


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
        for name, table in named(
            dataclasses.replace(SETTINGS, n_trajectories=1).summarise(FACTS, measured), "toy"
        ).items()
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
    made = {
        name: checked(table, SCHEMAS[name]) for name, table in named(settings.summarise(FACTS, measured), "toy").items()
    }
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


@pytest.mark.slow
def test_a_run_stopped_in_the_middle_of_a_trajectory_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    model = small_model()
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(problems, "check_tasks", lambda _: None)
    monkeypatch.setattr(audit, "CHAINS", 20)
    monkeypatch.setattr(measure, "setting_of", lambda *_: small_setting(10, top_k=4, temperature=2.0))
    for module in (measure, contrastive):
        monkeypatch.setattr(module, "find_problem", parity_problem)
    small = dataclasses.replace(SMALL, model=str(tmp_path / "model"))
    whole = small.run(out=tmp_path / "whole")
    request.getfixturevalue("without_pages")
    own_measure = CriticalTokens.measure
    stops = [TrajectoryUnit, ReplacementUnit]

    def stopping(self: CriticalTokens, model: Any, unit: WorkUnit) -> Any:
        """Measures, but is interrupted when the first unit of each kind in turn has been begun."""
        made = own_measure(self, model, unit)
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
