"""The census of language models: small configurations of any family, outcomes that are no end of it, and a page of a table."""

import os

import pandas as pd
import pytest

from benchmarks.census.one import N_TOKENS, Row, random_model
from benchmarks.census.overrides import OVERRIDES, VARIANTS
from benchmarks.census.page import OUTCOMES, counts, page
from benchmarks.census.plausible import impossible, rows_that_do_not_sum
from benchmarks.census.runs import ends_of
from benchmarks.census.shrink import VOCABULARY, families, tiny_config
from benchmarks.census.table import FAULTS, is_fault, merge, write
from benchmarks.census.words import tokenizer
from interp.errors import UserError
from interp.models.check.check import check
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.language.recording import Weights
from interp.tables import TableSchema, may_lack
from probes.context_recall.words import words_of
from tests.tiny_models import tiny


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("llama", None),
        ("qwen3_next", {"linear_attention", "full_attention"}),
        ("gemma3_text", {"sliding_attention", "full_attention"}),
        ("nemotron_h", {"linear_attention", "moe", "full_attention", "mlp"}),
    ],
)
def test_a_tiny_configuration_keeps_every_kind_of_layer(family, kinds):
    config = tiny_config(family)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (64, 4, 1024)
    assert kinds is None or set(config.layer_types) == kinds


def test_layers_with_different_numbers_of_heads_are_said_and_read_by_transformers():
    model = LanguageModel(
        random_model(tiny_config("dots3_note_text")), None, ModelIdentity("tiny", "tests", "0", "float32")
    )
    with pytest.raises(UserError, match=r"^tiny \(dots3_note_text\) has layers of 2 and of 4 heads"):
        _ = model.geometry
    assert check(model).by_name["reading"].refused is None


@pytest.mark.parametrize("seed", [2, 3])
def test_verdicts_on_attention_that_selects_keys_do_not_hang_on_the_random_weights(seed):
    hf = random_model(tiny_config("deepseek_v32"), seed)
    found = check(LanguageModel(hf, None, ModelIdentity("tiny", "tests", str(seed), "float32")), n_tokens=N_TOKENS)
    assert not [name for name, verdict in found.by_name.items() if verdict.refused]


def test_a_multimodal_configuration_is_small_in_every_part():
    config = tiny_config("mistral3")
    assert config.text_config.hidden_size == config.vision_config.hidden_size == 64


def test_every_override_and_variant_is_of_a_family_that_transformers_has():
    assert {*OVERRIDES, *(family for family, _ in VARIANTS.values())} <= set(families())


def rows() -> list[Row]:
    return [
        Row("a", "all", verdicts=dict.fromkeys(["reading", "forks"], ""), limits="copies", runs={"surprisal": "ran"}),
        Row("b", "some", verdicts={"reading": "", "contributions": "a norm | of <its> own"}),
        Row("c", "some", verdicts={"reading": "", "forks": "off by 2"}),
        Row("a, window", "all", verdicts={"reading": ""}),
        Row("d", "crash", "the process ended with -9"),
    ]


def test_a_run_of_some_families_replaces_their_rows_alone(tmp_path):
    write(merge(rows(), tmp_path), tmp_path)
    write(merge([Row("c", "all", verdicts={"reading": ""})], tmp_path), tmp_path)
    table = pd.read_csv(tmp_path / "census.csv", keep_default_na=False).set_index("family")
    assert len(table) == 5
    assert list(table.loc[["b", "c", "d"], "outcome"]) == ["some", "all", "crash"]
    assert table.loc["b", "contributions"] == "a norm | of <its> own"
    assert table.loc["d", "reading"] == table.loc["d", "surprisal"] == "not tried"
    assert table.loc["a", "surprisal"] == "ran"


def test_the_page_counts_families_and_variants_apart(tmp_path):
    table = merge(rows(), tmp_path)
    lines = counts(table).splitlines()
    assert f"| {OUTCOMES['all']} | 1 | 1 |" in lines
    assert f"| {OUTCOMES['some']} | 2 | 0 |" in lines
    assert "| of the second line: everything but `contributions` | 1 | — |" in lines
    text = page(table, "5")
    assert "Read on with limits: `a` copies." in text
    assert "a norm ∣ of ‹its› own" in text
    assert {row.outcome for row in rows()} - {"all", "some"} <= {*FAULTS}


