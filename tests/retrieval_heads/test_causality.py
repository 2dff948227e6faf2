"""What masking did, from a table of answers small enough to work out by hand."""

import re

import numpy as np
import pandas as pd
import pytest

from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.rankings import detection_totals, summarise_reliability
from probes.retrieval_heads.summaries import summarise_ablation
from tests.retrieval_heads.hand_tables import TWO, measured, report

# Recall of two questions: 1 and 0.8 unchanged; 0.2 and 0.4 without the top heads; without random ones 1 or 0.6, 0.8 or 0.4.
ABLATION = pd.DataFrame(
    [
        (condition, k, draw, needle, recall, prose)
        for condition, k, draw, answers in (
            ("random", 2, 1, ((0.6, 3.1), (0.4, 3.4))),
            ("none", 0, 0, ((1.0, 3.0), (0.8, 3.2))),
            ("top", 2, 0, ((0.2, 3.5), (0.4, 3.3))),
            ("random", 2, 0, ((1.0, 3.1), (0.8, 3.2))),
            ("random", 1, 0, ((0.0, 9.0), (0.0, 9.0))),  # another K, another mode and phase: no control of the top 2
            ("random", -2, 0, ((0.0, 9.0), (0.0, 9.0))),
        )
        for needle, (recall, prose) in zip("pq", answers, strict=True)
    ],
    columns=["condition", "k", "draw", "needle_id", "recall", "prose_surprisal_nats"],
)
ABLATION = ABLATION.assign(
    k=ABLATION["k"].abs(),
    mode=np.where(ABLATION["k"] < 0, "mean", "zero"),
    phase=np.where(ABLATION["k"] < 0, "both", "decode"),
    ranking=ABLATION["condition"].map({"none": "none"}).fillna("set"),
    sample_id=ABLATION["needle_id"] + "/0",
    literal=ABLATION["needle_id"] == "p",
)


@pytest.mark.parametrize("order", [0, 1])
def test_ablation_differences_pair_the_same_question(order):
    table = summarise_ablation(ABLATION.sample(frac=1, random_state=order), 0)
    rows = (
        table[(table["k"] != 1) & (table["mode"] == "zero")].set_index(["needles", "outcome", "condition"]).sort_index()
    )
    top = rows.loc[("all", "recall", "top")]
    assert top[["mean", "lost", "beyond_random"]].tolist() == pytest.approx([0.3, 0.6, 0.4])
    # Per needle: lost 0.8 and 0.4; beyond random (draws averaged first: 0.8 and 0.6) 0.6 and 0.2.
    # Of two needles the interval is the mean ± 12.7 · 0.2, no further than a difference of shares can go.
    assert top[["lost_ci_low", "lost_ci_high"]].tolist() == pytest.approx([-1, 1])
    assert top[["beyond_random_ci_low", "beyond_random_ci_high"]].tolist() == pytest.approx([-1, 1])
    assert rows.loc[("all", "recall", "random"), ["mean", "lost", "n_draws"]].tolist() == pytest.approx([0.7, 0.2, 2])
    # The unchanged model loses nothing against itself by definition, so there is nothing uncertain about it.
    assert rows.loc[
        ("all", "recall", "none"), ["mean", "lost", "lost_ci_low", "lost_ci_high"]
    ].tolist() == pytest.approx([0.9, 0, 0, 0])
    # Prose: 0.5 and 0.1 more than unchanged; random heads add 0.1 and 0.1.
    prose = rows.loc[("all", "prose_surprisal_nats", "top"), ["mean", "lost", "beyond_random"]]
    assert prose.tolist() == pytest.approx([3.4, 0.3, 0.2])
    assert rows.loc[("literal", "recall", "top"), ["lost", "n_needles"]].tolist() == pytest.approx([0.8, 1])
    assert rows.loc[("non-literal", "recall", "top"), ["lost", "lost_ci_low"]].tolist() == pytest.approx(
        [0.4, np.nan], nan_ok=True
    )


def test_the_report_says_what_masking_did():
    summary = summarise_ablation(ABLATION, 0)
    texts = " ".join(report(RetrievalHeads(), measured(TWO), ablation=ABLATION, ablation_summary=summary))
    assert "takes recall on 2 held-out needles from 0.90 to 0.30; as many random heads" in texts
    assert re.search(r"leave 0\.70 \(0\.\d\d to 0\.\d\d by draw\)\.", texts)
    assert (
        "Recall lost beyond random masking: +40 points [-100, +100] (not shown: the interval contains 0); prose"
        in texts
    )


def test_a_ranking_of_ties_is_told_of_and_no_sentence_holds_nan():
    """Heads that copy nothing are ranked all the same, in the order of layers; halves of their scores have no correlation."""
    summary = summarise_ablation(ABLATION, 0)
    nothing = measured({name: [[0.0] * 4] * 2 for name in "abcdef"})
    splits = summarise_reliability(detection_totals(nothing, only_passed=False), 0)
    for tables, warned in ((nothing, True), (measured(TWO), False)):
        texts = report(RetrievalHeads(), tables, ablation=ABLATION, ablation_summary=summary, reliability=splits)
        assert any("of the set copy-paste score ends among 4 heads" in text for text in texts) == warned
        assert not [text for text in texts if re.search(r"\bnan\b", text)]


