"""The adapter for vLLM against an engine that only has its calls: vLLM itself needs a GPU and is not run here."""

import sys
import types
from collections.abc import Iterator
from math import exp
from types import SimpleNamespace
from typing import Any

import pytest

from interp.errors import ArgumentError
from interp.models.language import vllm_sampling
from interp.models.language.model import LanguageModel
from interp.models.language.sampling import Job, Policy, StopRule
from interp.models.language.vllm_sampling import check_vllm, sample_with_vllm, until_stop
from tests.tiny_models import random_ids, tiny

PROMPT = random_ids(9, seed=1)
SPINE = random_ids(6, seed=2)
STOP = StopRule([7])


class CountingEngine:
    """Writes 1, 2, 3, … up to the tokens it may write; keeps what it was asked."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.asked = settings, []
        CountingEngine.last = self

    last: "CountingEngine"

    def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked = list(zip(prompts, settings, strict=True))
        assert not use_tqdm
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(
                        token_ids=tuple(range(1, one.max_tokens + 1)),
                        logprobs=[{id: SimpleNamespace(logprob=-1 / id)} for id in range(1, one.max_tokens + 1)],
                    )
                ]
            )
            for one in settings
        ]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[CountingEngine]]:
    package, inputs = types.ModuleType("vllm"), types.ModuleType("vllm.inputs")
    package.LLM = CountingEngine  # type: ignore[attr-defined]
    package.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    inputs.TokensPrompt = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.inputs", inputs)
    vllm_sampling._engine.cache_clear()
    yield CountingEngine
    vllm_sampling._engine.cache_clear()


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny("llama")


def spine_of(model: LanguageModel) -> Any:
    spine = model.prefix(PROMPT).fork(1)
    model.extend(spine, [SPINE], logits="none")
    return spine


def test_jobs_go_in_as_token_ids_and_come_out_in_order(model: LanguageModel, engine: type[CountingEngine]) -> None:
    jobs = [
        Job(10, (5,), 3, ("a",)),
        Job(12, (7,), 3, ("b",)),  # ended by its pending token: not asked for
        Job(15, (4, 6), 20, ("c",)),  # the engine writes past the stop token 7
        Job(9, (5,), 0, ("d",)),  # no room
    ]
    rollouts = sample_with_vllm(model, spine_of(model), jobs, Policy(0.5, 0.9, 40), STOP, batch_rows=3)
    assert [(rollout.token_ids, rollout.ended) for rollout in rollouts] == [
        ([1, 2, 3], False),
        ([], True),
        ([1, 2, 3, 4, 5, 6, 7], True),
        ([], False),
    ]
    assert rollouts[0].draw_probability == pytest.approx([exp(-1), exp(-1 / 2), exp(-1 / 3)])
    assert [len(rollout.draw_probability) for rollout in rollouts] == [3, 0, 7, 0]
    assert engine.last.settings["logprobs_mode"] == "processed_logprobs"
    asked = engine.last.asked
    assert [prompt["prompt_token_ids"] for prompt, _ in asked] == [
        [*PROMPT, *SPINE[:1], 5],
        [*PROMPT, *SPINE, 4, 6],
    ]
    assert [(one.temperature, one.top_p, one.top_k, one.stop_token_ids) for _, one in asked] == [
        (0.5, 0.9, 40, [7])
    ] * 2
    assert asked[0][1].seed != asked[1][1].seed
    assert engine.last.settings["max_num_seqs"] == 3


def test_a_key_has_one_seed_whatever_else_is_asked(model: LanguageModel, engine: type[CountingEngine]) -> None:
    seeds = []
    for keys in (["a", "b"], ["b"]):
        sample_with_vllm(model, spine_of(model), [Job(10, (5,), 3, (key,)) for key in keys], Policy(), STOP)
        seeds.append(engine.last.asked[-1][1].seed)
    assert seeds[0] == seeds[1]
    assert engine.last.asked[0][1].top_k == -1  # vLLM's word for all tokens


def test_stop_strings_may_begin_in_the_pending_tokens() -> None:
    tokenizer = SimpleNamespace(decode=lambda ids: "".join("ab"[id] for id in ids))
    stop = StopRule([], ["aab"], tokenizer)  # type: ignore[arg-type]
    assert until_stop([0, 0], [1, 0, 0], stop) == [1]
    assert until_stop([1, 0], [1, 0, 0], stop) == [1, 0, 0]


def test_without_vllm_one_sentence_says_what_to_type() -> None:
    with pytest.raises(ArgumentError, match="pip install vllm"):
        check_vllm()


def test_models_of_the_toolkit_are_refused(engine: type[CountingEngine]) -> None:
    with pytest.raises(ArgumentError, match="hub or a folder"):
        vllm_sampling._engine("asset:smollm2", "0", "float32", 4)
