"""Surprisals of nouns against a plain forward pass over the whole text, on tiny random models."""

import dataclasses
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import ArgumentError, UserError
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.lists import FirstList, first_lists, second_list
from probes.verbatim_memory.measure import measure_lists
from probes.verbatim_memory.plan import ListUnit, plan_units
from probes.verbatim_memory.tables import SCHEMAS
from probes.verbatim_memory.trials import encode_list
from tests.tiny_models import tiny

PREFACE, PARAGRAPH, PROMPT = "Anna wrote the words:", "She ate a pear.", "Then she read them again:"
NOUNS = ("apple", "pear", "plum", "owl", "crow", "swan", "hat", "shoe", "coat")
N_TOKENS = 300
SIZES: dict[str, dict[str, Any]] = {
    "llama": dict(vocab_size=N_TOKENS, max_position_embeddings=512),
    "mamba": dict(vocab_size=N_TOKENS, hidden_size=32, num_hidden_layers=2, state_size=4),
}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pieces of at most a few letters: every noun has several."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=N_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    plain.train_from_iterator([PREFACE, PARAGRAPH, PROMPT, " apple, pear. plum owl"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=plain)


@pytest.fixture
def settings(tmp_path) -> VerbatimMemory:
    (tmp_path / "nouns.txt").write_text("\n".join(NOUNS))
    (tmp_path / "texts.toml").write_text(
        f'[preface]\nintact = "{PREFACE}"\n[prompt]\nintact = "{PROMPT}"\nshort = "And:"\n'
        f'[intervening]\nintact = ["{PARAGRAPH}", "It rained."]\n'
    )
    return VerbatimMemory(
        nouns=tmp_path / "nouns.txt",
        texts=tmp_path / "texts.toml",
        list_lengths=(3,),
        n_base_lists=3,
        rotations=2,
        intervening=(1, 2),
        exact_threshold=1e-12,
        mask_sets=(),
    )


def measured(settings: VerbatimMemory, model: Any) -> pd.DataFrame:
    (unit,) = plan_units(settings, model.facts, {})
    assert isinstance(unit, ListUnit)
    return measure_lists(settings, model, unit)["token_surprisals"]


def plain_log_probabilities(model: Any, text: str) -> tuple[list[int], list[tuple[int, int]], torch.Tensor]:
    """Tokens of a whole text, the characters of each, and ln p of every token at every place, by transformers alone."""
    encoded = tokenizer()(text, return_offsets_mapping=True)
    with torch.no_grad():
        logits = model.hf(torch.tensor([encoded["input_ids"]]), use_cache=False).logits[0]
    return encoded["input_ids"], encoded["offset_mapping"], logits.log_softmax(-1).double()


def boundary_mask() -> torch.Tensor:
    texts = [tokenizer().decode([id]) for id in range(len(tokenizer()))]
    mask = [not (text[0].isalpha() or text[0] in "'-\ufffd") for text in texts]
    return torch.tensor(mask + [False] * (N_TOKENS - len(mask)))


