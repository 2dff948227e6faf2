"""Units on a tiny random model: rows fit their tables, every draw has its branch's outcome, brute force agrees."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from interp.models.language.model import LanguageModel
from interp.tables import checked, named
from probes.critical_tokens import contrastive, measure
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.plan import ConfirmUnit, ContrastiveUnit, ProblemUnit, ReplacementUnit, TrajectoryUnit
from probes.critical_tokens.responses import respond
from probes.critical_tokens.tables import SCHEMAS
from tests.critical_tokens.small import PROBLEM, small_model, small_setting

ID = "parity-1-1-0-0"
SETTINGS = CriticalTokens(scan_rollouts=20, replacement_rollouts=10, contrastive_epochs=1, effect=0.3)
SETTING = small_setting(top_k=4, temperature=2.0)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return small_model()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity problem in place of the generated ones."""
    for module in (measure, contrastive):
        monkeypatch.setattr(module, "find_problem", lambda *_: PROBLEM)
    monkeypatch.setattr(measure, "setting_of", lambda *_: SETTING)


@pytest.fixture(scope="module")
def token_ids(model: LanguageModel) -> tuple[int, ...]:
    responses = respond(model, PROBLEM, SETTING, 40)
    return next(tuple(r.token_ids) for r in responses if r.outcome == "wrong" and len(r.token_ids) >= 4)


def fitting(rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: checked(frame, SCHEMAS[name]) for name, frame in named(rows, "toy").items()}


def check_outcomes(rows: dict[str, pd.DataFrame], n_tokens: int) -> None:
    """Every draw is right where its branch is, and wrong where it follows the trajectory to its end."""
    branches = rows["branches"].set_index(["arm", "kept", "draw"])["outcome"]
    assert not branches.index.duplicated().any()
    for row in rows["rollouts"].itertuples():
        assert row.branched_at >= row.kept
        expected = row.branched_at < n_tokens and branches[row.arm, row.branched_at, row.draw] == "right"
        assert row.right == expected


def test_responses(model: LanguageModel) -> None:
    rows = fitting(measure.measure_unit(SETTINGS, model, ProblemUnit("p", "parity-1-1", 0)))["trajectories"]
    assert len(rows) == 16
    assert {"right", "wrong"} <= set(rows["outcome"])
    assert rows["trajectory_id"].tolist()[:2] == ["parity-1-1-0-0", "parity-1-1-0-1"]
    assert (rows["first_error_position"] == -1).all()  # no solution is known


def test_a_trajectory_and_its_oracle(model: LanguageModel, token_ids: tuple[int, ...]) -> None:
    unit = TrajectoryUnit("t", ID, token_ids)
    shared = fitting(measure.measure_unit(SETTINGS, model, unit))
    n = len(token_ids)
    check_outcomes(shared, n)
    assert shared["spines"]["token_id"].tolist() == list(token_ids)
    assert shared["rollouts"].groupby("kept").size().ge(20).all()
    assert set(shared["rollouts"]["kept"]) == set(range(n + 1))
    brute = fitting(measure.measure_unit(CriticalTokens(method="brute"), model, unit))
    check_outcomes(brute, n)
    assert brute["rollouts"].groupby("kept").size().eq(64).all()
    assert (brute["rollouts"]["branched_at"] == brute["rollouts"]["kept"]).all()  # nothing is shared
    pd.testing.assert_frame_equal(brute["spines"], shared["spines"])
    pd.testing.assert_frame_equal(brute["exact"], shared["exact"])
    first = shared["rollouts"][shared["rollouts"]["draw"] < 20]
    a, b = (rows.groupby("kept")["right"].mean().to_numpy()[:-1] for rows in (first, brute["rollouts"]))
    pooled = np.clip((20 * a + 64 * b) / 84, 0.02, 0.98)
    statistic = ((a - b) ** 2 / (pooled * (1 - pooled) * (1 / 20 + 1 / 64))).sum()
    assert chi2.sf(statistic, n) > 1e-3


def test_fresh_pairs(model: LanguageModel, token_ids: tuple[int, ...]) -> None:
    rows = fitting(measure.measure_unit(SETTINGS, model, ConfirmUnit("c", ID, token_ids, (0, 2))))
    check_outcomes(rows, len(token_ids))
    made = rows["rollouts"].groupby(["arm", "kept"]).size()
    assert set(made.index) == {("without", 0), ("after", 1), ("without", 2), ("after", 3)}
    assert made["without", 0] == made["after", 1]
    assert made["without", 2] == made["after", 3]
    assert (made % 8 == 0).all()
    written = rows["branches"][rows["branches"]["arm"] == "without"]
    assert all(ids[0] != token_ids[kept] for kept, ids in zip(written["kept"], written["token_ids"], strict=True))


def test_the_causal_test(model: LanguageModel, token_ids: tuple[int, ...]) -> None:
    rows = fitting(measure.measure_unit(SETTINGS, model, ReplacementUnit("r", ID, token_ids, 2)))
    check_outcomes(rows, len(token_ids))
    kept = rows["rollouts"].groupby("arm")["kept"].agg(["min", "max", "size"])
    assert set(kept.index) == {"kept-2", "forbidden-2", "random-2", "entropy-2"}
    assert (kept["size"] == 10).all()
    assert kept.loc["kept-2", "min"] == 3
    assert kept.loc["forbidden-2", "min"] == 2
    assert kept.loc["random-2", "min"] != 2
    assert kept.loc["entropy-2", "min"] != 2


def test_contrastive_scores(model: LanguageModel, token_ids: tuple[int, ...]) -> None:
    examples = (("parity-1-1-1", (10, 61)), ("parity-1-1-2", (12, 13, 62)))
    unit = ContrastiveUnit("contrastive", examples, examples[::-1], ((ID, token_ids),))
    scores = fitting(measure.measure_unit(SETTINGS, model, unit))["contrastive"]
    assert scores["position"].tolist() == list(range(len(token_ids)))
    assert scores["score"].between(0, 1).all()
    again = fitting(measure.measure_unit(SETTINGS, model, unit))["contrastive"]
    pd.testing.assert_frame_equal(scores, again)
