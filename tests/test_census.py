"""The census of language models: small configurations of any family, outcomes that are no end of it, and a page of a table."""

import pandas as pd
import pytest

from benchmarks.census.one import Row
from benchmarks.census.overrides import OVERRIDES, VARIANTS
from benchmarks.census.page import OUTCOMES, counts, page
from benchmarks.census.shrink import families, tiny_config
from benchmarks.census.table import FAULTS, merge, write


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
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (64, 4, 128)
    assert kinds is None or set(config.layer_types) == kinds


def test_a_multimodal_configuration_is_small_in_every_part():
    config = tiny_config("mistral3")
    assert config.text_config.hidden_size == config.vision_config.hidden_size == 64


def test_every_override_and_variant_is_of_a_family_that_transformers_has():
    assert {*OVERRIDES, *(family for family, _ in VARIANTS.values())} <= set(families())


def rows() -> list[Row]:
    return [
        Row("a", "all", verdicts=dict.fromkeys(["reading", "forks"], ""), limits="copies"),
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
    assert table.loc["d", "reading"] == "not tried"


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


@pytest.mark.slow
def test_the_census_of_some_families_finds_them_right(tmp_path, monkeypatch):
    from benchmarks.census import processes
    from benchmarks.census.__main__ import main

    assert main(["--families", "llama", "bamba", "gpt_oss", "gptj", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "census.csv", keep_default_na=False)
    assert list(table["outcome"]) == ["all"] * 4
    monkeypatch.setattr(processes, "LIMIT", 0.0)
    assert main(["--families", "llama", "--out", str(tmp_path)]) == 1
    table = pd.read_csv(tmp_path / "census.csv", keep_default_na=False).set_index("family")
    assert table.loc["llama", "outcome"] == "hangs"
