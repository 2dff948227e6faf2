"""A whole run on a model whose one copy head is known: the run must find it, show that it matters, and say so."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import GPT2LMHeadModel

from interp.errors import UserError
from interp.experiments.run import Run, open_run
from interp.models.loading.language import load, look_up
from interp.statistics import Estimate, bounded
from interp.tables import checked
from probes.retrieval_heads.comparison import read_public_scores
from probes.retrieval_heads.conditions import Condition
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.plan import AblationUnit, split_needles
from probes.retrieval_heads.rankings import stability
from probes.retrieval_heads.tables import SCHEMAS
from tests.planted import COPY_HEAD, N_HEADS, N_LAYERS, NEEDLE_TOKENS, needle_line, news, write_files
from tests.retrieval_heads.test_paths import eager_scores

SET_SCORE = (NEEDLE_TOKENS - 1) / NEEDLE_TOKENS
AGREED = bounded(Estimate(SET_SCORE, SET_SCORE, SET_SCORE, 6))
"""All six needles agree, which is no certainty: Wilson's interval."""
SAID = f"{AGREED.value:.2f} [{AGREED.ci_low:.2f}, {AGREED.ci_high:.2f}]"
"""All tokens of a needle are copied but its first, "Answer:", which the model never writes: 10 of 11."""
NAME = "{}-{}".format(*COPY_HEAD)
QUICK: dict[str, Any] = dict(samples_per_needle=2, k=(1,), random_draws=2, other_k=3, echo_repeats=2)
"""Settings of the runs that only one test needs."""


def settings(folder: Path, needles: list[dict[str, str]], *, window: int = 1024, **changes: Any) -> RetrievalHeads:
    files = write_files(folder, needles, window=window)
    return RetrievalHeads(
        model=str(files.model),
        needles=files.needles,
        haystack=files.haystack,
        **dict(
            dict(context_tokens=(48, 96), ablation_context_tokens=(64,), max_new_tokens=16, echo_block_tokens=24),
            **changes,
        ),
    )


@pytest.fixture(scope="module", autouse=True)
def closed_vocabulary() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.retrieval_heads.stimuli.news_articles", news)
        # Fewer random draws, for speed alone: what is tested here is the same in every draw.
        patch.setattr("probes.retrieval_heads.rankings.STABILITY_DRAWS", 20)
        patch.setattr("probes.retrieval_heads.rankings.SPLITS", 20)
        patch.setattr("probes.retrieval_heads.rankings.stability", partial(stability, draws=50))
        yield


