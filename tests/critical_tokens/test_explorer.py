"""Rollouts around a trajectory of a real network: exact values from the tree against draws, shared against independent draws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2_contingency

from interp.errors import RunError
from interp.models.language.model import LanguageModel
from probes.critical_tokens.explorer import Pool, enumerate_value
from probes.critical_tokens.responses import Setting, prompt_ids, respond
from tests.critical_tokens.small import PROBLEM, small_explorer, small_model, small_setting

N = 400


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return small_model()


@pytest.fixture(scope="module")
def setting() -> Setting:
    return small_setting(top_k=4, temperature=2.0)


@pytest.fixture(scope="module")
def trajectory(model: LanguageModel, setting: Setting) -> list[int]:
    """A wrong response of at least four tokens."""
    responses = respond(model, PROBLEM, setting, 40)
    return next(r.token_ids for r in responses if r.outcome == "wrong" and len(r.token_ids) >= 4)


def test_p_is_the_policys_probability(model: LanguageModel, setting: Setting, trajectory: list[int]) -> None:
    explorer = small_explorer(model, trajectory, setting)
    prompt = prompt_ids(model, PROBLEM.prompt)
    for kept, token in enumerate(trajectory):
        with torch.inference_mode():
            logits = model.hf(torch.tensor([prompt + trajectory[:kept]])).logits[0, -1]
        top = (logits.double() / 2).topk(4)
        shares = torch.softmax(top.values, -1)
        assert explorer.p[kept] == pytest.approx(float(shares[top.indices == token]), abs=1e-5)


def test_draws_meet_the_exact_value_everywhere(model: LanguageModel, setting: Setting, trajectory: list[int]) -> None:
    """Shared draws, independent draws and the tree agree at every position; the identity and the bound hold exactly."""
    explorer = small_explorer(model, trajectory, setting)
    n_tokens = len(trajectory)
    exact = np.zeros(n_tokens + 1)
    for kept in range(n_tokens):
        bracket = explorer.exact_value(kept, most_nodes=5000, gap=0.0)
        assert bracket.high - bracket.low < 1e-3
        exact[kept] = (bracket.low + bracket.high) / 2
    assert (np.abs(np.diff(exact)) <= 1 - explorer.p + 1e-3).all()
    pool = Pool.around(explorer, "scan", N, "wrong")
    pool.make(range(n_tokens + 1))
    wanted = [(kept, index) for kept in range(n_tokens) for index in range(N)]
    alone = explorer.independent("brute", wanted)
    without = explorer.branches({"without": wanted})["without"]
    for kept in range(n_tokens):
        shared = sum(pool.outcome(kept, index) == "right" for index in range(N))
        independent = sum(alone[kept, index].outcome == "right" for index in range(N))
        for right in (shared, independent):
            assert binomtest(right, N, min(1.0, exact[kept])).pvalue > 1e-3
        table = np.array([[shared, N - shared], [independent, N - independent]])
        if table.sum(axis=0).all():
            assert chi2_contingency(table).pvalue > 1e-3
        if explorer.p[kept] < 1:
            forbidden = (exact[kept] - explorer.p[kept] * exact[kept + 1]) / (1 - explorer.p[kept])
            right = sum(without[kept, index].outcome == "right" for index in range(N))
            assert binomtest(right, N, float(np.clip(forbidden, 0, 1))).pvalue > 1e-3
            assert all(without[kept, index].token_ids[0] != trajectory[kept] for index in range(N))
    shared_tokens = sum(len(branch.token_ids) for branch in pool.branches.values())
    assert shared_tokens < sum(len(branch.token_ids) for branch in alone.values())


def test_a_wrong_position_by_one_would_show(model: LanguageModel, setting: Setting, trajectory: list[int]) -> None:
    """The test above can fail: the values of neighbouring positions differ by more than it lets pass, somewhere."""
    explorer = small_explorer(model, trajectory, setting)
    exact = [explorer.exact_value(kept, most_nodes=5000, gap=0.0).low for kept in range(len(trajectory))]
    steps = [binomtest(round(N * a), N, b).pvalue for a, b in pairwise(exact)]
    assert min(steps) < 1e-3


def test_rollouts_go_by_key(model: LanguageModel, trajectory: list[int]) -> None:
    """Neither the batch nor what was made before changes a draw."""
    settings = [small_setting(temperature=1.5), small_setting(temperature=1.5)]
    object.__setattr__(settings[1], "batch_rows", 1)
    pools = [Pool.around(small_explorer(model, trajectory, one), "scan", 12, "wrong") for one in settings]
    pools[0].make(range(len(trajectory) + 1))
    for kept in reversed(range(len(trajectory))):
        pools[1].make([kept], slice(6, 12))
        pools[1].make([kept], slice(0, 6))
    assert pools[0].branches == pools[1].branches
    assert len(pools[0].branches) > 5


def test_other_seeds_and_arms_are_other_draws(model: LanguageModel, trajectory: list[int]) -> None:
    explorer = small_explorer(model, trajectory, small_setting())
    wanted = [(0, index) for index in range(20)]
    both = explorer.branches({"a": wanted, "b": wanted})
    first, second = both["a"], both["b"]
    assert first == explorer.branches({"a": wanted})["a"]
    assert first != second


def test_a_trajectory_of_another_policy_is_refused(model: LanguageModel, trajectory: list[int]) -> None:
    with pytest.raises(RunError, match="never draws"):
        small_explorer(model, [*trajectory[:-1], 0, 1, 2, 3], small_setting(top_k=1))


def test_enumeration_by_hand() -> None:
    """Two letters of 0.6 and 0.4; three of them make a text, right with two or more zeros: .6³ + 3·.6²·.4 = .648."""

    def step(texts: list[tuple[int, ...]]) -> torch.Tensor:
        return torch.tensor([[0.6, 0.4]], dtype=torch.float64).expand(len(texts), 2)

    def right(text: tuple[int, ...]) -> bool:
        return text.count(0) >= 2

    whole = enumerate_value(step, lambda text: False, right, room=3, gap=0.0)  # type: ignore[arg-type]
    assert whole.low == pytest.approx(0.648)
    assert whole.high == pytest.approx(0.648)
    assert whole.n_nodes == 7
    stopped = enumerate_value(step, lambda text: False, right, room=3, most_nodes=4)  # type: ignore[arg-type]
    assert stopped.low <= 0.648 <= stopped.high
    assert stopped.high - stopped.low > 0.1
    ends = enumerate_value(step, lambda text: text[-1] == 1, right, room=3, gap=0.0)  # type: ignore[arg-type]
    assert ends.low == pytest.approx(0.6**2)  # 000 and 001; 01 ends with one zero
