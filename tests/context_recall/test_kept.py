"""What policies keep of a context: equal to keys deleted by hand in every family, planted cases, refusals in a sentence."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.identity import ModelFacts
from interp.retention.contract import evictable_layers
from interp.retention.limits import LONGEST_CONTINUATION
from interp.retention.policies.base import Evict
from interp.tables import checked
from probes.context_recall.experiment import ContextRecall
from probes.context_recall.findings import find_kept
from probes.context_recall.kept import Retention, measure_kept
from probes.context_recall.measure import Reading, measure_samples
from probes.context_recall.plan import CellUnit, KeptBy, expected_units, kept_conditions
from probes.context_recall.settings import Settings
from probes.context_recall.summaries import controls, survival
from probes.context_recall.words import Words, words_of
from tests.context_recall.test_measure import BARE, FAMILIES, model_of, samples, sets_of
from tests.context_recall.test_summaries import FACTS
from tests.context_recall.texts import CORPUS, FRAMES, word_source
from tests.planted import COPY_HEAD, IDS, NEEDLE_WORDS, copy_model
from tests.tiny_tokenizers import of_kind

HERE = "tests.context_recall.test_kept"


@dataclass(frozen=True)
class Without(Evict):
    """Drops one range of keys and keeps as many others as it may."""

    start: int = 0
    end: int = 0
    granularity: ClassVar = "layer"

    def scores(self, prompt):
        scores = torch.ones(1, 1, prompt.n)
        scores[..., self.start : self.end] = -1.0
        return scores


@pytest.fixture
def words(tmp_path):
    return words_of(of_kind("byte-level", CORPUS), word_source(tmp_path))


def rows_of(tables, name, condition):
    return tables[name][tables[name]["condition"] == condition].set_index(["number", "question"])


# ---------------------------------------------------------------------- by hand


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, "bamba"])
def test_an_answer_under_a_policy_is_the_one_without_the_keys_that_it_drops(family, dtype, words):
    model = model_of(family, dtype)
    found = [
        *samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=4),
        *samples(model.tokenizer, words, "kv_single", 1, FRAMES, pairs=3, asked=1),
    ]
    tables = measure_kept(Retention(model, [KeptBy("streaming"), KeptBy("random(draw=0)")], 0.5), found)
    near = 2e-3 if dtype == torch.float32 else 0.3
    answers, kept = (rows_of(tables, name, "kept by streaming") for name in ("answers", "kept"))
    for number, sample in enumerate(found):
        n, budget = len(sample.ids), len(sample.ids) // 2
        dropped = range(4, n - budget + 4)
        layers = evictable_layers(model, n + LONGEST_CONTINUATION)
        heads = [(layer, head) for layer in layers for head in range(model.geometry.n_heads)]
        for place, question in enumerate(sample.questions):
            (right,) = question.right
            ids = [*question.ids, *right]
            prefix = model.prefix(sample.ids)
            with model.block_attention(heads, keys=list(dropped), queries=list(range(n, n + len(ids)))):
                nats = torch.log_softmax(model.extend(prefix, [ids], logits="all")[0], dim=-1)
            at = len(question.ids) - 1
            row = answers.loc[(number, place)]
            margin = nats[at, right[0]] - max(nats[at, value[0]] for value in question.wrong)
            assert row["first_margin_nats"] == pytest.approx(float(margin), abs=near)
            logp = sum(float(nats[at + step, token]) for step, token in enumerate(right))
            assert row["logp_nats"] == pytest.approx(logp, abs=near * len(right))
            pair = sample.pairs[question.pairs[0]]
            own = range(pair.key[0], pair.value[1])
            assert kept.loc[(number, place), "pair_kept"] == pytest.approx(np.mean([one not in dropped for one in own]))
            assert kept.loc[(number, place), "kept_share"] == pytest.approx(budget / n)
    random = rows_of(tables, "kept", "kept by random")
    assert random["kept_share"].to_numpy() == pytest.approx(
        (random["budget_keys"] / random["context_tokens"]).to_numpy()
    )
    assert rows_of(tables, "answers", "kept by random")["first_margin_nats"].map(np.isfinite).all()


@pytest.mark.parametrize("family", ["llama", "gemma2", "falcon-alibi", "gpt_neox", "bamba"])
def test_contexts_that_are_read_together_give_what_each_gives_alone(family, words):
    model = model_of(family)
    found = samples(model.tokenizer, words, "mqar", 3, FRAMES, pairs=4)
    assert len({len(one.ids) for one in found}) == 1
    retention = Retention(model, [KeptBy("tova"), KeptBy("knorm"), KeptBy("tokenselect")], 0.5)
    together = measure_kept(retention, found)
    for number, sample in enumerate(found):
        alone = measure_kept(retention, [sample])
        for name, column in (("answers", "first_margin_nats"), ("answers", "logp_nats"), ("kept", "pair_kept")):
            rows = together[name][together[name]["number"] == number]
            assert rows[column].to_numpy() == pytest.approx(alone[name][column].to_numpy(), abs=2e-3)


# ---------------------------------------------------------------------- planted


@pytest.fixture(scope="module")
def planted():
    """A model that copies by one head, and the same context under policies that keep all, all but the right pair, or all but another."""
    model = copy_model()
    vocabulary = Words(tuple(f" {word}" for word in NEEDLE_WORDS if f" {word}" in IDS), "words")
    (sample,) = samples(model.tokenizer, vocabulary, "mqar", 1, {**FRAMES, **BARE}, pairs=4, asked=1)
    own = sample.questions[0].pairs[0]
    other = next(number for number in (1, 2, 3) if number != own)
    ranges = [(sample.pairs[number].key[0], sample.pairs[number].value[1]) for number in (own, other)]
    own_policy, other_policy = (f"{HERE}:Without(start={start}, end={end})" for start, end in ranges)
    names = {"full": "full", "own": own_policy, "other": other_policy}
    share = (len(sample.ids) - ranges[0][1] + ranges[0][0]) / len(sample.ids) + 1e-9
    kept = measure_kept(Retention(model, [KeptBy(text) for text in names.values()], share), [sample])
    plain = measure_samples(Reading(model, sets_of(COPY_HEAD, others=((1, 0),)), (), None), [sample])["answers"]
    answers = kept["answers"].set_index("condition")
    left = kept["kept"].set_index("condition")
    of = {name: (answers.loc[f"kept by {text}"], left.loc[f"kept by {text}"]) for name, text in names.items()}
    return of, plain.set_index("condition")


def test_a_policy_that_keeps_all_changes_nothing(planted):
    (answer, left), whole = planted[0]["full"], planted[1].loc["whole"]
    assert answer["first_margin_nats"] == pytest.approx(whole["first_margin_nats"], abs=1e-4)
    assert answer["logp_nats"] == pytest.approx(whole["logp_nats"], abs=1e-4)
    assert answer["is_said"] == whole["is_said"] == 1
    assert left["pair_kept"] == left["value_kept"] == left["kept_share"] == 1


def test_one_that_drops_the_pair_leaves_the_model_as_without_it(planted):
    (answer, left), plain = planted[0]["own"], planted[1]
    assert left["pair_kept"] == left["value_kept"] == 0
    assert answer["is_said"] == plain.loc["without the pair", "is_said"] == 0
    assert answer["logp_nats"] == pytest.approx(plain.loc["without the pair", "logp_nats"], abs=0.5)
    assert plain.loc["whole", "logp_nats"] - answer["logp_nats"] > 4
    answer, left = planted[0]["other"]
    assert left["pair_kept"] == 1
    assert answer["is_said"] == 1
    assert answer["first_margin_nats"] == pytest.approx(plain.loc["whole", "first_margin_nats"], abs=0.5)


# ---------------------------------------------------------------------- what is refused


def test_a_context_with_too_few_keys_is_left_out_in_a_sentence(words):
    model = model_of("llama")
    found = samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3)
    tables = measure_kept(Retention(model, [KeptBy("snapkv(window=64)"), KeptBy("tova")], 0.5), found)
    assert set(tables["answers"]["condition"]) == {"kept by tova"}
    refused = rows_of(tables, "kept", "kept by snapkv(window=64)")
    assert refused["refusal"].str.contains("keeps at least 65 keys").all()
    assert refused["pair_kept"].isna().all()


def test_a_model_whose_layers_drop_keys_by_themselves_is_left_out_in_a_sentence(words):
    model = model_of("mistral", sliding_window=16)
    found = samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3)
    tables = measure_kept(Retention(model, [KeptBy("tova")], 0.5), found)
    assert set(tables) == {"kept"}
    assert tables["kept"]["refusal"].str.contains("drops keys by itself").all()


def test_models_without_heads_have_no_such_condition_and_a_sentence():
    settings = ContextRecall()
    without = ModelFacts(FACTS.identity, "lstm", None, None)
    units = expected_units(settings, without, {})
    assert not any(unit.kept for unit in units if isinstance(unit, CellUnit))
    (said,) = find_kept(settings, {"heads": pd.DataFrame()})
    assert said.kind == "warning"
    assert "this model has none" in said.text


@pytest.mark.parametrize(
    ("policies", "sentence"),
    [(("snapvk",), "Did you mean"), (("duo",), "spares heads"), (("tova(window)",), "is no policy")],
)
def test_policies_that_cannot_be_are_refused(policies, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        Settings(policies=policies)


def test_a_policy_for_rotary_models_is_refused_in_another():
    with pytest.raises(ArgumentError, match=r"expected needs a rotary embedding.*--policies"):
        ContextRecall(policies=("expected",)).check_model(ModelFacts(FACTS.identity, "gpt2", FACTS.geometry, 2048))


# ---------------------------------------------------------------------- plan, summaries, sentences


def test_random_keys_are_the_control_of_every_policy():
    conditions = kept_conditions(Settings(policies=("tova", "random", "tova", "streaming(sinks=2)"), random_draws=2))
    names = [one.condition for one in conditions]
    assert names == ["kept by tova", "kept by streaming(sinks=2)", "kept by random", "kept by random"]
    assert [one.draw for one in conditions[2:]] == [0, 1]
    assert controls(["whole", *names])["kept by tova"] == "kept by random"
    assert "kept by random" not in controls(names)
    assert kept_conditions(Settings(policies=())) == ()


def test_survival_is_held_against_random_keys():
    rows = [
        {"task": "mqar", "cell": "", "is_length": False, "sample_id": f"s{number}", "question": 0, "kind": "", "condition": condition,
         "draw": draw, "context_tokens": 40, "budget_keys": 20, "kept_share": 0.5, "pair_kept": value, "value_kept": value, "refusal": ""}
        for number in range(6)
        for condition, draw, value in (
            ("kept by tova", 0, 0.75 + 0.25 * (number % 2)), ("kept by random", 0, 0.25), ("kept by random", 1, 0.75),
            ("kept by streaming", 0, 0.25 + 0.5 * (number % 2)),
        )
    ]  # fmt: skip
    refused = {
        **rows[0],
        "condition": "kept by snapkv",
        "pair_kept": np.nan,
        "value_kept": np.nan,
        "refusal": "It keeps 64.",
    }
    kept = pd.DataFrame([*rows, refused])
    settings = ContextRecall()
    table = survival(settings, kept)
    one = table.set_index(["condition", "quantity"]).loc[("kept by tova", "pair_kept")]
    assert (one["value"], one["random"], one["beyond"]) == (0.875, 0.5, 0.375)
    assert one["beyond_ci_low"] > 0
    tables = {
        "heads": pd.DataFrame({"layer": [0]}), "kept": kept, "survival": table,
        "causes": pd.DataFrame(columns=["task", "condition", "quantity", "beyond", "beyond_ci_low", "beyond_ci_high"]),
    }  # fmt: skip
    said = [finding.text for finding in find_kept(settings, tables)]
    assert re.search(r"mqar 88% against 50%, \+38 points \[\+\d+, \+\d+\]", said[0])
    assert said[1].endswith("no difference shown.")
    assert said[-1] == "Not measured, mqar kept by snapkv: It keeps 64."
    assert not list(find_kept(ContextRecall(policies=()), tables))
    checked(table.assign(model="tiny"), settings.schemas()["survival"])
