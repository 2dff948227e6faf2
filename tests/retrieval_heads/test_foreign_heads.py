"""Rankings of others in retrieval_heads: masked beside our own, compared by rank, written in their formats and read back."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures.retrieval_heads import plot_ablation
from interp.errors import ArgumentError
from interp.experiments.__main__ import main
from interp.experiments.run import Run
from interp.experiments.run_names import run_hash
from interp.heads.files import read_heads
from interp.models.loading.language import look_up
from probes.retrieval_heads.comparison import (
    compare_all,
    write_duo_pattern,
    write_locos_scores,
    write_public_scores,
    write_qrhead_set,
)
from probes.retrieval_heads.conditions import plan_conditions
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.summaries import summarise_ablation
from tests.planted import COPY_HEAD, N_HEADS, N_LAYERS, needle_line, news, write_files

SMALL: dict[str, Any] = dict(
    context_tokens=(48,), ablation_context_tokens=(64,), depths=(0.5,), samples_per_needle=1, max_new_tokens=16,
    echo_block_tokens=24, echo_repeats=2, k=(1,), random_draws=1, other_k=1, held_out_share=0.5,
)  # fmt: skip
OTHER = (1, 0)
"""A head that copies nothing, which a file of ours ranks first, the copy head second."""


@pytest.fixture(scope="module", autouse=True)
def closed_vocabulary() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.retrieval_heads.stimuli.news_articles", news)
        patch.setattr("probes.retrieval_heads.rankings.STABILITY_DRAWS", 10)
        patch.setattr("probes.retrieval_heads.rankings.SPLITS", 5)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RetrievalHeads:
    files = write_files(tmp_path_factory.mktemp("planted"), [needle_line(index) for index in range(4)], window=512)
    return RetrievalHeads(model=str(files.model), needles=files.needles, haystack=files.haystack, **SMALL)


@pytest.fixture(scope="module")
def theirs(base: RetrievalHeads, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run beside a LOCOS file of all heads."""
    folder = tmp_path_factory.mktemp("theirs")
    scores = {f"{layer}-{head}": [-1.35, -0.5] for layer in range(N_LAYERS) for head in range(N_HEADS)}
    scores |= {"{}-{}".format(*OTHER): [2.5, 1.5], "{}-{}".format(*COPY_HEAD): [1.0, 0.5]}
    path = folder / "someone_logit_contrib_nolima.json"
    path.write_text(json.dumps({"meta": {"method": "logit_contribution"}, "scores": scores}))
    return dataclasses.replace(base, heads_from=path).run(out=folder / "runs", device="cpu")


def test_the_ranking_of_a_file_is_masked_beside_our_own(theirs):
    top = theirs.tables["ablation"].query("condition == 'top'").groupby("ranking")[["heads", "recall"]].agg(set)
    assert top["heads"]["set"] == {"{}-{}".format(*COPY_HEAD)}
    assert top["heads"]["heads_from"] == {"{}-{}".format(*OTHER)}
    assert (top["recall"]["set"], top["recall"]["heads_from"]) == ({0.0}, {1.0})
    given = theirs.tables["heads_from"]
    assert [tuple(row) for row in given[["layer", "head"]].to_numpy()[:2]] == [OTHER, COPY_HEAD]
    assert given["score"].tolist()[:3] == [2.0, 0.75, -0.925]
    assert set(given["kind"]) == {"locos"}
    said = " ".join(finding.text for finding in theirs.findings)
    assert "--heads-from ranks 12 heads by contribution in logits (LOCOS, signed); first: 1-0, 1-2" in said
    assert (
        "Masking the first 1 heads of --heads-from (zero, decode) leaves a recall of 1.00 on the same needles; lost "
        "beyond random heads of the same layers: +0 points" in said
    )
    assert (
        "takes recall on 2 held-out needles from 1.00 to 0.00; as many random heads of the same layers leave 1.00."
        in said
    )
    agreement = theirs.tables["agreement"].set_index(["first", "second"])
    assert agreement.loc[("set", "heads_from"), "top_k_overlap"] == 0
    assert "plot" not in said
    names = {trace.name for trace in plot_ablation(theirs.tables["ablation_summary"]).data}
    assert {"top, zero, decode, set", "random, zero, decode, heads_from"} <= names


