"""Sampling: the policy and the draw by hand, streams by key, and rollouts that do not depend on what else is in the batch."""

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import Prefix
from interp.models.language.sampling import Job, Policy, StopRule, draw, sample, stream
from interp.models.loading.language import load
from tests.tiny_models import random_ids, tiny

LOGITS = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
PROMPT = random_ids(9, seed=1)
SPINE = random_ids(6, seed=2)
NEVER = StopRule([])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [0.1, 0.4, 0.2, 0.3]),
        (Policy(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),  # squares, renormalised
        (Policy(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Policy(top_p=0.6), [0, 4 / 7, 0, 3 / 7]),  # 0.4 is not enough, 0.4 + 0.3 is
        (Policy(top_p=0.35), [0, 1, 0, 0]),
        (Policy(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),  # shares 4/9, 3/9, 2/9 after the top 3
        (Policy(top_k=9), [0.1, 0.4, 0.2, 0.3]),
    ],
)
def test_policy_by_hand(policy: Policy, expected: list[float]) -> None:
    torch.testing.assert_close(
        policy.distribution(LOGITS).probability, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_policy_says_what_a_last_digit_could_let_in() -> None:
    tied = torch.log(torch.tensor([0.25, 0.25, 0.3, 0.2]))
    assert Policy(top_k=2).distribution(tied).doubtful == pytest.approx(0.5)
    assert Policy(top_k=3).distribution(tied).doubtful == 0
    assert Policy(top_p=0.3).distribution(tied).doubtful == pytest.approx(
        0.25
    )  # the second token comes in at 0.3 exactly
    assert Policy(top_p=0.9).distribution(tied).doubtful == 0


@pytest.mark.parametrize(
    "wrong", [dict(top_p=0.0), dict(top_p=1.5), dict(temperature=0.0), dict(top_k=0), dict(temperature=float("nan"))]
)
def test_policies_under_which_nothing_can_be_drawn_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        Policy(**wrong)  # type: ignore[arg-type]


def test_draw_by_hand() -> None:
    shares = torch.tensor([[0.1, 0.0, 0.6, 0.3]], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.05, 0.1, 0.5, 0.71, 0.999], dtype=torch.float64)
    tokens, margin = draw(shares.expand(6, -1), uniform)
    assert tokens.tolist() == [0, 0, 2, 2, 3, 3]  # the token without a share is never drawn
    np.testing.assert_allclose(margin, [0, 0.05, 0, 0.2, 0.01, 0.001], atol=1e-12)


def test_draws_follow_the_shares() -> None:
    generator = stream("shares")
    uniform = torch.tensor(generator.random(20_000))
    tokens, _ = draw(Policy().distribution(LOGITS).probability.expand(20_000, -1), uniform)
    share = np.bincount(tokens.numpy(), minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.1, 0.4, 0.2, 0.3], atol=0.015)  # four standard errors


def test_streams_go_by_key_alone() -> None:
    first = stream(0, "a", 3).random(5)
    stream(0, "a", 4).random(100)
    np.testing.assert_array_equal(stream(0, "a", 3).random(5), first)
    others = [stream(1, "a", 3), stream(0, "b", 3), stream(0, "a", 31), stream(0, "a3")]
    assert all(not np.array_equal(other.random(5), first) for other in others)


def spine_of(model: LanguageModel) -> Prefix:
    spine = model.prefix(PROMPT).fork(1)
    model.extend(spine, [SPINE], logits="none")
    return spine


def jobs(n: int) -> list[Job]:
    """Jobs of all kinds: kept lengths, pending lengths and rooms differ."""
    return [
        Job(len(PROMPT) + i % (len(SPINE) + 1), tuple(random_ids(1 + i % 3, seed=i)), 1 + (7 * i) % 12, ("job", i))
        for i in range(n)
    ]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_rollouts_are_those_of_one_job_alone(family: str) -> None:
    model = tiny(family)
    spine, wanted = spine_of(model), jobs(20)
    stop = StopRule([5, 11, 60])
    policy = Policy(temperature=1.3, top_p=0.9)
    together = sample(model, spine, wanted, policy, stop, batch_rows=32)
    assert together == sample(model, spine, wanted, policy, stop, batch_rows=1)
    assert together == sample(model, spine, wanted, policy, stop, batch_rows=6)  # slots are refilled
    backwards = sample(model, spine, wanted[::-1], policy, stop, batch_rows=7)
    assert together == backwards[::-1]
    assert any(rollout.ended for rollout in together)
    assert not all(rollout.ended for rollout in together)


