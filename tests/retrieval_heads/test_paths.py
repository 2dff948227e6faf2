"""However a prompt is read (shared, plain, in batches, in chunks) and however heads are edited, the numbers are the same."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pandas as pd
import pytest
import torch

from interp.errors import UserError
from interp.models.language.architecture import output_projection
from interp.models.language.model import LanguageModel
from interp.stimuli.haystack import build_haystack
from probes.retrieval_heads.ablation import Prose, measure_ablation
from probes.retrieval_heads.answers import reading_order
from probes.retrieval_heads.conditions import Condition
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.needles import Needle
from probes.retrieval_heads.scores import NEAR_TIE_LOGITS
from probes.retrieval_heads.stimuli import Sample, build_control, build_frame, build_samples
from tests.planted import COPY_HEAD, IDS, PREVIOUS_HEAD, copy_model, needle_line, prose, word_tokenizer
from tests.tiny_models import tiny

NEW_TOKENS = 9
MODELS = ["planted", "llama", "qwen2", "gemma2", "gpt2", "mixtral", "falcon"]
SAID = [IDS[token] for token in (" The", " the", ".", " old", " small", " heavy", " near", " behind")]
Frames = dict[str, pd.DataFrame]


def build(name: str) -> LanguageModel:
    """The planted model, or a random one that says few words, all frequent in prose: so that it copies some by chance."""
    if name == "planted":
        return copy_model()
    window = {"sliding_window": 64} if name == "gemma2" else {}
    model = tiny(name, tokenizer=word_tokenizer(), tie_word_embeddings=False, **window)
    if name == "gemma2":  # it multiplies embeddings by 8, which would drown what its heads write
        model.hf.get_input_embeddings().weight.data /= 8
    head = model.hf.get_output_embeddings().weight.data
    head[[id for id in range(len(head)) if id not in SAID]] = 0.0
    return model


def needle_of(index: int, *, tiny_model: bool) -> Needle:
    line: dict[str, Any] = dict(needle_line(index))
    if tiny_model:  # half the prompt is needle, so that chance has room
        line["needle"] = f"{prose(4, seed=50 + index)} {line['needle']}"
    return Needle(answer=line["needle"], form="", **line)


def samples_for(name: str, n_needles: int = 2) -> list[Sample]:
    tokenizer, found = word_tokenizer(), []
    for index in range(n_needles):
        needle = needle_of(index, tiny_model=name != "planted")
        frame = build_frame(tokenizer, needle, "plain", "auto", name)
        haystack = build_haystack(tokenizer, (prose(30),), 200, seed=0, key=needle.id)
        found += build_samples(tokenizer, needle, haystack, frame, [(70, 0.5), (70, 1.0), (96, 0.5)])
        found.append(build_control(tokenizer, needle, haystack, frame, context_tokens=70))
    return found


def measure(model: LanguageModel, samples: list[Sample], *, sharing: bool = True) -> Frames:
    stops = [] if model.identity.name != "planted" else [3]
    return measure_samples(model, samples, max_new_tokens=NEW_TOKENS, stop_ids=stops, sharing=sharing)


@pytest.fixture(scope="module", params=MODELS)
def shared(request: pytest.FixtureRequest) -> tuple[str, list[Sample], Frames]:
    """The way a run goes: shared prompts, all answers in one batch."""
    samples = samples_for(request.param)
    return request.param, samples, measure(build(request.param), samples)


def assert_same_numbers(found: Frames, expected: Frames) -> None:
    for name in ("samples", "sample_head_scores"):
        exact = [column for column in expected[name] if column != "tokens_read"]
        pd.testing.assert_frame_equal(found[name][exact], expected[name][exact], check_exact=True)
    keys = ["sample_id", "layer", "head", "definition", "n_steps"]
    a, b = found["logit_contribution"], expected["logit_contribution"]
    pd.testing.assert_frame_equal(a[keys], b[keys])
    torch.testing.assert_close(
        torch.tensor(a["score"].to_numpy()), torch.tensor(b["score"].to_numpy()), atol=1e-4, rtol=1e-4, equal_nan=True
    )


def test_random_models_copy_often_enough_for_a_comparison_to_mean_something(shared):
    name, _, frames = shared
    scores = frames["sample_head_scores"]
    assert (scores["hits"] > 0).sum() >= 8, name
    assert scores["set_score"].nunique() > 2
    assert frames["samples"]["answer_token_ids"].map(tuple).nunique() > 2


def test_scores_are_those_of_eager_attention_by_definition(shared):
    name, samples, frames = shared
    if name == "falcon":
        pytest.skip("Falcon cannot be switched to eager attention once loaded")
    model = build(name)
    table = frames["sample_head_scores"].set_index(["sample_id", "layer", "head"])
    rows = frames["samples"].set_index("sample_id")
    with model.eager():
        for sample in (sample for sample in samples if sample.has_needle):
            for (layer, head), expected in eager_scores(model.hf, rows.loc[sample.sample_id]).items():
                assert table.loc[(sample.sample_id, layer, head), list(expected)].to_dict() == expected


def eager_scores(hf: Any, sample: pd.Series) -> dict[tuple[int, int], dict[str, float]]:
    """The paper's and the script's score of every head, word for word from their definitions."""
    prompt, answer = list(sample["prompt_token_ids"]), list(sample["answer_token_ids"])
    ids = prompt + answer[:-1]
    with torch.no_grad():
        attentions = hf(torch.tensor([ids]), output_attentions=True).attentions
    needle = range(sample["needle_start"], sample["needle_end"])
    gold = range(sample["gold_start"], sample["gold_end"])
    found = {}
    for layer, weights in enumerate(attentions):
        for head in range(weights.shape[1]):
            copied, from_gold, hits, near_ties = set(), 0, 0, 0
            for step, token in enumerate(answer):
                best = weights[0, head, len(prompt) - 1 + step].log().topk(2)
                copies = [int(j) in needle and ids[j] == token for j in best.indices]
                hits += copies[0]
                copied |= {token} if copies[0] else set()
                from_gold += copies[0] and int(best.indices[0]) in gold
                near_ties += copies[0] != copies[1] and bool(best.values[0] - best.values[1] < NEAR_TIE_LOGITS)
            found[layer, head] = {
                "set_score": len(copied) / len({ids[j] for j in needle}),
                "count_score": from_gold / len(gold),
                "hits": hits,
                "near_ties": near_ties,
            }
    return found


def test_small_batches_read_in_chunks_give_the_numbers_of_one_batch_read_at_once(shared, monkeypatch):
    name, samples, frames = shared
    monkeypatch.setattr("interp.models.language.forward.CHUNK_TOKENS", 7)  # answers of 9 tokens are read in two
    model = build(name)
    model.batch_tokens = 150  # two prompts of 70 tokens, or one of 96, which then stays in the trunk
    assert_same_numbers(measure(model, samples), frames)


def test_the_plain_way_gives_the_same_numbers_and_reads_more(shared):
    name, samples, frames = shared
    if name == "falcon":
        with pytest.raises(UserError, match="leave out --no-sharing"):
            measure(build(name), samples[:1], sharing=False)
        return
    plain = measure(build(name), samples, sharing=False)
    assert_same_numbers(plain, frames)
    assert plain["samples"]["tokens_read"].tolist() == [len(sample.ids) - 1 for sample in samples]


def n_shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    different = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(different, min(len(first), len(second)))


def test_sharing_reads_of_each_prompt_only_what_the_one_before_did_not_begin_with(shared):
    _, samples, frames = shared
    read = frames["samples"].set_index("sample_id")["tokens_read"]
    before: tuple[int, ...] = ()
    for sample in reading_order(samples):
        prompt = sample.ids[:-1]
        assert read[sample.sample_id] == len(prompt) - n_shared(before, prompt)
        before = prompt
    assert read.sum() < 0.9 * sum(len(sample.ids) - 1 for sample in samples)


# ---------------------------------------------------------------------- edits

ONE, TWO = ((1, 2),), ((0, 1), (2, 3))
CONDITIONS = [
    Condition("none", "none", 0, "zero", "decode", 0, ()),
    *(
        Condition("top", f"{mode} {phase} {len(heads)}", len(heads), mode, phase, 0, heads)
        for mode, heads in (("zero", ONE), ("zero", TWO), ("mean", TWO), ("uniform", ONE))
        for phase in ("decode", "both")
    ),
]
STOPS = [IDS["."], IDS["\n"]]  # rows of a batch end at different steps, and their neighbours go on
PASSAGE = Prose("passage", tuple(word_tokenizer()(prose(3, seed=9))["input_ids"]))


def ablate(model: LanguageModel, samples: list[Sample], conditions: list[Condition], means: Any) -> pd.DataFrame:
    passages = {sample.sample_id: PASSAGE for sample in samples}
    options = dict(means=means, max_new_tokens=NEW_TOKENS, stop_ids=STOPS)
    return measure_ablation(model, samples, passages, conditions, **options)["ablation"]


def mean_outputs(model: LanguageModel) -> torch.Tensor:
    return model.mean_head_outputs([list(PASSAGE.ids)])


# gemma2 is a llama with more to it (windows, capped logits).
@pytest.fixture(scope="module", params=["planted", "gemma2", "gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def ablated(request: pytest.FixtureRequest) -> tuple[str, list[Sample], pd.DataFrame]:
    model, samples = build(request.param), samples_for(request.param, n_needles=1)[1:3]
    return request.param, samples, ablate(model, samples, CONDITIONS, mean_outputs(model))


def test_many_conditions_in_one_batch_equal_each_alone(ablated):
    name, samples, table = ablated
    model = build(name)
    means = mean_outputs(model)
    assert table["generated_text"].nunique() > (1 if name == "planted" else 3)  # edits do change answers
    for condition, rows in by_condition(table):
        edit = (condition.heads, condition.mode)
        with model.edit_heads(*edit, means=means):
            surprisal = model.surprisal([list(PASSAGE.ids)])[0, 1:].mean().item()
        assert rows["prose_surprisal_nats"].tolist() == pytest.approx([surprisal] * len(samples), abs=1e-4)
        for sample in samples:
            # "decode" edits begin after the prompt but its last token has been read without any.
            with model.edit_heads(*edit, means=means) if condition.phase == "both" else nullcontext():
                prefix = model.prefix(sample.ids[:-1])
            with model.edit_heads(*edit, means=means):
                written = model.generate(prefix, [[sample.ids[-1]]], max_new_tokens=NEW_TOKENS, stop_ids=STOPS)[0]
            assert rows.loc[sample.sample_id, "generated_text"] == decode(model, written), condition


def by_condition(table: pd.DataFrame) -> Iterator[tuple[Condition, pd.DataFrame]]:
    for condition in CONDITIONS:
        yield condition, table[table["ranking"] == condition.ranking].set_index("sample_id")


def decode(model: LanguageModel, ids: list[int]) -> str:
    tokenizer: Any = model.tokenizer
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


@contextmanager
def plainly_edited(model: LanguageModel, condition: Condition, means: torch.Tensor) -> Iterator[None]:
    """The edit by plain torch hooks, from the first token on: at the output projection, or as a query of zeros."""
    width = model.geometry.head_dim
    handles = []
    for layer, head in condition.heads:
        module: Any = model.attention_modules[layer]
        own = slice(head * width, (head + 1) * width)

        def replace(_: Any, inputs: Any, own: slice = own, value: Any = means[layer, head]) -> Any:
            hidden = inputs[0].clone()
            hidden[..., own] = value if condition.mode == "mean" else 0.0
            return (hidden, *inputs[1:])

        def without_query(_: Any, inputs: Any, output: torch.Tensor, own: slice = own) -> torch.Tensor:
            output = output.clone()
            output[..., own] = 0.0
            return output

        if condition.mode == "uniform":
            projection = module.c_attn if hasattr(module, "c_attn") else module.q_proj
            handles.append(projection.register_forward_hook(without_query))
        else:
            handles.append(output_projection(module).register_forward_pre_hook(replace))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_editing_in_both_phases_equals_plain_transformers_with_the_head_changed_from_the_first_token(ablated):
    name, samples, table = ablated
    model = build(name)
    means = mean_outputs(model)
    for condition, rows in by_condition(table):
        if condition.phase != "both":
            continue
        with plainly_edited(model, condition, means), model.eager(), torch.no_grad():
            for sample in samples:
                ids, n = list(sample.ids), len(sample.ids)
                while len(ids) < n + NEW_TOKENS and not (len(ids) > n and ids[-1] in STOPS):
                    ids.append(int(model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
                assert rows.loc[sample.sample_id, "generated_text"] == decode(model, ids[n:]), condition
            log_p = model.hf(torch.tensor([PASSAGE.ids]), use_cache=False).logits[0].double().log_softmax(-1)
            surprisal = -log_p[torch.arange(len(PASSAGE.ids) - 1), list(PASSAGE.ids[1:])].mean().item()
        assert rows["prose_surprisal_nats"].tolist() == pytest.approx([surprisal] * len(samples), abs=1e-4)


def test_the_previous_token_head_matters_in_the_prompt_and_not_while_the_answer_is_written():
    """The planted circuit reads the needle's keys, which that head wrote: editing it in decode only comes too late."""
    model, samples = copy_model(), samples_for("planted", n_needles=1)[:3]
    conditions = [
        Condition("top", f"{head} {phase}", 1, "zero", phase, 0, (head,))
        for head in (PREVIOUS_HEAD, COPY_HEAD)
        for phase in ("decode", "both")
    ]
    recall = ablate(model, samples, conditions, None).groupby("ranking")["recall"].agg(["min", "max"])
    assert recall.loc[f"{PREVIOUS_HEAD} decode", "min"] == 1
    for ranking in (f"{PREVIOUS_HEAD} both", f"{COPY_HEAD} decode", f"{COPY_HEAD} both"):
        assert recall.loc[ranking, "max"] == 0, ranking
