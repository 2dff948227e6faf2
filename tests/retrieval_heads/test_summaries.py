"""Scores, intervals, reliability and stopping on tables small enough to work out by hand."""

import numpy as np
import pandas as pd
import pytest

from interp.tables import checked, empty
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.findings import find_all
from probes.retrieval_heads.rankings import (
    detection_totals,
    needles_until_stable,
    stability,
    summarise_convergence,
    summarise_reliability,
)
from probes.retrieval_heads.summaries import (
    bucket_shares,
    summarise_all,
    summarise_head_scores,
    summarise_kv_heads,
    summarise_needles,
    summarise_sparsity,
)
from probes.retrieval_heads.tables import SCHEMAS
from tests.retrieval_heads.hand_tables import FACTS, NO_ECHO, NOISE, TWO, measured, report, totals


def test_head_scores_are_means_over_samples_and_frequencies_count_samples_with_a_copy():
    table = summarise_head_scores(detection_totals(measured(TWO), only_passed=False), NO_ECHO, 2, 0)
    for definition, factor in (("set", 1), ("count", 2)):
        rows = table[table["definition"] == definition]
        assert list(zip(rows["layer"], rows["head"], rows["kv_head"], strict=True)) == [
            (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)
        ]  # fmt: skip
        assert rows["score"].tolist() == pytest.approx([factor * 0.5, 0, factor * 0.2 / 3, factor * 0.5])
        assert rows["activation_frequency"].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 1])
        assert set(rows["n_samples"]) == {3}
        assert set(rows["n_needles"]) == {2}


@pytest.mark.parametrize(
    ("sets", "low", "high"),
    [
        # Between needles all differs: 0.5 ± t · 0.5 / √3 of four, and no score is outside of 0 to 1. the 80 samples
        # the interval would be 0.5 ± 0.11.
        pytest.param({"abcd"[n]: [[float(n > 1)]] * 20 for n in range(4)}, 0, 1, id="all between needles"),
        # Within needles all differs: every draw of needles has the mean 0.5. That is no certainty: Wilson's interval of 2 of 4.
        pytest.param({"abcd"[n]: [[0.0], [1.0]] for n in range(4)}, 0.150039, 0.849961, id="all within needles"),
        pytest.param({"a": [[0.0], [1.0]]}, np.nan, np.nan, id="one needle tells nothing of others"),
    ],
)
def test_intervals_are_over_needles_not_samples(sets, low, high):
    row = summarise_head_scores({"set": totals(sets)}, NO_ECHO, 1, 0).iloc[0]
    assert row["score"] == 0.5
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([low, high], nan_ok=True)


def test_samples_weigh_the_same_whatever_their_needle():
    assert totals({"a": [[1.0]] * 3, "b": [[0.0]]}).means().tolist() == [0.75]
    assert totals({"a": [[1.0]] * 3, "b": [[0.0]]}).means(np.array([1.0, 3.0])).tolist() == [0.5]


def test_kv_heads_have_the_mean_and_the_maximum_of_their_query_heads():
    scores = pd.DataFrame({"layer": [0, 0, 0, 0, 1, 1], "head": [0, 1, 2, 3, 0, 1], "kv_head": [0, 0, 1, 1, 0, 0]})
    scores = scores.assign(score=[0.1, 0.5, 0.3, 0.3, 0.0, 0.2], definition="set", model="tiny")
    table = summarise_kv_heads(scores.sample(frac=1, random_state=1).sort_values("head"))
    assert table["mean_score"].tolist() == pytest.approx([0.3, 0.3, 0.1])
    assert table["max_score"].tolist() == [0.5, 0.3, 0.2]
    assert table["best_head"].tolist() == [1, 2, 1]  # of equals the first


def test_buckets_include_their_lower_edge():
    below = np.nextafter(np.array([0.1, 0.5]), 0)
    scores = np.array([0.0, 1e-9, below[0], 0.1, below[1], 0.5, 1.7, 0.0])
    assert bucket_shares(scores).tolist() == [2 / 8, 2 / 8, 2 / 8, 2 / 8]
    sparsity = summarise_sparsity({"set": totals(TWO)}, 0)
    assert sparsity["share"].tolist() == [0.25, 0.25, 0, 0.5]
    # Draws are aa, bb (a quarter each) and ab. Head 1-0 is at 0, at 0.2 and between; head 0-0 at 0.75, at 0 and at 0.5: two needles
    # leave everything open.
    assert sparsity["ci_low"].tolist() == pytest.approx([np.nan, np.nan, 0, 0], nan_ok=True)
    assert sparsity["ci_high"].tolist() == pytest.approx([np.nan, np.nan, 1, 1], nan_ok=True)


