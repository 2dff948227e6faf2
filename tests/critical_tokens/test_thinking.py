"""Models that think before they respond: a thought of its own before each response, and only what comes after it is graded."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.sampling import StopRule, draw, stream
from interp.models.language.thinking import Thinking
from interp.tables import checked, empty, named
from probes.critical_tokens import audit, contrastive, measure
from probes.critical_tokens.critical import response_pairs
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.explorer import Explorer
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.responses import Setting, decode, prompt_ids, respond, setting_of
from tests.critical_tokens.hand_tables import FACTS
from tests.critical_tokens.small import PROBLEM, STOP, small_model, small_setting, tokenizer
from tests.retrieval_heads.test_thinking import tokenizer_with
from tests.test_chat import CHAT, THINKS
from tests.tiny_models import tiny

MARKS = Thinking(begin=(50,), end=(31,), budget=6, begun=True)
PROMPT = [3, 4, 5, 6]


def setting(**changes: Any) -> Setting:
    return dataclasses.replace(small_setting(8, temperature=3.0), thinking=MARKS, **changes)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """A random model whose thoughts end now and then: the closing mark has some of the likelihood of every token."""
    made = small_model()
    made.hf.get_output_embeddings().weight.data[31] *= 3
    return made


def written(model: LanguageModel, ids: list[int], stops: set[int], room: int, key: tuple[Any, ...]) -> list[int]:
    """Token by token, each text read whole."""
    numbers, found, policy = stream(*key), [], setting().policy
    while len(found) < room and not (found and found[-1] in stops):
        logits = model.extend(model.rows(1), [ids + found])[:, -1]
        uniform = torch.tensor([numbers.random()], dtype=torch.float64)
        found.append(int(draw(policy.distribution(logits).probability, uniform)[0]))
    return found


def test_each_response_follows_a_thought_of_its_own_and_is_graded_alone(model):
    responses = respond(model, PROBLEM, setting(), 12)
    closed = set()
    for index, response in enumerate(responses):
        thought = written(model, PROMPT, {31, *STOP}, 6, (1, PROBLEM.id, "thought", index))
        own = thought[-1] == 31
        thought = thought if own else [*(thought[:-1] if thought[-1] in STOP else thought), 31]
        assert response.thought == (thought, own)
        assert response.token_ids == written(model, PROMPT + thought, set(STOP), 8, (1, PROBLEM.id, "response", index))
        assert response.outcome == PROBLEM.outcome(decode(model, response.token_ids))
        closed.add(own)
    assert closed == {True, False}
    graded = [PROBLEM.outcome(decode(model, [*r.thought.token_ids, *r.token_ids])) for r in responses if r.thought]
    assert graded != [response.outcome for response in responses]


def test_what_ends_a_response_does_not_end_it_in_its_thought(model):
    stop = StopRule(STOP, ["w31"], tokenizer())  # every thought ends in that
    assert all(response.token_ids for response in respond(model, PROBLEM, setting(stop=stop), 6))


def test_a_trajectory_is_read_behind_its_thought(model):
    response = respond(model, PROBLEM, setting(), 1)[0]
    assert response.thought is not None
    explorer = Explorer(model, PROBLEM, "t", response.token_ids, setting(), (), response.thought.token_ids)
    ids = [*PROMPT, *response.thought.token_ids, *response.token_ids]
    whole = model.extend(model.rows(1), [ids], logits="all")[0, -len(response.token_ids) - 1 : -1]
    probability = setting().policy.distribution(whole).probability
    torch.testing.assert_close(explorer.probability, probability, atol=1e-5, rtol=0)
    assert explorer.reread_p == pytest.approx(response.draw_probability, abs=1e-5)
    (branch,) = explorer.branches({"arm": [(0, 0)]})["arm"].values()
    key, start = (1, "t", "arm", 0, 0, "on"), branch.token_ids[0]
    before = [*ids[: -len(response.token_ids)], start]
    assert branch.token_ids[1:] == ([] if start in STOP else written(model, before, set(STOP), 7, key))


def test_without_a_budget_nothing_is_thought_and_nothing_changes(model):
    plain = dataclasses.replace(setting(), thinking=None)
    assert {response.thought for response in respond(model, PROBLEM, plain, 2)} == {None}
    assert "thoughts" not in CriticalTokens().schemas()


# ---------------------------------------------------------------------- a run


def problems_file(folder: Path) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": "#### 1"}) + "\n" for n in range(4)))
    return path


@pytest.mark.slow
def test_a_run_keeps_thoughts_in_a_table_and_hands_them_to_every_unit(tmp_path, model, monkeypatch):
    def parity_problem(_: CriticalTokens, level: str, index: int) -> Problem:
        return dataclasses.replace(PROBLEM, id=f"{level}-{index}", level=level, prompt=f"w3 w{4 + index} w5 w6")

    monkeypatch.setattr(audit, "CHAINS", 5)
    monkeypatch.setattr(measure, "setting_of", lambda *_: setting())
    monkeypatch.setattr(contrastive, "setting_of", lambda *_: setting())
    for module in (measure, contrastive):
        monkeypatch.setattr(module, "find_problem", parity_problem)
    run = CriticalTokens(
        task_file=problems_file(tmp_path), thinking_tokens=6, calibration_problems=4, max_problems=4, n_trajectories=1,
        replacement_rollouts=2, effect=0.3, exact_tokens=1, exact_nodes=4, max_pairs=32, contrastive_examples=4,
        contrastive_epochs=1, definitions=("cliff",), scan_rollouts=8,
    )  # fmt: skip
    schemas = run.schemas()
    measured, done = {name: empty(schema) for name, schema in schemas.items()}, set()
    while waiting := [unit for unit in run.plan(FACTS, measured) if unit.id not in done]:
        for unit in waiting:
            done.add(unit.id)
            for name, frame in named(run.measure(model, unit), "tiny").items():
                measured[name] = pd.concat([measured[name], checked(frame, schemas[name])], ignore_index=True)
            if hasattr(unit, "thought"):
                thoughts = measured["thoughts"].set_index("trajectory_id")["token_ids"]
                assert list(unit.thought) == list(thoughts[unit.trajectory_id])
    thoughts, responses = measured["thoughts"], measured["trajectories"]
    assert list(thoughts["trajectory_id"]) == list(responses["trajectory_id"])
    assert thoughts["thinking_tokens"].max() <= 7
    assert (thoughts["thought_text"].str.split().str.len() == thoughts["thinking_tokens"]).all()
    assert len(measured["contrastive"])
    tables = {**measured, **named(run.summarise(FACTS, measured), "tiny")}
    said = " ".join(finding.text for finding in run.findings(tables))
    cut = int((~thoughts["closed"]).sum())
    assert f"{cut} of {len(thoughts)} thoughts were not closed within 6 tokens" in said
    texts = thoughts.set_index("trajectory_id")["thought_text"] + responses.set_index("trajectory_id")["text"]
    (pair,) = response_pairs(tables)
    assert {pair["chosen"], pair["rejected"]} <= set(texts)
    assert len(pair["rejected_token_ids"]) == len(pair["rejected_weights"])
    n_thought = pair["rejected_token_ids"].index(31) + 1
    assert set(pair["rejected_weights"][:n_thought]) == {0}


# ---------------------------------------------------------------------- marks and refusals


def chosen(**settings: Any) -> CriticalTokens:
    return CriticalTokens(**{"task_file": Path("problems.jsonl"), "thinking_tokens": 9} | settings)


def test_prompts_end_where_a_thought_begins():
    for template in (CHAT, THINKS):  # the second begins a thought itself
        tokenizer = tokenizer_with("<think>", "</think>", template=template)
        model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))
        made = setting_of(chosen(), model)
        assert made.thinking is not None
        assert tokenizer.decode(prompt_ids(model, "What?", made)).count("<think>") == 1
        assert tokenizer.decode(prompt_ids(model, "What?", made)).rstrip().endswith("<think>")
        assert tokenizer.decode(made.thinking.end) == "</think>"
    none = tokenizer_with("<think>", "</think>", template=None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="goes with a chat prompt, and tiny-llama has no chat template"):
        setting_of(chosen(), tiny("llama", tokenizer=none, vocab_size=len(none)))


@pytest.mark.parametrize(
    "wrong", [dict(thinking_tokens=9), dict(thinking_tokens=9, prompt_format="plain", task_file=Path("p"))]
)
def test_thoughts_go_with_problems_that_are_put_through_a_chat_template(wrong):
    with pytest.raises(ArgumentError, match="add --task-file, and leave out --prompt-format plain"):
        CriticalTokens(**wrong)


def test_thoughts_and_responses_fit_the_window(tmp_path):
    with pytest.raises(ArgumentError, match=r"Thoughts of 500 tokens and responses of 48 do not fit"):
        dataclasses.replace(chosen(thinking_tokens=500), task_file=problems_file(tmp_path)).check_model(FACTS)