def test_random_heads_are_those_of_the_ranking_they_match():
    conditions = plan_conditions(
        {"set": [(0, 0), (0, 1)], "echo": [(2, 2)]}, "set", ks=(2,), modes=("zero",), phases=("decode",), random_draws=1,
        other_k=2, n_heads=4, seed=0, given=([(1, 0), (1, 1), (1, 2)], (1, 2)),
    )  # fmt: skip
    drawn = [(c.ranking, c.k, {layer for layer, _ in c.heads}) for c in conditions if c.condition == "random"]
    assert drawn == [("set", 2, {0}), ("heads_from", 1, {1}), ("heads_from", 2, {1})]
    table = pd.DataFrame(
        [
            (c.condition, c.ranking, c.k, c.draw, needle, recall)
            for c in conditions
            for needle in "pq"
            for recall in [{"none": 1.0, "top": 0.2}.get(c.condition, 0.9 if c.ranking == "set" else 0.4)]
        ],
        columns=["condition", "ranking", "k", "draw", "needle_id", "recall"],
    )
    table = table.assign(
        mode="zero", phase="decode", prose_surprisal_nats=3.0, sample_id=table["needle_id"], literal=True
    )
    summary = summarise_ablation(table, 0).query("outcome == 'recall' and needles == 'all' and condition == 'top'")
    beyond = summary.set_index(["ranking", "k"])["beyond_random"]
    assert beyond["set", 2] == pytest.approx(0.7)
    assert beyond["echo", 2] == pytest.approx(
        0.7
    )  # a detector without random heads of its own has those of the main ranking
    assert beyond["heads_from", 2] == pytest.approx(0.2)


def test_content_of_the_file_names_the_run_and_no_file_keeps_the_old_name(base, tmp_path):
    facts = look_up(base.model)
    path = tmp_path / "heads.json"
    path.write_text('["1-0"]')
    named = [run_hash(base, facts), run_hash(dataclasses.replace(base, heads_from=path), facts)]
    path.write_text('["1-1"]')
    named.append(run_hash(dataclasses.replace(base, heads_from=path), facts))
    assert len(set(named)) == 3
    before = dict(base.configuration())
    del before["heads_from"]

    class Earlier(RetrievalHeads):
        def configuration(self) -> dict[str, Any]:
            return dict(before)

    assert (
        run_hash(Earlier(**{field.name: getattr(base, field.name) for field in dataclasses.fields(base)}), facts)
        == named[0]
    )


def test_a_run_of_another_setting_and_a_short_list_are_taken(base, theirs, tmp_path, monkeypatch):
    facts = look_up(base.model)
    of_run = dataclasses.replace(base, heads_from=theirs.folder).given(facts)
    assert of_run is not None
    assert (of_run["layer"][0], of_run["head"][0]) == COPY_HEAD
    monkeypatch.chdir(theirs.folder.parents[3])  # the folder that holds runs/
    by_hash = dataclasses.replace(base, heads_from=Path(theirs.folder.name[:8])).given(facts)
    pd.testing.assert_frame_equal(of_run, by_hash)
    (tmp_path / "one.txt").write_text("9-0")
    with pytest.raises(ArgumentError, match="names the head 9-0, and planted has 3 layers of 4 heads, counted from 0"):
        dataclasses.replace(base, heads_from=tmp_path / "one.txt").run(out=tmp_path)


# ---------------------------------------------------------------------- written and read back