def test_halves_of_equal_needles_agree_and_halves_of_opposite_ones_do_not():
    same = summarise_reliability({"set": totals({n: [[0.9, 0.5, 0.2, 0.0]] for n in "abcdef"})}, 0)
    assert same[["pearson", "spearman", "spearman_scoring", "top10_overlap"]].to_numpy() == pytest.approx(1)
    assert set(same["n_scoring_heads"]) == {3}
    # Were the halves not disjoint, they would share a needle and agree.
    opposite = summarise_reliability({"set": totals({"a": [[0.0, 1, 2, 3]], "b": [[3.0, 2, 1, 0]]})}, 0)
    assert opposite[["pearson", "spearman"]].to_numpy() == pytest.approx(-1)
    noise = np.random.default_rng(0).random((8, 1, 120))
    noisy = summarise_reliability({"set": totals({f"{n}": noise[n].tolist() for n in range(8)})}, 0)
    assert noisy["spearman"].abs().median() < 0.15
    assert noisy["top10_overlap"].mean() < 0.3
    assert len(summarise_reliability({"set": totals({"a": [[1.0, 0.0]]})}, 0)) == 0


def test_convergence_follows_the_order_of_the_needles():
    # Means after one needle: 4 3 2 1; after two (three samples): 3 3.33 1.67 2.
    sets = {"a": [[4.0, 3, 2, 1], [4.0, 3, 2, 1]], "b": [[1.0, 4, 1, 4]]}
    table = summarise_convergence({"set": totals(sets)}, 1, 0)
    assert table["n_needles"].tolist() == [1, 2]
    assert table["n_samples"].tolist() == [2, 3]
    assert table["top_k_overlap_with_final"].tolist() == [0, 1]
    expected = np.corrcoef([4, 3, 2, 1], [9 / 3, 10 / 3, 5 / 3, 6 / 3])[0, 1]
    assert table["pearson_with_final"].tolist() == pytest.approx([expected, 1])
    assert np.isnan(table["stability"].iloc[0])


def test_stability_is_the_share_of_draws_that_keep_the_top():
    # The first head leads in the mean (0.5 and 0.25) and in the draws aa and ab; bb, a quarter of the draws, has the other.
    assert stability(totals({"a": [[1.0, 0]], "b": [[0, 0.5]]}), 2, 1, 0) == pytest.approx(0.75, abs=0.08)


CLEAR = {f"n{n:02d}": [[0.9, 0.8, 0.01 * (n % 2), 0.0]] for n in range(16)}


@pytest.mark.parametrize(
    ("sets", "n_measured", "needed"),
    [
        (CLEAR, 0, 4), (CLEAR, 3, 4), (CLEAR, 4, 4), (CLEAR, 16, 4),
        (NOISE, 3, 4), (NOISE, 4, 8), (NOISE, 7, 8), (NOISE, 9, 12), (NOISE, 16, 16),
    ],
)  # fmt: skip
def test_detection_stops_early_on_clear_heads_and_goes_on_for_noise(sets, n_measured, needed):
    so_far = dict(list(sets.items())[:n_measured])
    tables = measured(so_far) if so_far else {name: empty(schema) for name, schema in SCHEMAS.items()}
    assert needles_until_stable(tables, list(sets), "set", 2, 0.9, False, 0) == needed


def test_failed_samples_are_left_out_of_scores_and_told():
    tables = measured(TWO, failed=["a/1"])
    kept, everything = (detection_totals(tables, only_passed=only)["set"] for only in (True, False))
    assert kept.means().tolist() == pytest.approx([0.5, 0, 0.1, 0.5])
    assert (kept.n_samples, everything.n_samples) == (2, 3)
    recall = summarise_needles(tables["samples"])
    assert recall[["n_samples", "share_passed"]].to_numpy().tolist() == [[2, 0.5], [1, 1]]
    texts = report(RetrievalHeads(success_filter=True), tables, needle_recall=recall)
    assert texts[0].startswith(
        "2 of 4 heads (50.0%) have a set copy-paste score above 0.1, over 2 samples of 2 needles"
    )
    assert "1 of 3 samples were answered wrong; they are in the table and left out of the scores." in texts


@pytest.mark.parametrize("until_stable", [None, 2])
def test_a_run_in_which_no_answer_passed_says_why_it_is_empty(until_stable):
    tables = measured(TWO, failed=["a/0", "a/1", "b/0"], echo=[0.1, 0.2, 0.3, 0.4])
    settings = RetrievalHeads(success_filter=True, until_stable=until_stable)
    summary = summarise_all(settings, FACTS, tables)
    first = find_all(settings, {**tables, **summary})[0]
    assert first.kind == "warning"
    assert first.text.startswith("No head was scored: none of the 3 samples was answered right, and --success-filter")
    assert set(summary["head_scores"]["definition"]) == {"echo", "induction"}


@pytest.mark.parametrize(
    ("changes", "inputs"), [({}, {"locos": TWO, "echo": [0.1, 0.2, 0.3, 0.4]}), ({"until_stable": 9}, {})]
)
def test_every_summary_fits_its_schema_and_ends_at_its_own_final_top(changes, inputs):
    summary = summarise_all(RetrievalHeads(**changes), FACTS, measured(TWO, **inputs))
    for name, table in summary.items():
        checked(table.assign(model="tiny"), SCHEMAS[name])
    last = summary["convergence"].drop_duplicates("definition", keep="last")
    assert set(last["top_k_overlap_with_final"]) == {1}  # also when K is more than the model has heads
