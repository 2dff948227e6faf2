"""Losses on hand-computed numbers, adapters against a direct computation, ranking quality, pass@k."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from probes.critical_tokens.contrastive import (
    adapters,
    cdpo_loss_printed,
    cdpo_loss_released,
    contrastive_score,
    load_adapter,
    response_logits,
    response_loss,
    train,
)
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.scores import agreement_row, auroc, average_precision, pass_at_k, top1_hits
from tests.critical_tokens.small import small_model

CHOSEN = torch.tensor([[0.4, 0.6, 0.0]])
REJECTED = torch.tensor([[0.2, -0.5, 1.0]])
SCORES = torch.tensor([[0.5, 0.0, 0.9]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_printed_loss_by_hand() -> None:
    """Chosen 1.0; rejected .5·.2 + 1·(−.5) + .1·1 = −.3; −ln σ(2·1.3) = ln(1 + e^−2.6)."""
    assert float(cdpo_loss_printed(CHOSEN, REJECTED, SCORES, gamma=2.0)) == pytest.approx(softplus(-2.6), abs=1e-6)


def test_the_released_loss_by_hand_and_where_they_differ() -> None:
    """By position: .4 − .1, .6 + .5, 0 − .1; the mean of three, the padded position of the chosen response included."""
    expected = (softplus(-0.3) + softplus(-1.1) + softplus(0.1)) / 3
    released = float(cdpo_loss_released(CHOSEN, REJECTED, SCORES))
    assert released == pytest.approx(expected, abs=1e-6)
    assert released != pytest.approx(float(cdpo_loss_printed(CHOSEN, REJECTED, SCORES)), abs=0.05)
    padded = [torch.nn.functional.pad(one, (0, 5)) for one in (CHOSEN, REJECTED, SCORES)]
    assert float(cdpo_loss_printed(*padded)) == pytest.approx(float(cdpo_loss_printed(CHOSEN, REJECTED, SCORES)))
    assert float(cdpo_loss_released(*padded)) == pytest.approx((3 * expected + 5 * math.log(2)) / 8, abs=1e-6)
    one = [part[:, :1] for part in (CHOSEN, REJECTED, SCORES)]
    assert float(cdpo_loss_printed(*one)) == pytest.approx(float(cdpo_loss_released(*one)))  # of one token they are one


def test_the_contrastive_score_by_hand() -> None:
    """P_pos = (.5, .5), P_neg = (.2, .8), β = 1: s ∝ .25/.2 and .25/.8, so .8 and .2. Constants of a position cancel."""
    positive, negative = torch.log(torch.tensor([0.5, 0.5])) + 3, torch.log(torch.tensor([0.2, 0.8])) - 7
    torch.testing.assert_close(
        contrastive_score(positive, negative, 1.0).exp(),
        torch.tensor([0.8, 0.2], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )
    torch.testing.assert_close(
        contrastive_score(positive, negative, 0.0).exp(),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )


EXAMPLE = ([3, 4, 5], [10, 11, 12, 13])
SETTINGS = CriticalTokens(contrastive_epochs=30, contrastive_learning_rate=1e-2)


def test_adapters_learn_are_taken_off_and_equal_a_direct_computation() -> None:
    model = small_model()
    ids = torch.tensor([[*EXAMPLE[0], *EXAMPLE[1]]])
    with torch.inference_mode():
        before = model.hf(ids).logits
    weights = {name: value.clone() for name, value in model.hf.state_dict().items()}
    with adapters(model) as wrapped:
        untrained = response_logits(wrapped, "positive", EXAMPLE)
        torch.testing.assert_close(untrained, before[0, 2:-1], atol=1e-5, rtol=0)  # LoRA starts as nothing
        first = float(response_loss(wrapped, [EXAMPLE]).detach())
        assert train(wrapped, "positive", [EXAMPLE], SETTINGS) < first / 2
        torch.testing.assert_close(
            response_logits(wrapped, "negative", EXAMPLE), untrained
        )  # the other one is as it was
        trained = response_logits(wrapped, "positive", EXAMPLE)
        adapted = {name: value.clone() for name, value in wrapped.state_dict().items()}
    with torch.inference_mode():
        torch.testing.assert_close(model.hf(ids).logits, before)
    assert weights.keys() == model.hf.state_dict().keys()
    # The same by hand: W + (α / r) B A in every projection.
    direct = small_model()
    state = direct.hf.state_dict()
    for name in list(state):
        part = name.removesuffix(".weight")
        key = f"base_model.model.{part}.lora_A.positive.weight"
        if key in adapted:
            state[name] = state[name] + 2 * adapted[key.replace("lora_A", "lora_B")] @ adapted[key]
    direct.hf.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(direct.hf(ids).logits[0, 2:-1], trained, atol=1e-4, rtol=0)


def test_the_loss_counts_response_tokens_only() -> None:
    model = small_model()
    other = ([7, 8], [20, 21])
    with adapters(model) as wrapped, torch.inference_mode():
        total, n = 0.0, 0
        for example in (EXAMPLE, other):
            log_p = torch.log_softmax(response_logits(wrapped, "positive", example), -1)
            total -= float(log_p.gather(1, torch.tensor(example[1])[:, None]).sum())
            n += len(example[1])
        assert float(response_loss(wrapped, [EXAMPLE, other])) == pytest.approx(total / n, abs=1e-4)


def test_given_adapters_are_loaded_and_those_of_other_models_refused(tmp_path: Path) -> None:
    model = small_model()
    with adapters(model) as wrapped:
        train(wrapped, "positive", [EXAMPLE], SETTINGS)
        wrapped.save_pretrained(str(tmp_path), selected_adapters=["positive"])
        trained = response_logits(wrapped, "positive", EXAMPLE)
    with adapters(model) as wrapped:
        load_adapter(wrapped, "negative", tmp_path / "positive", model)
        torch.testing.assert_close(response_logits(wrapped, "negative", EXAMPLE), trained)
        with pytest.raises(ArgumentError, match=r"holds no adapter_config\.json"):
            load_adapter(wrapped, "negative", tmp_path, model)
        config = tmp_path / "positive" / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "someone/else-7b"}))
        with pytest.raises(ArgumentError, match="belongs to someone/else-7b"):
            load_adapter(wrapped, "negative", tmp_path / "positive", model)


def test_auroc_by_hand() -> None:
    score, positive = np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])
    assert auroc(score, positive) == pytest.approx((2 + 1.5) / 4)
    assert auroc(-score, positive) == pytest.approx(0.5 / 4)
    assert math.isnan(auroc(score, np.zeros(4, dtype=bool)))


def test_average_precision_by_hand() -> None:
    """First right, second wrong, third right: (1/1 + 2/3) / 2."""
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), positive) == pytest.approx(0.5)  # all tied: the base rate
    assert math.isnan(average_precision(np.ones(4), np.zeros(4, dtype=bool)))


def test_top1_by_hand() -> None:
    trajectory = np.array(["a", "a", "b", "b", "c", "d", "d"])
    score = np.array([1.0, 2.0, 2.0, 1.0, 5.0, 3.0, 3.0])
    positive = np.array([False, True, False, True, False, True, False])
    assert top1_hits(score, positive, trajectory) == {"a": 1.0, "b": 0.0, "d": 0.5}  # c has nothing to find


@pytest.mark.parametrize(("right", "n", "k"), [(0, 6, 3), (1, 6, 2), (3, 6, 3), (5, 6, 2), (6, 6, 1)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(right: int, n: int, k: int) -> None:
    outcomes = [True] * right + [False] * (n - right)
    expected = np.mean([any(chosen) for chosen in combinations(outcomes, k)])
    assert pass_at_k(right, n, k) == pytest.approx(expected)


def test_pass_at_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@7"):
        pass_at_k(1, 6, 7)


def test_where_one_trajectory_has_a_cliff_nothing_is_said_of_others():
    """AUROC and precision hinge on that trajectory as its top hit does: resampling the rest gives an interval of the rest."""
    score, trajectory = np.arange(12.0), np.repeat(list("abcd"), 3)
    positive = np.zeros(12, dtype=bool)
    positive[11] = True
    row = agreement_row("1 - p", score, positive, trajectory, 0)
    assert row["auroc"] == 1.0
    assert np.isnan([row[f"{name}_ci_low"] for name in ("auroc", "average_precision", "top1")]).all()
    positive[2] = True
    row = agreement_row("1 - p", score, positive, trajectory, 0)
    assert row["auroc_ci_low"] < row["auroc"] < row["auroc_ci_high"] <= 1