def samples(n_heads: int = 4) -> pd.DataFrame:
    """Copy scores and contributions of two samples of a model of 3 layers whose pairs of heads share keys."""
    generator = np.random.default_rng(0)
    rows = [(s, "n", layer, head, head // 2) for s in "ab" for layer in range(3) for head in range(n_heads)]
    table = pd.DataFrame(rows, columns=["sample_id", "needle_id", "layer", "head", "kv_head"])
    copies = generator.permutation(len(table)) / len(table)
    return table.assign(count_score=copies, score=3 * copies - 1.35, definition="locos")


def summaries() -> tuple[pd.DataFrame, pd.DataFrame]:
    heads = samples().groupby(["layer", "head", "kv_head"], as_index=False)["count_score"].mean()
    heads = heads.rename(columns={"count_score": "score"}).assign(definition="count")
    kv_heads = heads.groupby(["definition", "layer", "kv_head"], as_index=False)["score"].max()
    return heads, kv_heads.rename(columns={"score": "max_score"})


def best(scores: pd.DataFrame) -> list[tuple[int, int]]:
    ranked = scores.sort_values("score", ascending=False)
    return [(int(layer), int(head)) for layer, head in zip(ranked["layer"], ranked["head"], strict=True)]


def test_what_is_written_for_other_tools_ranks_the_same_heads_when_read_back(tmp_path):
    heads, kv_heads = summaries()
    for name, text, wanted, kind in (
        ("copies.json", write_public_scores(samples(), "count_score"), best(heads), "count"),
        ("locos.json", write_locos_scores(samples(), "m"), best(heads), "locos"),
        ("qrhead.yaml", write_qrhead_set(heads, "count", "m"), best(heads), "order"),
    ):
        (tmp_path / name).write_text(text)
        read = read_heads(tmp_path / name)
        assert (read.kind, best(read.scores)) == (kind, wanted)
    for name, text in write_duo_pattern(kv_heads, "count", "m").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    read = read_heads(tmp_path / "duo_attention")
    kv = kv_heads.rename(columns={"kv_head": "head", "max_score": "score"})
    assert (read.kind, read.model, best(read.scores)) == ("gate", "m", best(kv))


def test_the_loaders_of_duo_attention_kvpress_headkv_and_locos_can_read_the_files(tmp_path):
    """What these tools do with the files, step by step, in our own words."""
    heads, kv_heads = summaries()
    files = write_duo_pattern(kv_heads.assign(max_score=kv_heads["max_score"] * 1.5), "count", "m")
    pattern = tmp_path / "full_attention_heads.tsv"
    pattern.write_text(files["duo_attention/full_attention_heads.tsv"])
    gates = np.clip(np.loadtxt(pattern, dtype=float, delimiter="\t"), 0, 1)
    wanted = kv_heads.pivot(index="layer", columns="kv_head", values="max_score").to_numpy() * 1.5
    np.testing.assert_array_equal(gates, np.clip(wanted, 0, 1))  # layers are lines, key-value heads are columns
    config = json.loads(files["duo_attention/config.json"])
    assert isinstance(config["sink_size"], int)
    assert isinstance(config["recent_size"], int)
    # HeadKV reads one line, and takes the means in the file's order for a matrix of layers and heads.
    first, *rest = write_public_scores(samples(), "count_score").split("\n")
    means = np.array([np.mean(values) for values in json.loads(first).values()])
    assert not rest
    np.testing.assert_allclose(means.reshape(3, 4), heads.pivot(index="layer", columns="head", values="score"))
    # LOCOS takes "scores" out of the envelope and the mean of each list that is not empty.
    scores = json.loads(write_locos_scores(samples(), "m"))["scores"]
    ranked = sorted(scores, key=lambda name: -sum(scores[name]) / len(scores[name]))
    assert ranked == [f"{layer}-{head}" for layer, head in best(heads)]


def test_a_run_leaves_these_files_and_compares_with_each(theirs, capsys):
    kind = theirs.experiment
    for name, definition in (
        ("head_score_set.json", "set"),
        ("head_score_count.json", "count"),
        ("locos_scores.json", "locos"),
        ("qrhead.yaml", "set and order, by rank"),
        ("duo_attention", "set and gate, by rank"),
    ):
        tables, figures = kind.compare({"run": theirs.tables, "file": kind.read_foreign(theirs.folder / name)})
        (pair,) = tables["pairs"].to_dict("records")
        assert pair["definition"] == definition
        assert pair["top_k_overlap"] == 1
        assert bool(np.isnan(pair["pearson"])) == definition.endswith("by rank")
        assert ("sparsity" in figures) == (definition != "locos")
    out = theirs.folder.parents[2]
    assert main(["compare", str(theirs.folder), str(theirs.folder / "duo_attention"), "--out", str(out)]) == 0
    assert "gate α (DuoAttention, 0 to 1, per key-value head)" in capsys.readouterr().out
    assert main(["compare", str(theirs.folder), str(out), "--out", str(out)]) == 2
    assert "holds no run.json" in capsys.readouterr().err


# ---------------------------------------------------------------------- side by side


def foreign(folder: Path, content: Any, name: str = "theirs.json") -> pd.DataFrame:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = RetrievalHeads().read_foreign(folder / name)
    assert found is not None
    return found["head_scores"]


def own(scores: list[float], *definitions: str) -> pd.DataFrame:
    heads = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "score": scores})
    heads = heads.assign(activation_frequency=0.5, n_samples=10)
    return pd.concat([heads.assign(definition=definition) for definition in definitions])