def test_a_random_draw_that_takes_as_much_away_is_told_of():
    """Many needles that all lose with the top heads, and as much with one of two random draws: the mean of the draws is no bar."""
    for strongest, warned in ((0.3, True), (0.5, False)):
        recalls = [("none", 0, 0, 0.9), ("top", 2, 0, 0.3), ("random", 2, 0, strongest), ("random", 2, 1, 0.9)]
        rows = [(*one[:3], f"n{index}", one[3], 3.0) for one in recalls for index in range(12)]
        ablation = pd.DataFrame(rows, columns=["condition", "k", "draw", "needle_id", "recall", "prose_surprisal_nats"])
        ablation = ablation.assign(mode="zero", phase="decode", sample_id=ablation["needle_id"], literal=True)
        ablation["ranking"] = ablation["condition"].map({"none": "none"}).fillna("set")
        summary = summarise_ablation(ablation, 0)
        texts = report(RetrievalHeads(), measured(TWO), ablation=ablation, ablation_summary=summary)
        assert len([text for text in texts if "random draws takes as much recall away" in text]) == warned, texts


@pytest.mark.parametrize(("at_the_end", "warned"), [(0.1, True), (0.26, False), (0.4, False)])
def test_the_report_says_when_recall_still_falls_at_the_largest_k(at_the_end, warned):
    """Recall .9 unmasked, .3 with the top 2 and then some with the top 4: does the last step of the grid take much away?"""
    more = ABLATION[(ABLATION["k"] == 2) & (ABLATION["mode"] == "zero")].assign(k=4)
    more.loc[more["condition"] == "top", "recall"] = at_the_end
    summary = summarise_ablation(pd.concat([ABLATION, more]), 0)
    settings, tables = RetrievalHeads(), measured(TWO)
    falling = [text for text in report(settings, tables, ablation_summary=summary) if "levelled off" in text]
    assert len(falling) == warned
    if warned:
        assert falling == [
            "Recall has not levelled off at the largest k: 0.30 with 2 heads masked, 0.10 with 4 of 4. Add larger values to --k before "
            "saying how many heads the model needs."
        ]
    one_k = summarise_ablation(ABLATION, 0)
    assert "levelled off" not in " ".join(report(settings, tables, ablation_summary=one_k))


@pytest.mark.parametrize(("scores", "warned"), [((0.9, 0.5, 0.0, 0.1), False), ((0.9, 0.1, 0.1, 0.0), True)])
def test_the_report_says_when_the_masked_heads_were_dealt_among_equals(scores, warned):
    texts = report(RetrievalHeads(), measured({"a": [scores]}), ablation_summary=summarise_ablation(ABLATION, 0))
    told = [text for text in texts if "same score" in text]
    assert told == warned * [
        "The top 2 of the set copy-paste score ends among 2 heads with the same score, 0.1: those of the first layers were taken."
    ]


def test_the_report_gives_no_interval_where_one_needle_gave_none():
    summary = summarise_ablation(ABLATION[ABLATION["needle_id"] == "p"], 0)
    texts = " ".join(report(RetrievalHeads(), measured({"a": TWO["a"]}), ablation_summary=summary))
    assert "Strongest heads (layer-head): 0-0 0.75, 1-1 0.50, " in texts
    assert (
        "random masking: +60 points (not shown: there is no interval); prose surprisal changes by 0.500 nats." in texts
    )
    assert "nan" not in texts


@pytest.mark.parametrize(("n_scoring", "told"), [(9, False), (10, True)])
def test_a_top_10_that_fewer_heads_score_in_is_not_told(n_scoring, told):
    halves = pd.DataFrame(
        {
            "definition": "set",
            "split": [0, 1],
            "pearson": 0.5,
            "spearman": 0.6,
            "spearman_scoring": 0.7,
            "top10_overlap": 0.9,
        }
    )
    text = " ".join(report(RetrievalHeads(), measured(TWO), reliability=halves.assign(n_scoring_heads=n_scoring)))
    assert ("90% of the top 10 in common (over 2 splits)" in text) == told
    assert ("with no top 10 to compare, as fewer heads score (over 2 splits)" in text) == (not told)


@pytest.mark.parametrize(("until", "warned"), [(3, False), (4, True)])
def test_a_top_that_is_filled_up_with_heads_of_no_score_is_said_to_seem_stable(until, warned):
    curve = pd.DataFrame({"definition": "set", "n_needles": [1], "n_samples": [1], "stability": [0.95]})
    tables = measured({"a": [(0.9, 0.5, 0.0, 0.1)]})
    text = " ".join(report(RetrievalHeads(until_stable=until), tables, convergence=curve))
    assert ("Only 3 heads score above 0, so the top 4 is filled up" in text) == warned