@pytest.mark.parametrize("family", SIZES)
def test_nouns_have_the_surprisal_that_one_forward_pass_over_the_whole_text_gives(settings, family):
    model = tiny(family, tokenizer=tokenizer(), **SIZES[family])
    table = measured(settings, model)
    firsts = {first.id: first for first in first_lists(settings, "arbitrary", 3)}
    boundary = boundary_mask()
    checked = 0
    for (trial, condition, context, n), part in table[table["list_index"] == 2].groupby(
        ["trial_id", "condition", "context_type", "intervening"]
    ):
        first = firsts[trial]
        second = second_list(condition, first, list(firsts.values()), settings.seed)
        between = {("intact", 1): f"{PARAGRAPH} {PROMPT}", ("intact", 2): f"{PARAGRAPH} It rained. {PROMPT}"}
        middle = between.get((context, n), "And:")
        head = f"{PREFACE} {', '.join(first.nouns)}. {middle}"
        ids, offsets, log_p = plain_log_probabilities(model, f"{head} {', '.join(second)}.")
        before = table[(table["trial_id"] == trial) & (table["list_index"] == 1)]
        before = before[before["context_type"] == ("short" if context == "short" else "intact")]
        for rows, nouns, start in ((before, first.nouns, len(PREFACE)), (part, second, len(head))):
            raw = rows[rows["mode"] == "raw"].sort_values("position")
            corrected = rows[rows["mode"] == "boundary"].sort_values("position")
            assert raw["noun"].tolist() == list(nouns)
            for place, noun in enumerate(nouns):
                end = start + 1 + len(noun)
                own = [i for i, (a, b) in enumerate(offsets) if a >= start and b <= end]
                expected = -sum(float(log_p[i - 1, ids[i]]) for i in own)
                began, ended = (float(log_p[i, boundary].logsumexp(0)) for i in (own[0] - 1, own[-1]))
                assert raw["token_ids"].iloc[place] == [ids[i] for i in own]
                assert raw["surprisal_nats"].iloc[place] == pytest.approx(expected, abs=2e-4)
                assert corrected["surprisal_nats"].iloc[place] == pytest.approx(expected + began - ended, abs=2e-4)
                start, checked = end + 1, checked + 1
    assert checked == 6 * 4 * 3 * 2 * 3  # trials, conditions, texts between, lists, nouns


@pytest.mark.parametrize("family", SIZES)
def test_the_last_words_before_the_second_list_have_theirs_too(settings, family):
    model = tiny(family, tokenizer=tokenizer(), **SIZES[family])
    table = measured(settings, model)
    first = first_lists(settings, "arbitrary", 3)[0]
    tails = table[(table["list_index"] == 0) & (table["trial_id"] == first.id) & (table["condition"] == "repeat")]
    words = ["she", "read", "them", "again:"]
    for n, between, expected in (
        (1, f"{PARAGRAPH} {PROMPT}", words),
        (2, f"{PARAGRAPH} It rained. {PROMPT}", words),
        (0, "And:", ["And:"]),  # the short context: its first word is predicted by the end of the list
    ):
        tail = tails[tails["intervening"] == n].sort_values("position")
        assert tail["noun"].tolist() == expected
        assert tail["position"].tolist() == list(range(-len(expected), 0))
        text = f"{PREFACE} {', '.join(first.nouns)}. {between}"
        ids, offsets, log_p = plain_log_probabilities(model, text)
        start = len(text) - sum(1 + len(word) for word in expected)
        for word, tokens, surprisal in zip(tail["noun"], tail["token_ids"], tail["surprisal_nats"], strict=True):
            end = start + 1 + len(word)
            own = [i for i, (a, b) in enumerate(offsets) if a >= start and b <= end]
            assert list(tokens) == [ids[i] for i in own]
            assert surprisal == pytest.approx(-sum(float(log_p[i - 1, ids[i]]) for i in own), abs=2e-4)
            start = end


def test_the_exact_probability_sums_over_every_spelling(settings):
    """Brute force: all ways to cut the noun into tokens, each read by itself after the same words."""
    model = tiny("llama", tokenizer=tokenizer(), **SIZES["llama"])
    table = measured(dataclasses.replace(settings, exact_rotations=1, exact_threshold=1e-30), model)
    exact = table[(table["mode"] == "exact") & (table["list_index"] == 1) & (table["context_type"] == "intact")]
    assert sorted(exact["trial_id"].unique()) == ["00-0", "01-0", "02-0"]  # the first rotation of each base list
    texts = [tokenizer().decode([id]) for id in range(len(tokenizer()))]
    by_text = {text: id for id, text in enumerate(texts)}
    boundary, n_spellings = boundary_mask(), []
    for row in exact[exact["position"] == 1].itertuples():
        first = next(first for first in first_lists(settings, "arbitrary", 3) if first.id == row.trial_id)
        before = tokenizer()(f"{PREFACE} {first.nouns[0]},")["input_ids"]
        word = " " + row.noun
        total, spellings = 0.0, 0
        for cuts in product((False, True), repeat=len(word) - 1):
            places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
            pieces = [word[a:b] for a, b in pairwise(places)]
            if not all(piece in by_text for piece in pieces):
                continue
            ids = [by_text[piece] for piece in pieces]
            with torch.no_grad():
                log_p = model.hf(torch.tensor([before + ids])).logits[0].log_softmax(-1).double()
            steps = log_p[len(before) - 1 :]
            spelled = sum(float(steps[i, id]) for i, id in enumerate(ids))
            total += np.exp(spelled + float(steps[len(ids), boundary].logsumexp(0)))
            spellings += 1
        n_spellings.append(spellings)
        began = float(steps[0, boundary].logsumexp(0))
        assert row.surprisal_nats == pytest.approx(began - np.log(total), abs=5e-4)
        assert row.left_out_share < 1e-9
    assert max(n_spellings) > 2  # else there is nothing to sum