def test_the_page_says_how_experiments_ended(tmp_path):
    made = rows()
    made[1].runs = {"retrieval_heads": "ran with --no-contributions", "surprisal": "fault: KeyError"}
    text = page(merge(made, tmp_path), "5")
    assert "| `surprisal` | 1 | 0 | 0 | 1 | 3 |" in text
    assert "| `retrieval_heads` | 0 | 1 | 0 | 0 | 4 |" in text
    assert "- `retrieval_heads` ran with --no-contributions: `b`." in text
    assert [is_fault(row) for row in made] == [False, True, False, False, True]


# ---------------------------------------------------------------------- runs


class Scores(TableSchema):
    """A table with an estimate."""

    score: float = may_lack()
    n_samples: int
    surprisal_nats: float = may_lack()


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("score", [0.5, 0.1], ""),
        ("score", [0.5, float("nan")], ""),  # nothing was counted there
        ("score", [float("nan"), 0.1], "scores: score is not a number where n_samples are above 0"),
        ("score", [float("inf"), 0.1], "scores: score is infinite"),
        ("surprisal_nats", [-0.5, 1.0], "scores: surprisal_nats is below 0"),
    ],
)
def test_numbers_that_cannot_be_are_found(column, values, said):
    table = pd.DataFrame({"model": "m", "score": 0.2, "n_samples": [3, 0], "surprisal_nats": 1.0}).assign(
        **{column: values}
    )
    assert impossible({"scores": table}, {"scores": Scores}) == said


def test_rows_that_are_no_shares_of_one_are_found(monkeypatch):
    model = tiny("llama")
    model.obey(check(model))
    assert rows_that_do_not_sum(model) == ""
    monkeypatch.setattr(Weights, "__call__", lambda self, rows: {"weights": 0.9 * rows.weights})
    assert rows_that_do_not_sum(model) == "attention rows of layer 0 sum to 0.9"
    sinks = tiny("gpt_oss")
    sinks.obey(check(sinks))
    assert rows_that_do_not_sum(sinks) == ""


@pytest.mark.slow
def test_the_tokenizer_of_the_census_spells_every_text_and_has_words_for_lists():
    words = tokenizer()
    assert len(words) <= VOCABULARY
    text = "A café, 3.50 €: naïve words, zyzzyva.\n  Two."
    assert words.decode(words(text)["input_ids"]) == text
    assert len(words_of(words, "english").texts) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("pages", [False, True])
def test_a_run_in_memory_or_through_the_runner_ends_in_the_same_way(pages, monkeypatch):
    """In this process, which keeps its memory, its warnings and its cache."""
    monkeypatch.setattr("benchmarks.census.runs.quiet", lambda: None)
    before = dict(os.environ)
    found = dict(ends_of("bert", "float32", ["retrieval_heads", "verbatim_memory"], pages=pages))
    assert found == {"retrieval_heads": "ran with --no-contributions", "verbatim_memory": "ran"}
    assert dict(os.environ) == before


@pytest.mark.slow
def test_the_census_of_some_families_finds_them_right(tmp_path, monkeypatch):
    from benchmarks.census import processes
    from benchmarks.census.__main__ import main

    experiments = ["--experiments", "retrieval_heads", "verbatim_memory"]
    assert main(["--families", "llama", "bamba", "gpt_oss", "gptj", *experiments, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "census.csv", keep_default_na=False)
    assert list(table["outcome"]) == ["all"] * 4
    assert list(table["retrieval_heads"]) == list(table["verbatim_memory"]) == ["ran"] * 4
    monkeypatch.setattr(processes, "LIMIT", 0.0)
    assert main(["--families", "llama", "--out", str(tmp_path)]) == 1
    table = pd.read_csv(tmp_path / "census.csv", keep_default_na=False).set_index("family")
    assert table.loc["llama", "outcome"] == "hangs"