def test_rollouts_are_those_of_the_plainest_loop() -> None:
    """The oracle reads every text from its first token, one row, one token at a time."""
    model = tiny("llama")
    policy = Policy(temperature=0.8)
    for job, rollout in zip(jobs(8), sample(model, spine_of(model), jobs(8), policy, NEVER), strict=True):
        ids = [*(PROMPT + SPINE)[: job.kept], *job.pending]
        generator = stream(*job.key)
        expected = []
        for _ in range(job.room):
            with torch.inference_mode():
                logits = model.hf(torch.tensor([ids + expected])).logits[0, -1]
            shares = torch.softmax(logits.double() / 0.8, -1).cumsum(-1)
            expected.append(int((shares <= generator.random() * shares[-1]).sum()))
        assert rollout.token_ids == expected
        assert not rollout.ended


def test_a_near_tie_is_decided_on_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With arithmetic made worse than float32, results still do not depend on the batch."""
    import interp.models.language.sampling as sampling

    model = tiny("llama")
    spine, wanted = spine_of(model), jobs(12)
    exact = sample(model, spine, wanted, Policy(), NEVER, batch_rows=1)
    extend = LanguageModel.extend

    def noisy(self: LanguageModel, prefix: Prefix, ids: list[list[int]], **options: str) -> torch.Tensor:
        logits = extend(self, prefix, ids, **options)  # type: ignore[arg-type]
        # Only passes over a batch of branches are noisy; a text read alone is not.
        return logits if len(ids) == 1 and len(ids[0]) > 3 else logits + 0.02 * torch.randn_like(logits)

    monkeypatch.setattr(LanguageModel, "extend", noisy)
    assert sample(model, spine, wanted, Policy(), NEVER) != exact  # the noise is large enough to matter
    monkeypatch.setattr(sampling, "NEAR_TIE", 0.1)
    assert sample(model, spine, wanted, Policy(), NEVER) == exact


def test_stop_rule() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    rule = StopRule([7], ["END"], Letters())  # type: ignore[arg-type]
    assert not rule.ended([])
    assert rule.ended([1, 7])
    assert not rule.ended([7, 1])
    assert rule.ended([ord(letter) for letter in "x END"])
    assert not rule.ended([ord(letter) for letter in "EN"])
    with pytest.raises(ValueError, match="tokenizer"):
        StopRule([], ["END"])


def test_pending_tokens_that_end_a_text_are_not_continued() -> None:
    model = tiny("llama")
    job = Job(len(PROMPT), (5,), 4, ("ended",))
    (rollout,) = sample(model, spine_of(model), [job], Policy(), StopRule([5]))
    assert (rollout.token_ids, rollout.ended) == ([], True)


@torch.inference_mode()
def test_a_row_can_take_a_prefix_of_its_own_trunk_only() -> None:
    model = tiny("llama")
    trunk = model.prefix(PROMPT)
    spine = trunk.fork(1)
    model.extend(spine, [SPINE], logits="none")
    rows = spine.select([0, 0])
    model.extend(rows, [[3], [4]], logits="none")
    rows.put(1, spine)
    read_on = model.extend(rows, [[8], [8]])
    torch.testing.assert_close(read_on[1], model.extend(model.rows(1), [[*PROMPT, *SPINE, 8]])[0], atol=1e-4, rtol=0)
    other = model.prefix(PROMPT).fork(1)
    model.extend(other, [SPINE], logits="none")
    with pytest.raises(ValueError, match="same trunk"):
        rows.put(0, other)


@pytest.mark.real
@pytest.mark.slow
def test_batching_changes_no_rollout_of_the_default_model() -> None:
    real_model = load("smollm2-135m", device="cpu")
    ids = real_model.tokenizer("Q: 2 + 3 - 1\nA: 2 + 3 = 5, 5 - 1 = 4. Answer: 4\n\nQ: 4 + 4 - 3\nA:")["input_ids"]
    spine = real_model.prefix(ids[:-1]).fork(1)
    wanted = [Job(len(ids) - 1, (ids[-1],), 6, ("real", i)) for i in range(12)]
    together, alone = (sample(real_model, spine, wanted, Policy(0.8), NEVER, batch_rows=rows) for rows in (32, 1))
    assert together == alone