@pytest.mark.parametrize("family", SIZES)
def test_one_trial_at_a_time_gives_the_numbers_of_a_batch(settings, family):
    model = tiny(family, tokenizer=tokenizer(), **SIZES[family])
    alone = measured(dataclasses.replace(settings, batch_trials=1), model)
    keys = ["trial_id", "condition", "context_type", "intervening", "list_index", "position", "mode"]
    a, b = (table.set_index(keys)["surprisal_nats"].sort_index() for table in (alone, measured(settings, model)))
    assert len(a) > 500
    pd.testing.assert_series_equal(a, b, atol=2e-4, rtol=0)


def test_a_run_writes_tables_that_fit_figures_and_findings(settings, tmp_path):
    folder = tmp_path / "model"
    model = tiny("llama", tokenizer=tokenizer(), **SIZES["llama"])
    model.hf.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    run = dataclasses.replace(settings, model=str(folder), nulls=("random_init",)).run(out=tmp_path / "runs")
    assert set(run.tables) == set(SCHEMAS)
    ratio = run.tables["repeat_surprisal"].query("estimator == 'ratio' and mode == 'raw' and variant == 'none'")
    assert sorted(ratio["condition"].unique()) == ["novel", "permute", "permute_strict", "repeat"]
    nouns = run.tables["token_surprisals"].query("mode == 'raw' and variant == 'none' and list_length == 3")
    one = ratio.query("condition == 'repeat' and context_type == 'intact' and intervening == 2")
    second = nouns.query("list_index == 2 and condition == 'repeat' and context_type == 'intact' and intervening == 2")
    first = nouns.query("list_index == 1 and context_type == 'intact'")
    means = [part[part["position"] > 0].groupby("trial_id")["surprisal_nats"].mean() for part in (second, first)]
    assert one["value"].item() == pytest.approx(float((100 * means[0] / means[1]).median()))
    audit = run.tables["stimulus_audit"].set_index("condition")
    assert audit.loc["repeat", ["shared_nouns_share", "same_position_share", "surviving_pairs_share"]].tolist() == [
        1,
        1,
        1,
    ]
    assert audit.loc["permute_strict", "surviving_pairs_share"] == 0
    assert audit.loc["novel", "shared_nouns_share"] == 0
    assert {"list_length", "intervening", "contexts", "positions", "modes", "nulls"} == set(run.figures)
    assert any("median over 6 trials" in finding.text for finding in run.experiment.findings(run.tables))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(list_lengths=(1,)), "--list-lengths must be at least 2, not 1: the first noun"),
        (dict(n_base_lists=1), "must be at least 2"),
        (dict(conditions=()), "needs at least one of repeat"),
        (dict(contexts=("scrambled",)), "must hold intact"),
        (dict(pools=("arbitrary", "coherent")), "--nouns is one pool"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, changes, words):
    with pytest.raises(ArgumentError, match=words):
        dataclasses.replace(settings, **changes)


def test_texts_longer_than_the_window_and_nouns_that_cannot_be_spelled_are_refused(settings):
    short = tiny("llama", tokenizer=tokenizer(), vocab_size=N_TOKENS, max_position_embeddings=32)
    with pytest.raises(UserError, match="reads 32: shorten it"):
        measured(settings, short)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "apple": 1, ",": 2, ".": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    knows_apples = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    with pytest.raises(ArgumentError, match="cannot spell the noun plum"):
        encode_list(knows_apples, FirstList(0, 0, ("apple", "plum")).nouns)
