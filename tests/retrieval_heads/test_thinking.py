"""Models that think before they answer: thoughts end where their mark says or the budget, and answers alone are scored."""

import dataclasses
from typing import Any

import pytest

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.thinking import Thinking, thinking_of
from probes.retrieval_heads.ablation import measure_ablation
from probes.retrieval_heads.conditions import Condition
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.stimuli import Sample, build_frame, may_think
from tests.planted import IDS
from tests.retrieval_heads.test_paths import NEW_TOKENS, PASSAGE, assert_same_numbers, build, eager_scores, samples_for
from tests.test_chat import CHAT, THINKS
from tests.tiny_tokenizers import byte_level

STOPS = [IDS["."]]
MARKS = {
    "one token": Thinking((IDS[" near"],), (IDS[" old"],), 12, begun=True),
    "two tokens": Thinking((IDS[" near"],), (IDS[" old"], IDS[" old"]), 12, begun=True),
    "never closed": Thinking((IDS[" near"],), (IDS[" What"],), 5, begun=True),
    "begun by the model": Thinking((IDS[" old"],), (IDS[" heavy"],), 12, begun=False),
}


def thinking(samples: list[Sample], marks: Thinking) -> list[Sample]:
    frame = dataclasses.replace(samples[0].frame, thinking=marks)
    return [dataclasses.replace(sample, frame=frame) for sample in samples]


def measure(model: LanguageModel, samples: list[Sample], **options: Any) -> dict[str, Any]:
    return measure_samples(model, samples, max_new_tokens=NEW_TOKENS, stop_ids=STOPS, **{"sharing": True} | options)


def by_hand(model: LanguageModel, prompt: list[int], marks: Thinking) -> tuple[list[int], bool, list[int]]:
    """Token by token: the thought as it is closed, whether by the model, and the answer to prompt and thought."""

    rows = model.prefix()

    def next_token(ids: list[int]) -> int:
        rows.crop(
            next(
                (n for n, (a, b) in enumerate(zip(rows.ids[0], ids[:-1], strict=False)) if a != b),
                min(rows.lengths[0], len(ids) - 1),
            )
        )
        return int(model.extend(rows, [ids[rows.lengths[0] :]])[0, -1].argmax())

    thought, closed = [], False
    while len(thought) < marks.budget and not closed:
        token = next_token(prompt + thought)
        if token in STOPS:
            break
        thought.append(token)
        if not marks.begun and tuple(thought) != marks.begin[: len(thought)] and len(thought) <= len(marks.begin):
            thought, closed = [], True
            break
        closed = tuple(thought[-len(marks.end) :]) == marks.end
    if not marks.begun and not thought:
        closed = True
    thought += [] if closed else marks.end
    answer: list[int] = []
    while len(answer) < NEW_TOKENS and not (answer and answer[-1] in STOPS):
        answer.append(next_token(prompt + thought + answer))
    return thought, closed, answer


@pytest.mark.parametrize(
    ("name", "marks"), [("gemma2", MARKS["one token"]), *(("llama", marks) for marks in MARKS.values())]
)
def test_thoughts_and_answers_are_those_written_token_by_token(name, marks):
    model, samples = build(name), samples_for(name, n_needles=1)
    tables = measure(model, thinking(samples, marks))
    assert_same_numbers(measure(model, thinking(samples, marks), sharing=False), tables)
    rows, thoughts = (tables[name].set_index("sample_id") for name in ("samples", "thoughts"))
    scores = tables["sample_head_scores"].set_index(["sample_id", "layer", "head"])
    for sample in samples:
        thought, closed, answer = by_hand(model, list(sample.ids), marks)
        row = rows.loc[sample.sample_id]
        assert list(row["prompt_token_ids"]) == [*sample.ids, *thought]
        assert list(row["answer_token_ids"]) == answer
        assert row["context_tokens"] == sample.context_tokens
        assert thoughts.loc[sample.sample_id, ["thinking_tokens", "closed"]].tolist() == [len(thought), closed]
        if sample.has_needle:  # answer tokens only
            with model.eager():
                for (layer, head), expected in eager_scores(model.hf, row).items():
                    assert scores.loc[(sample.sample_id, layer, head), list(expected)].to_dict() == expected


