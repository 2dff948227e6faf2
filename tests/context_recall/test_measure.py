"""What is measured: a planted copying head is found and carries recall; batches equal plain reading on many families."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import UserError
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History
from interp.models.lens.lens import LogitLens
from probes.context_recall import natural
from probes.context_recall.cuts import RowCuts, places_of
from probes.context_recall.draft import Draft
from probes.context_recall.experiment import ContextRecall
from probes.context_recall.measure import Reading, check_cuts, measure_samples
from probes.context_recall.natural import hits, measure_natural
from probes.context_recall.plan import CUTS, HeadSet, NaturalUnit
from probes.context_recall.settings import Settings
from probes.context_recall.tasks.catalogue import task_of
from probes.context_recall.words import Words, words_of
from tests.context_recall.texts import CORPUS, FRAMES, NEWS, word_source
from tests.planted import COPY_HEAD, IDS, NEEDLE_WORDS, PREVIOUS_HEAD, copy_model
from tests.tiny_models import REACHED, tiny
from tests.tiny_tokenizers import of_kind

FAMILIES = ("llama", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "falcon-alibi", "mixtral")
BARE = {"lead": ".", "pair": "\n{key}{value}", "question": "\n{key}"}


def sets_of(*top, others) -> tuple[HeadSet, ...]:
    return tuple(
        HeadSet(role, control, 0, heads)
        for role in ("retrieval", "induction")
        for control, heads in (("top", top), ("random", others))
    )


def samples(tokenizer, words, name, n, frames, **cell):
    lead = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    found = []
    for number in range(n):
        one = Draft(tokenizer, words, frames, np.random.default_rng(number), lead)
        found.append(task_of(name).sample(one, cell))
    return found


# ---------------------------------------------------------------------- a planted mechanism


@pytest.fixture(scope="module")
def planted():
    model = copy_model()
    words = Words(tuple(f" {word}" for word in NEEDLE_WORDS if f" {word}" in IDS), "words")
    found = samples(model.tokenizer, words, "mqar", 4, {**FRAMES, **BARE}, pairs=4)
    sets = sets_of(COPY_HEAD, others=((1, 0),))
    return measure_samples(Reading(model, sets, CUTS, LogitLens(model).head), found)


def test_a_planted_copying_head_is_found_binds_and_says(planted):
    items = planted["items"]
    assert (items["is_found"] == 1).all()
    assert items["is_bound"].all()
    assert items["is_said"].all()
    assert (items["pair_mass"] > 0.9).all()
    assert (items["decided_layer"].between(0, COPY_HEAD[0])).all()
    layers = planted["layer_margins"].groupby("layer")["margin_logits"]
    assert layers.max()[COPY_HEAD[0] - 1] < 1 < layers.min()[COPY_HEAD[0]]
    answers = planted["answers"].set_index("condition")
    assert (answers.loc["without the pair", "is_said"] == 0).all()


@pytest.mark.parametrize(
    ("condition", "stays"),
    [
        ("without retrieval", False), ("without random retrieval", True), ("cut to pair", False), ("cut to others", True),
        ("cut to elsewhere", True), ("cut to sink", True),
    ],
)  # fmt: skip
def test_recall_rests_on_that_head_and_on_the_pair_alone(planted, condition, stays):
    answers = planted["answers"]
    whole, other = (
        answers[answers["condition"] == name].set_index(["number", "question"])["first_margin_nats"]
        for name in ("whole", condition)
    )
    assert (whole > 4).all()
    assert ((whole - other).abs() < 0.5).all() if stays else (other < 0.5).all()


def test_the_head_map_shows_the_planted_head(planted):
    masses = planted["head_masses"].groupby(["layer", "head"])["gold_mass"].mean()
    assert masses.idxmax() == COPY_HEAD
    assert (masses.drop([COPY_HEAD, PREVIOUS_HEAD]) < 0.6).all()


# ---------------------------------------------------------------------- families


def model_of(family, dtype=torch.float32, **changes) -> LanguageModel:
    tokenizer = of_kind("byte-level", CORPUS)
    model = tiny(family, tokenizer=tokenizer, vocab_size=len(tokenizer), **changes)
    model.hf.to(dtype)
    return model


@pytest.fixture
def words(tmp_path):
    return words_of(of_kind("byte-level", CORPUS), word_source(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_condition_is_what_plain_reading_gives(family, dtype, words):
    model = model_of(family, dtype)
    sets = sets_of((0, 1), (2, 3), others=((0, 0), (2, 1)))
    found = [
        *samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3),
        *samples(model.tokenizer, words, "kv_single", 1, FRAMES, pairs=3, asked=1),
    ]
    tables = measure_samples(Reading(model, sets, CUTS, LogitLens(model).head), found)
    near = 2e-3 if dtype == torch.float32 else 0.3
    answers = tables["answers"].set_index(["number", "question", "condition"])
    for number, sample in enumerate(found):
        question = sample.questions[0]
        values = [value[0] for value in (*question.right, *question.wrong)]

        def margin(ids, asked=question, values=values):
            with torch.inference_mode():
                logits = model.hf(torch.tensor([[*ids, *asked.ids]])).logits[0, -1].float()
            return float(logits[values[0]] - max(logits[token] for token in values[1:]))

        assert answers.loc[(number, 0, "whole"), "first_margin_nats"] == pytest.approx(margin(sample.ids), abs=near)
        without = answers.loc[(number, 0, "without the pair"), "first_margin_nats"]
        assert without == pytest.approx(margin(sample.without[0]), abs=near)
        assert np.isfinite(answers.loc[(number, 0, "without retrieval"), "first_margin_nats"])
        nats = model.surprisal([[*sample.ids, *question.ids, *question.right[0]]])[0, -len(question.right[0]) :].sum()
        assert -answers.loc[(number, 0, "whole"), "logp_nats"] == pytest.approx(float(nats), abs=near)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_rows_without_heads_are_what_an_edit_of_the_question_gives(family, words):
    model = model_of(family)
    heads = ((0, 1), (1, 2))
    (sample,) = samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3)
    answers = measure_samples(Reading(model, sets_of(*heads, others=((0, 0), (1, 1))), CUTS, None), [sample])["answers"]
    question = sample.questions[0]
    values = [value[0] for value in (*question.right, *question.wrong)]
    last = len(sample.ids) + len(question.ids) - 1
    everywhere = [(layer, head) for layer in range(model.n_layers) for head in range(model.geometry.n_heads)]
    cut = places_of(sample, question, "cut to pair", (0, 0))
    for condition, opened in (
        ("without retrieval", lambda: model.edit_heads(heads, "zero")),
        ("cut to pair", lambda: model.block_attention(everywhere, keys=cut, queries=[last])),
    ):
        prefix = model.prefix(sample.ids)
        with opened():
            logits = model.extend(prefix, [list(question.ids)])[0, -1]
        wanted = float(logits[values[0]] - logits[values[1:]].max())
        row = answers[(answers["condition"] == condition) & (answers["question"] == 0)]
        assert row["first_margin_nats"].item() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "cohere", "gemma2", "bloom"])
def test_the_last_layer_reads_what_the_model_says(family, words):
    model = model_of(family)
    tables = measure_samples(
        Reading(model, sets_of((0, 1), others=((0, 0),)), (), LogitLens(model).head),
        samples(model.tokenizer, words, "mqar", 2, FRAMES, pairs=3),
    )
    last = tables["layer_margins"].groupby(["number", "question"])["margin_logits"].last()
    answers = tables["answers"]
    whole = answers[answers["condition"] == "whole"].set_index(["number", "question"])["first_margin_nats"]
    assert last.to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-3)


@pytest.mark.parametrize(
    ("family", "changes"),
    [("mamba", {"hidden_size": 32, "num_hidden_layers": 2}), ("bamba", {}), ("lfm2", {}), ("qwen3_next", {})],
)
def test_models_with_states_are_read_whole_and_right(family, changes, words):
    model = model_of(family, **changes)
    found = samples(model.tokenizer, words, "kv_single", 1, FRAMES, pairs=3)
    answers = measure_samples(Reading(model, (), (), None), found)["answers"]
    for number, sample in enumerate(found):
        question = sample.questions[0]
        nats = model.surprisal([[*sample.ids, *question.ids, *question.right[0]]])[0, -len(question.right[0]) :].sum()
        row = answers[(answers["number"] == number) & (answers["question"] == 0) & (answers["condition"] == "whole")]
        assert -row["logp_nats"].item() == pytest.approx(float(nats), abs=2e-3)


def test_hybrid_models_run_the_parts_that_need_heads(words):
    model = model_of("bamba")
    found = samples(model.tokenizer, words, "mqar", 2, FRAMES, pairs=3)
    sets = sets_of((1, 1), others=((1, 0),))
    tables = measure_samples(Reading(model, sets, CUTS, None), found)
    assert set(tables["head_masses"]["layer"]) == {1, 3}
    wide = tables["answers"].pivot(index=["number", "question"], columns="condition", values="first_margin_nats")
    assert not np.allclose(wide["whole"], wide["without retrieval"], atol=1e-4)


def test_a_recurrent_model_keeps_a_history():
    assert isinstance(model_of("mamba", hidden_size=32, num_hidden_layers=2).rows(1), History)


def test_what_stands_behind_a_position_changes_nothing_before_it(words):
    """Places whose source stands to the right cannot know it: the harness does not leak."""
    model = model_of("llama")
    (sample,) = samples(model.tokenizer, words, "inverse_permutation", 1, FRAMES, items=3)
    first, second = sample.pairs[0].value[0], sample.pairs[-1].value[0]
    changed = list(sample.ids)
    changed[second] = changed[first]
    with torch.inference_mode():
        plain, other = (model.hf(torch.tensor([ids])).logits[0, :second] for ids in (list(sample.ids), changed))
    assert torch.equal(plain, other)


def test_cuts_refuse_another_number_of_rows():
    from interp.errors import UserError

    with pytest.raises(UserError, match="cut in 2 rows and the batch has 3"):
        RowCuts([(), (1,)], 4).check(3)


# ---------------------------------------------------------------------- prose


def test_repeated_bigrams_by_hand():
    assert hits([5, 6, 7, 5, 6, 8, 6, 7, 5]) == [0, 0, 0, 0, 3, 0, 0, 5, 5]


def test_prose_is_read_whole_and_again_without_heads(monkeypatch):
    monkeypatch.setattr(natural, "news_articles", lambda: tuple(" ".join(NEWS[n : n + 6]) for n in range(36)) * 5)
    model = model_of("llama", max_position_embeddings=512)
    sets = sets_of((0, 1), others=((0, 0),))
    tables = measure_natural(Settings(natural_tokens=96), model, NaturalUnit("natural-000", 0, sets))
    tokens = tables["token_nats"]
    wide = tokens.pivot(index="position", columns=["condition", "draw"], values="surprisal_nats")
    assert wide.shape == (95, 5)
    assert not np.allclose(wide["whole", 0], wide["without retrieval", 0], atol=1e-4)
    assert np.allclose(wide["without retrieval", 0], wide["without induction", 0], atol=1e-5)
    assert 0.05 < tokens["is_hit"].mean() < 0.95
    assert (tables["replaced"]["surprisal_nats"] != tables["replaced"]["replaced_nats"]).any()


@pytest.mark.parametrize(
    ("task", "n_selected", "fits"), [("mqar(pairs=3)", 6, False), ("mqar(pairs=3)", 2048, True), ("natural", 6, True)]
)
def test_a_model_that_selects_fewer_keys_than_a_text_has_is_refused_before_anything_is_measured(
    task, n_selected, fits, words, monkeypatch, tmp_path
):
    """A cut may take all keys that it selected."""
    monkeypatch.setitem(REACHED, "deepseek_v32", {**REACHED["deepseek_v3"], "index_head_dim": 16, "index_n_heads": 32})
    model = model_of("deepseek_v32", index_topk=n_selected)
    run = ContextRecall(
        model=model.identity.name, tasks=(task,), lengths=(), samples=2, words=word_source(tmp_path), role_share=0.2
    )
    if fits:
        check_cuts(run, model)
        sets = sets_of((0, 1), (2, 3), others=((0, 0), (2, 1)))
        found = samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3)
        if task != "natural":
            measure_samples(Reading(model, sets, CUTS, None), found)
        return
    unit, *_ = run.expected_units(model, {"head_scores": pd.DataFrame()})
    with pytest.raises(UserError, match="attends to 6 keys that it selects"):
        run.measure(model, unit)
