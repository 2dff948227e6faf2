"""Whole runs on tiny saved models: checkpoints, half precision, head rankings of another run, comparison, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError, UserError
from interp.experiments.run import Run
from interp.models.identity import HeadGeometry
from interp.models.loading.language import look_up
from interp.tables import write_table
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.tables import EchoInduction, HeadScores
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.plan import MaskUnit, default_mask_ks, plan_units
from probes.verbatim_memory.summaries import step_of
from tests.tiny_models import tiny_hf
from tests.verbatim_memory.test_measure import N_TOKENS, SIZES, settings, tokenizer  # noqa: F401

CELL = ["condition", "list_length", "context_type", "intervening", "mode", "estimator"]


def save(folder: Path, seed: int, family: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    tiny_hf(family, seed=seed, **SIZES[family]).to(dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def quick(settings: VerbatimMemory) -> VerbatimMemory:  # noqa: F811
    return dataclasses.replace(
        settings, contexts=("intact",), intervening=(1,), rotations=1, conditions=("repeat", "novel"), exact_rotations=0
    )


def test_checkpoints_are_measured_in_one_run_as_by_themselves(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    for step in (10, 2, 0):
        save(model / f"step{step}", seed=step + 1)
    swept = dataclasses.replace(quick, model=str(model), revisions=("step10", "step2", "step0")).run(out=tmp_path)
    table = swept.tables["checkpoints"]
    assert table["step"].drop_duplicates().tolist() == [0, 2, 10]
    assert "checkpoints" in swept.figures
    for revision in ("step0", "step10"):
        alone = dataclasses.replace(quick, model=str(model), revision=revision).run(out=tmp_path)
        expected = alone.tables["repeat_surprisal"].query("mode == 'raw'")
        found = table[table["revision"] == revision]
        keys = ["list_length", "condition", "estimator"]
        both = found.merge(expected, on=keys, suffixes=("", "_alone"))
        assert len(both) == len(found) == len(expected) > 5
        assert both["value"].tolist() == both["value_alone"].tolist()
    own = swept.tables["repeat_surprisal"].query("variant == 'none' and estimator == 'ratio' and mode == 'raw'")
    assert not set(own["value"]) & set(table["value"])


def test_a_checkpoint_that_does_not_exist_is_refused_before_anything_is_measured(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    save(model / "step10", seed=1)
    with pytest.raises(ArgumentError, match=r"no revision step1 .*Did you mean step10"):
        dataclasses.replace(quick, model=str(model), revisions=("step10", "step1")).run(out=tmp_path / "runs")
    assert not list(tmp_path.glob("runs/**/*.parquet"))


def test_steps_are_read_from_the_names_of_checkpoints():
    assert [step_of(name) for name in ("step1000", "step_8", "stage1-step-64-tokens3B")] == [1000, 8, 64]
    assert pd.isna(step_of("main"))


def test_half_precision_is_allowed_and_its_difference_is_reported(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    run = dataclasses.replace(quick, model=str(model), dtype="bfloat16").run(out=tmp_path / "runs")
    nouns = run.tables["token_surprisals"].query("mode == 'raw' and list_index > 0")
    half, full = (nouns[nouns["variant"] == variant] for variant in ("none", "float32"))
    keys = ["trial_id", "condition", "list_index", "position"]
    both = half.merge(full, on=keys)
    difference = (both["surprisal_nats_x"] - both["surprisal_nats_y"]).abs()
    assert len(both) == len(full)
    assert difference.mean() > 1e-4
    (warning,) = [f.text for f in run.experiment.findings(run.tables) if f.kind == "warning" and "half" in f.text]
    assert f"by {difference.mean():.3f} nats on average" in warning
    whole = dataclasses.replace(quick, model=str(model)).run(out=tmp_path / "runs")
    assert set(whole.tables["token_surprisals"]["variant"]) == {"none"}


def test_models_are_compared_in_the_cells_that_both_have(quick, tmp_path):
    runs: dict[str, Run] = {}
    for family in ("llama", "mamba"):
        model = save(tmp_path / family, seed=0, family=family)
        lengths = (2, 3) if family == "llama" else (3,)
        runs[family] = dataclasses.replace(quick, model=str(model), list_lengths=lengths).run(out=tmp_path / "runs")
    kind = runs["llama"].experiment
    tables, figures = kind.compare({name: run.tables for name, run in runs.items()})
    table = tables["repeat_surprisal"]
    assert set(table["list_length"]) == {3}
    assert set(table["run"]) == {"llama", "mamba"}
    own = runs["mamba"].tables["repeat_surprisal"].query("mode == 'raw'")
    assert table[table["run"] == "mamba"]["value"].tolist() == own["value"].tolist()
    assert set(figures) == {"models_intact"}
    other = dataclasses.replace(quick, model=str(tmp_path / "mamba"), list_lengths=(2,)).run(out=tmp_path / "runs")
    with pytest.raises(ArgumentError, match="give them the same settings"):
        kind.compare({"a": runs["mamba"].tables, "b": other.tables})


# ---------------------------------------------------------------------- heads of a retrieval run


def retrieval_run(folder: Path, model: Path, best: tuple[int, int], inducing: tuple[int, int]) -> Path:
    """A finished retrieval-heads run as it lies on disk, in which one head copies and another one inducts."""
    heads = pd.DataFrame([(layer, head) for layer in range(3) for head in range(4)], columns=["layer", "head"])
    same: dict[str, Any] = dict(model="m", kv_head=0)
    scores = heads.assign(
        **same, definition="set", score=[float((row.layer, row.head) == best) for row in heads.itertuples()],
        ci_low=0.0, ci_high=1.0, activation_frequency=0.0, n_samples=1, n_needles=1,
    )  # fmt: skip
    echo = heads.assign(
        **same, draw=0, echo=0.0, block_tokens=5, repeats=2,
        induction=[float((row.layer, row.head) == inducing) for row in heads.itertuples()],
    )  # fmt: skip
    for name, table, schema in (("head_scores", scores, HeadScores), ("echo_induction", echo, EchoInduction)):
        columns = list(schema.to_schema().columns)
        write_table(folder / "tables" / f"{name}.parquet", table[columns], schema)
    facts = look_up(str(model))
    experiment = RetrievalHeads(model=str(model))
    description = {
        "status": "done",
        "experiment": "retrieval_heads",
        "schema_version": RetrievalHeads.schema_version,
        "configuration": experiment.configuration(),
        "model": dataclasses.asdict(facts),
    }
    (folder / "run.json").write_text(json.dumps(description))
    return folder


def test_heads_of_a_retrieval_run_are_masked_beside_those_found_here(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    folder = retrieval_run(tmp_path / "found", model, best=(2, 1), inducing=(1, 3))
    wanted = dataclasses.replace(
        quick, model=str(model), mask_sets=("postmatch",), heads_from=folder, mask_k=(1, 2), mask_draws=2
    )
    run = wanted.run(out=tmp_path / "runs")
    masking = run.tables["masking"]
    assert list(dict.fromkeys(masking["head_set"])) == ["none", "postmatch", "retrieval", "induction"]
    top = masking[(masking["control"] == "top") & (masking["k"] == 1)].groupby("head_set")["heads"].unique()
    assert top["retrieval"].tolist() == ["2-1"]
    assert top["induction"].tolist() == ["1-3"]
    attention = run.tables["list_attention"].groupby(["layer", "head"])["postmatch"].mean()
    assert top["postmatch"].tolist() == ["{}-{}".format(*attention.idxmax())]
    novel = masking[masking["condition"] == "novel"]
    assert set(novel["control"]) == {"none", "top"}  # random heads are controls for the repeated lists
    summary = run.tables["masking_summary"]
    assert len(summary) == 2 + 3 * 2 * 3  # no mask; three sets at two sizes: top twice, random once
    assert "masking" in run.figures
    assert sum("silent" in f.text or "Without the top" in f.text for f in run.experiment.findings(run.tables)) == 3


def test_heads_that_a_file_ranks_are_masked_beside_those_found_here(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    (tmp_path / "qrhead.yaml").write_text('attn_head_set: "2-3,0-1"\n')
    wanted = dataclasses.replace(
        quick,
        model=str(model),
        mask_sets=("postmatch",),
        heads_from=tmp_path / "qrhead.yaml",
        mask_k=(1, 2, 5),
        mask_draws=1,
    )
    run = wanted.run(out=tmp_path / "runs")
    top = run.tables["masking"].query("control == 'top'").groupby(["head_set", "k"])["heads"].unique()
    assert {k: list(heads) for k, heads in top["heads_from"].items()} == {1: ["2-3"], 2: ["2-3 0-1"]}  # it has no five
    assert set(top["postmatch"].index) == {1, 2, 5}
    assert run.tables["heads_from"]["head"].tolist() == [3, 1]
    said = " ".join(finding.text for finding in run.findings)
    assert "--heads-from ranks 2 heads by order only; first: 2-3, 0-1." in said
    assert "Without the top 2 --heads-from heads a repeated list costs" in said
    assert "masking" in run.figures
    (tmp_path / "qrhead.yaml").write_text('attn_head_set: "3-0"\n')
    refused(wanted, tmp_path, "names the head 3-0, and model has 3 layers of 4 heads")


def test_masks_wait_for_all_lists_and_do_not_depend_on_the_run(quick, tmp_path):
    model = save(tmp_path / "model", seed=0)
    wanted = dataclasses.replace(quick, model=str(model), mask_sets=("recent",), mask_k=(1,), mask_draws=1)
    facts = look_up(str(model), dtype="float32")
    some = pd.DataFrame({"base_list": [0, 1], "layer": 0, "head": [0, 1], "recent": 0.5})
    assert not any(isinstance(unit, MaskUnit) for unit in plan_units(wanted, facts, {"list_attention": some}))
    full = pd.DataFrame({"base_list": [0, 1, 2], "layer": 0, "head": [0, 1, 2], "recent": 0.5})
    assert any(isinstance(unit, MaskUnit) for unit in plan_units(wanted, facts, {"list_attention": full}))


def refused(settings: VerbatimMemory, folder: Path, words: str) -> None:  # noqa: F811
    with pytest.raises(UserError, match=words) as caught:
        settings.run(out=folder / "runs")
    assert "\n" not in str(caught.value)


def test_rankings_of_another_model_or_experiment_are_refused(quick, tmp_path):
    model, other = save(tmp_path / "model", seed=0), save(tmp_path / "other", seed=1)
    folder = retrieval_run(tmp_path / "found", other, best=(0, 0), inducing=(0, 1))
    masked = dataclasses.replace(quick, model=str(model), mask_sets=("recent",), mask_k=(1,), mask_draws=1)
    refused(dataclasses.replace(masked, heads_from=folder), tmp_path, "ranks the heads of other, not of model")
    refused(dataclasses.replace(masked, heads_from=tmp_path / "nowhere"), tmp_path, "There is no run")
    here = masked.run(out=tmp_path / "runs").folder
    refused(dataclasses.replace(masked, heads_from=here), tmp_path, "is a run of verbatim_memory")
    refused(dataclasses.replace(masked, mask_k=(7,)), tmp_path, "--mask-k of at most 6")


def test_models_without_heads_are_measured_without_masks(quick, tmp_path):
    model = save(tmp_path / "model", seed=0, family="mamba")
    run = dataclasses.replace(quick, model=str(model), mask_sets=("recent",)).run(out=tmp_path / "runs")
    assert not len(run.tables["masking"])
    assert "masking" not in run.figures
    folder = retrieval_run(tmp_path / "found", save(tmp_path / "llama", seed=0), best=(0, 0), inducing=(0, 1))
    refused(dataclasses.replace(run.experiment, heads_from=folder), tmp_path, "no attention heads to silence")
    refused(dataclasses.replace(run.experiment, nulls=("qk_shuffled",)), tmp_path, "no attention heads to shuffle")


def test_public_files_with_fewer_lists_than_asked_are_refused(quick, tmp_path):
    rows = [["owl", "hat", "shoe"], ["pear", "plum", "crow"]]
    (tmp_path / "lists.json").write_text(json.dumps({"n3": rows}))
    public = dataclasses.replace(
        quick, model=str(save(tmp_path / "model", seed=0)), nouns=tmp_path / "lists.json", n_base_lists=3
    )
    refused(public, tmp_path, "has 2 base lists: use --n-base-lists 2")
    run = dataclasses.replace(public, n_base_lists=2).run(out=tmp_path / "runs")
    second = run.tables["token_surprisals"].query("list_index == 2 and condition == 'novel' and trial_id == '00-0'")
    assert second.sort_values("position")["noun"].drop_duplicates().tolist() == rows[1]


@pytest.mark.parametrize("changes", [dict(mask_k=(0,)), dict(mask_k=(5, -1)), dict(mask_draws=0)])
def test_masks_that_cannot_be_meant_are_refused(changes):
    with pytest.raises(ArgumentError, match="--mask-k and --mask-draws must be at least 1"):
        VerbatimMemory(**changes)
    VerbatimMemory(mask_sets=(), **changes)


def test_small_models_lose_few_heads_by_default():
    assert default_mask_ks(HeadGeometry(30, 9, 3, 64)) == (2, 5, 10, 20)
    assert default_mask_ks(HeadGeometry(12, 12, 12, 64)) == (2, 5, 10, 20)
    assert default_mask_ks(HeadGeometry(6, 8, 8, 64)) == (2, 5)
    assert default_mask_ks(HeadGeometry(1, 4, 4, 32)) == (1,)
