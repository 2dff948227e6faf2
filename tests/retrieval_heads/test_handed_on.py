"""What a retrieval_heads run hands to later runs: its ranking, of which weights it is, and nothing where it scored no head."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from interp.errors import ArgumentError
from interp.experiments.experiment import Experiment
from interp.experiments.run import Run, compare, open_run
from interp.experiments.store import RunStore
from interp.heads.given import given_heads, heads_of, scores_of_run, sentences_on, sentences_on_ties
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from probes.joined.attention import AttentionJoin
from probes.joined.memory import MemoryJoin
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.verbatim_memory.experiment import VerbatimMemory
from tests.planted import N_HEADS, N_LAYERS

FACTS = ModelFacts(
    ModelIdentity("planted", "planted", "1" * 64, "float32"), "gpt2", HeadGeometry(N_LAYERS, N_HEADS, N_HEADS, 16), 512
)
SCORED = {(1, 2): 0.9, (0, 3): 0.5}
"""What the copy score of these heads is; that of all others is 0."""


def facts(revision: str = "1", name: str = "planted", geometry: HeadGeometry | None = FACTS.geometry) -> ModelFacts:
    identity = dataclasses.replace(FACTS.identity, name=name, revision=64 * revision)
    return dataclasses.replace(FACTS, identity=identity, geometry=geometry)


def finished(out: Path, of: ModelFacts = FACTS, definitions: tuple[str, ...] = ("set", "echo")) -> Run:
    """A retrieval_heads run as it stands on disk: every head scored, or none of them by a definition that is not named."""
    assert of.geometry is not None
    rows = [
        {
            "model": of.name, "layer": layer, "head": head, "kv_head": head // of.geometry.group_size, "definition": name,
            "score": SCORED.get((layer, head), 0.0), "ci_low": float("nan"), "ci_high": float("nan"),
            "activation_frequency": 0.5, "n_samples": 2, "n_needles": 1,
        }
        for name in definitions
        for layer in of.geometry.layers
        for head in range(of.geometry.n_heads)
    ]  # fmt: skip
    heads = pd.DataFrame(rows)
    looks = heads[["model", "layer", "head", "kv_head"]].assign(
        draw=0, block_tokens=24, repeats=2, echo=heads["score"], induction=heads["score"]
    )
    tables = {"head_scores": heads, "echo_induction": looks.drop_duplicates(["layer", "head"])}
    return stored(out, RetrievalHeads(model=of.name), of, tables)


def stored(out: Path, experiment: Experiment, of: ModelFacts, tables: dict[str, pd.DataFrame]) -> Run:
    """A finished run with these tables."""
    store = RunStore(out / experiment.name / of.name / "0123456789ab", experiment.schemas())
    store.write_tables(tables)
    store.write_description(
        {
            "status": "done", "experiment": experiment.name, "schema_version": experiment.schema_version,
            "configuration": experiment.configuration(), "model": dataclasses.asdict(of),
            "table_sha256": store.table_sha256(), "command": experiment.name,
        }
    )  # fmt: skip
    return open_run(store.folder)


@pytest.mark.parametrize(
    ("of", "warned"),
    [(facts(), False), (facts("2"), True), (facts("2", "planted-chat"), True), (facts("1", "planted-copy"), False)],
)
def test_a_ranking_of_other_weights_is_warned_about_whatever_their_name(of, warned, tmp_path):
    said = sentences_on(given_heads(finished(tmp_path, of).folder, FACTS), (1,))
    assert [is_warning for _, is_warning in said] == [False, True][: 1 + warned]
    if warned:
        assert (
            f"The run of --heads-from ranks the heads of {of.name}, other weights than those of planted" in said[1][0]
        )


@pytest.mark.parametrize("n_heads", [4, 8])
def test_a_run_of_a_model_of_another_shape_is_refused(n_heads, tmp_path):
    """Its heads are query heads, also where there are as many as this model has key-value heads."""
    run = finished(tmp_path, facts(geometry=HeadGeometry(N_LAYERS, n_heads, 2, 16)))
    for other in (HeadGeometry(N_LAYERS, 2 * n_heads, n_heads, 16), HeadGeometry(N_LAYERS, n_heads, 1, 16)):
        with pytest.raises(ArgumentError, match="name one of the same model"):
            given_heads(run.folder, facts(geometry=other))


HYBRID = facts(geometry=HeadGeometry(4, 4, 2, 16, only_in=(1, 3)))


def test_heads_of_layers_without_attention_are_refused_and_lines_of_gates_are_of_those_with(tmp_path):
    (tmp_path / "names.json").write_text('["1-2", "2-0"]')
    with pytest.raises(
        ArgumentError, match="names the head 2-0, and of the layers of planted only 1, 3 have attention"
    ):
        given_heads(tmp_path / "names.json", HYBRID)
    (tmp_path / "full_attention_heads.tsv").write_text("0.1\t0.2\n0.9\t0.3\n")
    assert heads_of(given_heads(tmp_path, HYBRID))[:3] == [(3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize("reader", [VerbatimMemory, AttentionJoin, MemoryJoin])
def test_a_run_that_scored_no_head_has_no_ranking_to_hand_on(reader, tmp_path, monkeypatch):
    folder = finished(tmp_path, definitions=("echo",)).folder
    monkeypatch.setattr(
        "interp.experiments.join.Join.check_model", lambda self, facts: None
    )  # the other run is not there
    named = {"heads_from": folder} if reader is VerbatimMemory else {"retrieval_heads": folder}
    with pytest.raises(ArgumentError, match="has no set scores: no sample of that run was scored"):
        reader(model="planted", **named).check_model(FACTS)


@pytest.mark.parametrize(("phase", "refused"), [("second_list", False), ("everything", True)])
def test_memory_is_joined_with_lists_whose_second_reading_alone_was_masked(phase, refused, tmp_path):
    """With heads silent from the first token on, less is written into memory too: that answers another question."""
    rows = [
        {
            "model": "planted", "head_set": "retrieval", "control": "top", "k": 2, "draw": 0, "heads": "1-2 0-3", "trial_id": "00-0",
            "base_list": 0, "condition": "repeat", "list_index": 2, "position": 1, "noun": "bell", "surprisal_nats": 1.0,
            "list_length": 3, "intervening_tokens": 5,
        }
    ]  # fmt: skip
    ranking = finished(tmp_path)
    lists = VerbatimMemory(model="planted", heads_from=ranking.folder, mask_phase=phase)
    masked = stored(tmp_path, lists, FACTS, {"masking": pd.DataFrame(rows)})
    join = MemoryJoin(model="planted", retrieval_heads=ranking.folder, verbatim_memory=masked.folder)
    if not refused:
        join.check_model(FACTS)
        return
    with pytest.raises(ArgumentError, match="--mask-phase second_list"):
        join.check_model(FACTS)


def test_runs_of_one_name_are_two_sides_of_a_comparison(tmp_path):
    run, again = finished(tmp_path), finished(tmp_path / "elsewhere")
    for other in (run, again):
        tables, _ = compare(run, other)
        # Two heads of the top 10 are the same; the other ten share eight places on each side.
        assert tables["pairs"]["top_k_overlap"].tolist() == pytest.approx([(2 + 10 * 0.8**2) / 10])
    with pytest.raises(ArgumentError, match="given more than twice"):
        compare(run, run, run)


def test_a_table_that_was_changed_behind_a_run_is_refused(tmp_path):
    run = finished(tmp_path)
    path = run.folder / "tables" / "head_scores.parquet"
    table = pd.read_parquet(path)
    table.assign(score=table["score"].iloc[::-1].to_numpy()).to_parquet(path)
    with pytest.raises(Exception, match=r"head_scores.parquet .*changed since the run ended.*same command again"):
        given_heads(run.folder, FACTS)


@pytest.mark.parametrize(("k", "said"), [(1, 0), (2, 0), (3, 1), (5, 1), (12, 0), (20, 0)])
def test_a_size_at_which_the_ranking_is_no_order_is_told(k, said, tmp_path):
    """Two heads have scores of their own; the third and fifth are dealt from ten that have none; all twelve are all there are."""
    run = finished(tmp_path)
    told = sentences_on_ties(scores_of_run(run)["score"], (k,), "the ranking")
    assert len(told) == said
    if said:
        assert f"The top {k} of the ranking ends among 10 heads with the same score, 0: " in told[0]
    of_heads = pd.DataFrame([(*head, score) for head, score in SCORED.items()], columns=["layer", "head", "score"])
    ranked = scores_of_run(run).head(2)[["layer", "head", "score"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(ranked, of_heads)