def run(experiment: RetrievalHeads, folder: Path) -> Run:
    return experiment.run(out=folder / "runs", device="cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("planted")
    grid = dict(depths=(0.0, 0.5, 1.0), samples_per_needle=6, held_out_share=0.25)  # every needle in every cell
    masks = dict(k=(1,), random_draws=8, other_k=3, ablation_modes=("zero", "uniform", "mean"))
    return run(settings(folder, [needle_line(index) for index in range(8)], **grid, **masks), folder)


def scores(run: Run, definition: str = "set") -> pd.Series:
    table = run.tables["head_scores"]
    return table[table["definition"] == definition].set_index(["layer", "head"])["score"]


def test_the_planted_model_answers_every_needle_and_only_from_the_context(found):
    samples = found.tables["samples"]
    asked = samples[samples["has_needle"]]
    assert len(asked) == 6 * 2 * 3  # needles that find heads × lengths × depths
    assert (asked["generated_text"] == asked["gold_text"] + ".").all()
    assert (asked["recall"] == 1).all()
    assert (samples.loc[~samples["has_needle"], "generated_text"] == ".").all()
    assert set(zip(asked["context_tokens"], asked["depth_fraction"], strict=True)) == {
        (tokens, depth) for tokens in (48, 96) for depth in (0.0, 0.5, 1.0)
    }
    assert (asked["prompt_token_ids"].map(len) == asked["context_tokens"]).all()


def test_the_planted_head_scores_what_it_copies_and_no_other_head_does(found):
    table = found.tables["head_scores"]
    planted = table[(table["layer"] == COPY_HEAD[0]) & (table["head"] == COPY_HEAD[1])].set_index("definition")
    assert planted["score"]["set"] == pytest.approx(SET_SCORE)
    assert planted["score"]["count"] == pytest.approx(1)  # each of the answer's nine tokens once
    assert planted["activation_frequency"]["set"] == planted["activation_frequency"]["count"] == 1
    assert (planted["ci_low"]["set"], planted["ci_high"]["set"]) == pytest.approx(AGREED[1:3])
    for definition in ("set", "count"):
        others = scores(found, definition).drop(COPY_HEAD)
        assert len(others) == N_LAYERS * N_HEADS - 1
        assert others.max() < 0.1
    sparsity = found.tables["sparsity"].query("definition == 'set'").set_index("bucket")["share"]
    assert sparsity["≥0.5"] == pytest.approx(1 / 12)
    assert sparsity["0.1–0.5"] == 0


def test_every_detector_but_echo_ranks_the_planted_head_first(found):
    for definition in ("set", "count", "locos", "direct", "induction"):
        assert scores(found, definition).idxmax() == COPY_HEAD, definition
    assert scores(found, "echo").idxmax() != COPY_HEAD


def test_scores_can_be_computed_again_from_the_stored_tokens_with_eager_attention(found):
    hf = GPT2LMHeadModel.from_pretrained(found.experiment.model, attn_implementation="eager").eval()
    samples = found.tables["samples"].query("has_needle").set_index("sample_id")
    wanted = found.tables["sample_head_scores"].set_index(["sample_id", "layer", "head"])
    assert len(wanted) == len(samples) * N_LAYERS * N_HEADS
    for sample_id, sample in samples.iterrows():
        for (layer, head), expected in eager_scores(hf, sample).items():
            assert wanted.loc[(sample_id, layer, head), list(expected)].to_dict() == expected
    ties = found.tables["sample_head_scores"].groupby("sample_id")["near_ties"].sum()
    assert (samples["near_ties"] == ties.loc[samples.index]).all()


@pytest.mark.parametrize("mode", ["zero", "uniform", "mean"])
def test_masking_the_planted_head_destroys_recall_and_masking_its_neighbours_does_not(found, mode):
    table = found.tables["ablation"]
    assert (table.loc[table["condition"] == "none", "recall"] == 1).all()
    rows = table[(table["mode"] == mode) & (table["ranking"] == "set")]
    top, random = rows[rows["condition"] == "top"], rows[rows["condition"] == "random"]
    assert (top["heads"] == NAME).all()
    assert (top["recall"] == 0).all()
    assert len(random) == 8 * len(top)
    assert set(random["heads"]) <= {"1-0", "1-1", "1-3"}
    assert (random["recall"] == 1).all()
    assert not set(table["needle_id"]) & set(found.tables["samples"]["needle_id"])

    summary = found.tables["ablation_summary"]
    summary = summary[(summary["mode"] == mode) & (summary["ranking"] == "set") & (summary["condition"] == "top")]
    recall = summary[(summary["outcome"] == "recall") & (summary["needles"] == "all")].iloc[0]
    assert (recall["mean"], recall["lost"], recall["beyond_random"]) == (0, 1, 1)
    assert set(summary["needles"]) == {"all", "literal", "non-literal"}


def test_the_findings_name_the_head_and_state_what_masking_did(found):
    text = " ".join(finding.text for finding in found.experiment.findings(found.tables))
    assert f"Strongest heads (layer-head, 95% interval over needles): {NAME} {SAID}" in text
    assert "1 of 12 heads (8.3%)" in text
    assert "from 1.00 to 0.00; as many random heads of the same layers leave 1.00" in text
    table = found.tables["ablation"].query("mode == 'zero' and (condition == 'none' or ranking == 'set')")
    prose = table.groupby(["condition", "sample_id"])["prose_surprisal_nats"].mean().groupby("condition").mean()
    stated = re.search(r"prose surprisal changes by ([+-]?\d+\.\d{3}) nats", text)
    assert stated
    assert float(stated[1]) == pytest.approx(prose["top"] - prose["none"], abs=6e-4)


def test_tables_figures_and_report_of_a_run_are_whole(found):
    assert set(found.tables) == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        table = checked(found.tables[name], schema)
        assert len(table) or name == "thoughts", name  # nothing was thought
    assert {"head_map", "ranked_scores", "sparsity", "activation", "needle_grid", "ablation"} <= set(found.figures)
    for name, figure in found.figures.items():
        assert len(figure.data), name
        assert (found.folder / "figures" / f"{name}.html").is_file()
    report = (found.folder / "report.html").read_text(encoding="utf-8")
    assert f"{NAME} {SAID}" in report
    assert open_run(found.folder).experiment == found.experiment


@pytest.mark.parametrize("definition", ["set", "count"])
def test_the_public_file_holds_the_same_scores_and_compares_as_equal(found, definition):
    path = found.folder / f"head_score_{definition}.json"
    public = read_public_scores(path).groupby(["layer", "head"])["score"].mean()
    pd.testing.assert_series_equal(public, scores(found, definition), atol=1e-6, check_index_type=False)
    tables, figures = found.experiment.compare({"run": found.tables, "file": found.experiment.read_foreign(path)})
    pair = tables["pairs"].iloc[0]
    assert pair["same_shape"]
    assert figures
    if definition == "count":  # what a public file is taken to hold
        assert pair["pearson"] == pytest.approx(1, abs=1e-9)
        for name in ("sparsity", "activation"):
            run, file = (side.drop(columns="run") for _, side in tables[name].groupby("run", sort=False))
            pd.testing.assert_frame_equal(run.reset_index(drop=True), file.reset_index(drop=True))


def test_detection_stops_once_the_top_head_is_stable(tmp_path, found):
    needles = [needle_line(index) for index in range(10)]
    experiment = settings(tmp_path, needles, until_stable=1, held_out_share=0.1, **QUICK)
    stopped = run(experiment, tmp_path)
    measured = stopped.tables["samples"].query("has_needle")["needle_id"].unique()
    assert len(split_needles(experiment)[0]) == 9
    assert list(measured) == [needle.id for needle in split_needles(experiment)[0][:4]]
    assert scores(stopped).idxmax() == scores(found).idxmax() == COPY_HEAD
    text = " ".join(finding.text for finding in experiment.findings(stopped.tables))
    assert "Detection stopped after 4 needles (8 samples): 100% of the bootstrap draws" in text


def test_a_needle_that_cannot_be_found_is_counted_and_left_out_only_by_the_filter(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    options = dict(success_filter=True, held_out_share=0.2, **QUICK)
    lost = split_needles(settings(tmp_path / "first", [needle_line(index) for index in range(5)], **options))[0][1].id
    lines = [needle_line(index, answerable=f"needle-{index}" != lost) for index in range(5)]
    experiment = settings(tmp_path / "second", lines, **options)
    done = run(experiment, tmp_path)
    samples = done.tables["samples"].query("has_needle")
    assert set(samples.loc[~samples["passed"], "needle_id"]) == {lost}
    assert set(done.tables["sample_head_scores"]["needle_id"]) == set(samples["needle_id"])  # looked at all the same

    facts = look_up(experiment.model, device="cpu")
    unfiltered = replace(experiment, success_filter=False)
    everything = {**done.tables, **unfiltered.summarise(facts, done.tables)}
    for settled, tables, needles, fate in (
        (experiment, done.tables, 3, "left out of the scores"),
        (unfiltered, everything, 4, "scored like the others"),
    ):
        planted = tables["head_scores"].query("definition == 'set'").set_index(["layer", "head"]).loc[COPY_HEAD]
        assert (planted["n_samples"], planted["n_needles"]) == (2 * needles, needles)
        assert planted["score"] == pytest.approx(SET_SCORE * 3 / needles)  # the lost needle's samples score 0
        warnings = [finding.text for finding in settled.findings(tables) if finding.kind == "warning"]
        assert any("2 of 8 samples were answered wrong" in text and fate in text for text in warnings)


def test_a_model_without_contributions_is_refused_in_a_sentence_and_scored_without_them(tmp_path, monkeypatch):
    def no_sum(*_: Any) -> None:
        raise UserError("its logits are no sum of what the heads write")

    lines = [needle_line(index) for index in range(4)]
    whole = run(settings(tmp_path / "whole", lines, **QUICK), tmp_path)
    monkeypatch.setattr("interp.models.check.ways.contributions", no_sum)
    monkeypatch.setattr("interp.models.check.check.kept_verdicts", lambda *_: None)
    monkeypatch.setattr("interp.models.check.check.keep_verdicts", lambda *_: None)
    asked = settings(tmp_path / "without", lines, **QUICK)
    with pytest.raises(UserError, match=r"no sum of what the heads write.*--no-contributions"):
        run(asked, tmp_path / "b")
    without = run(replace(asked, contributions=False), tmp_path / "b")
    for name in ("set", "count", "echo", "induction"):
        pd.testing.assert_series_equal(scores(without, name), scores(whole, name))
    assert not {"locos", "direct"} & set(without.tables["head_scores"]["definition"])
    assert not len(without.tables["logit_contribution"])
    assert not set(without.tables["ablation"]["ranking"]) & {"locos", "direct"}


@pytest.fixture(scope="module")
def unanswered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("unanswered")
    lines = [needle_line(index, answerable=False) for index in range(4)]
    return run(settings(folder, lines, success_filter=True, **QUICK), folder)


def test_a_run_in_which_no_sample_passes_ends_and_says_why(unanswered):
    assert unanswered.description["status"] == "done"
    assert len(unanswered.tables["samples"]) == 3 * (2 + 1)  # three needles find heads; each has a control
    assert not unanswered.tables["samples"]["passed"].any()
    first = unanswered.experiment.findings(unanswered.tables)[0]
    assert first.kind == "warning"
    assert first.text.startswith("No head was scored: none of the 6 samples was answered right")
    assert first.text in (unanswered.folder / "report.html").read_text(encoding="utf-8")


def test_a_run_without_ablation_has_empty_tables_not_missing_ones(unanswered):
    assert set(unanswered.tables) == set(SCHEMAS)
    assert not len(unanswered.tables["ablation"])
    assert not len(unanswered.tables["ablation_summary"])


def test_mean_masking_works_where_the_window_is_shorter_than_the_calibration_text(tmp_path):
    experiment = settings(tmp_path, [needle_line(index) for index in range(2)], window=256, ablation_modes=("mean",))
    conditions = (
        Condition("none", "none", 0, "mean", "decode", 0, ()),
        Condition("top", "set", 1, "mean", "decode", 0, (COPY_HEAD,)),
    )
    model = load(experiment.model, device="cpu")
    table = experiment.measure(model, AblationUnit("held-out", "needle-0", conditions))["ablation"]
    assert table.set_index("condition")["recall"].to_dict() == {"none": 1, "top": 0}
