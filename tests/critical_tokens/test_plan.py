"""What is planned from what is measured: calibration, trajectories, pairs, causal tests and adapters in their turn."""

import dataclasses

import pandas as pd
import pytest

from interp.errors import RunError
from interp.experiments.experiment import WorkUnit
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.plan import (
    ConfirmUnit,
    ContrastiveUnit,
    ProblemUnit,
    ReplacementUnit,
    TrajectoryUnit,
    chosen_trajectories,
)
from tests.critical_tokens.hand_tables import FACTS, SETTINGS, analysed, calibrated, merged, pairs, responses, tables


def plan(settings: CriticalTokens, **given: pd.DataFrame) -> list[WorkUnit]:
    return list(settings.plan(FACTS, tables(**given)))


def test_calibration_comes_first_and_is_not_left_half_done() -> None:
    first = plan(SETTINGS)
    assert [unit.id for unit in first] == [
        f"problem-{level}-{index}" for level in ("arithmetic-1-9", "words-3-0") for index in range(2)
    ]
    assert plan(SETTINGS, trajectories=responses("arithmetic-1-9", 0, 2)) == first


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