CONTRIBUTIONS = {"0-0": [-1.35], "0-1": [2.5], "1-0": [0.1], "1-1": [0.3]}


def compared(one: pd.DataFrame, two: pd.DataFrame, k: int = 2) -> dict[str, pd.DataFrame]:
    return compare_all({"one": {"head_scores": one}, "two": {"head_scores": two}}, "set", k)


def test_contributions_are_never_taken_for_copy_scores(tmp_path):
    tables = compared(own([0.4, 0.3, 0.2, 0.1], "set", "count"), foreign(tmp_path, CONTRIBUTIONS))
    (pair,) = tables["pairs"].to_dict("records")
    assert pair["definition"] == "set and signed, by rank"
    assert np.isnan(pair["pearson"])
    # Ranks 1 2 3 4 against 4 1 3 2: Σd² = 9 + 1 + 0 + 4, 1 − 6·14/60.
    assert pair["spearman"] == pytest.approx(-0.4)
    assert pair["top_k_overlap"] == 0.5
    assert set(tables["sparsity"]["run"]) == set(tables["activation"]["run"]) == {"one"}
    assert tables["sides"].set_index("run")["scores"].to_dict() == {
        "one": "copy score (set, 0 to 1)",
        "two": "contribution in logits (signed; the file names no method)",
    }


def test_contributions_of_one_method_meet_by_value(tmp_path):
    locos = foreign(tmp_path, {"meta": {"method": "logit_contribution"}, "scores": CONTRIBUTIONS})
    tables = compared(own([-1.35, 2.5, 0.1, 0.3], "set", "locos"), locos)
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["definition"], pair["pearson"]) == ("locos", pytest.approx(1))
    assert not len(tables["sparsity"])


def test_gates_meet_query_heads_and_lists_meet_the_top(tmp_path):
    ours = own([0.1, 0.2, 0.4, 0.3], "set")
    gates = foreign(tmp_path, "0.25\n0.75\n", "full_attention_heads.tsv")
    (pair,) = compared(ours, gates)["pairs"].to_dict("records")
    assert pair["same_shape"]
    # Ranks 1 2 4 3 against 1.5 1.5 3.5 3.5: covariance 4 over √(5 · 4).
    assert pair["spearman"] == pytest.approx(4 / np.sqrt(20))
    names = foreign(tmp_path, ["1-1", "0-0", "1-0"])
    (pair,) = compared(ours, names)["pairs"].to_dict("records")
    assert (pair["same_shape"], pair["k"], pair["top_k_overlap"]) == (False, 2, 0.5)
    assert np.isnan(pair["spearman"])
    (beyond,) = compared(ours, foreign(tmp_path, ["1-1", "7-0"]))["pairs"].to_dict("records")
    assert np.isnan(beyond["top_k_overlap"])  # a head that the model does not have