def test_the_marks_make_a_difference():
    model, samples = build("llama"), samples_for("llama")
    answers = {
        name: tuple(map(tuple, measure(model, thinking(samples, marks))["samples"]["answer_token_ids"]))
        for name, marks in MARKS.items()
    }
    plain = measure(model, samples)
    assert "thoughts" not in plain
    assert len({*answers.values(), tuple(map(tuple, plain["samples"]["answer_token_ids"]))}) > 3


def test_in_the_ablation_each_condition_thinks_by_itself():
    model, samples = build("llama"), thinking(samples_for("llama", n_needles=1)[1:3], MARKS["one token"])
    conditions = [
        Condition("none", "none", 0, "zero", "decode", 0, ()),
        Condition("top", "copy", 2, "zero", "decode", 0, ((0, 1), (2, 3))),
        Condition("top", "copy", 2, "zero", "both", 0, ((0, 1), (2, 3))),
    ]
    passages = {sample.sample_id: PASSAGE for sample in samples}
    options: dict[str, Any] = dict(means=None, max_new_tokens=NEW_TOKENS, stop_ids=STOPS)
    together = measure_ablation(model, samples, passages, conditions, **options)
    for condition in conditions:
        alone = measure_ablation(model, samples, passages, [condition], **options)
        chosen = together["ablation"].query(f"condition == '{condition.condition}' and phase == '{condition.phase}'")
        assert chosen["generated_text"].tolist() == alone["ablation"]["generated_text"].tolist()
    assert set(together["thoughts"]["heads"]) == {"", "0-1 2-3"}
    assert together["thoughts"]["thought_text"].nunique() > 1


# ---------------------------------------------------------------------- marks


def tokenizer_with(*added: str, template: str = CHAT) -> Any:
    tokenizer = byte_level(bos_token="<s>", eos_token="</s>", pad_token="</s>").__class__(
        tokenizer_object=byte_level().backend_tokenizer, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_tokens(list(added))
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("<think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("◁think▷", "◁/think▷"),
        ("<seed:think>", "</seed:think>"),
    ],
)
def test_a_tokenizers_own_marks_are_found(begin, end):
    tokenizer = tokenizer_with(begin, end)
    found = thinking_of(tokenizer, tokenizer.encode(f"<|assistant|>\n{begin}\n"), 9, (), "tiny")
    assert (found.begin, found.end) == (
        tuple(tokenizer.encode(begin, add_special_tokens=False)),
        tuple(tokenizer.encode(end, add_special_tokens=False)),
    )
    assert found.begun
    assert not thinking_of(tokenizer, tokenizer.encode("<|assistant|>\n"), 9, (), "tiny").begun


def frame_of(tokenizer: Any, **settings: Any) -> Any:
    chosen = Settings(thinking_tokens=9, **settings)
    needle = samples_for("llama", n_needles=1)[0].needle
    frame = build_frame(tokenizer, needle, chosen.prompt_format, "auto", "tiny", thinks=True)
    return may_think(tokenizer, frame, chosen, "tiny")


def test_a_template_that_begins_a_thought_is_asked_with_room_for_it():
    tokenizer = tokenizer_with("<think>", "</think>", template=THINKS)
    assert frame_of(tokenizer).thinking.begun
    assert not frame_of(tokenizer_with("<think>", "</think>")).thinking.begun
    named = frame_of(tokenizer_with(), thinking_marks=("Thought: ", "\nSo: ")).thinking
    assert tokenizer_with().decode(named.end) == "\nSo: "


@pytest.mark.parametrize(
    ("added", "settings", "words"),
    [
        ((), {}, "has no pair of tokens that mark a thought: name them, as in --thinking-marks"),
        (("<think>", "</think>", "[THINK]", "[/THINK]"), {}, "has several pairs of tokens that mark a thought"),
        ((), {"thinking_marks": ("<a>",)}, "has no pair"),
        (("<think>", "</think>"), {"prompt_format": "plain"}, "goes with a chat prompt, and that of tiny is plain"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(added, settings, words):
    with pytest.raises(ArgumentError, match=words):
        frame_of(tokenizer_with(*added), **settings)
