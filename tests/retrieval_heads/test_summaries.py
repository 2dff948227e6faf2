"""Statistics over heads, samples and needles on tables small enough to work out by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.models.head_sets import layer_matched
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.tables import checked, empty
from probes.retrieval_heads.ablation import plan_conditions
from probes.retrieval_heads.agreement import summarise_agreement
from probes.retrieval_heads.causality import summarise_ablation
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.findings import find_all
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.plan import deal_cells, default_ks, split_needles
from probes.retrieval_heads.rankings import rankings_of
from probes.retrieval_heads.results import summarise_all
from probes.retrieval_heads.stopping import needles_until_stable
from probes.retrieval_heads.summarise import (
    NeedleTotals,
    bucket_shares,
    detection_totals,
    stability,
    summarise_convergence,
    summarise_head_scores,
    summarise_kv_heads,
    summarise_needles,
    summarise_reliability,
    summarise_sparsity,
)
from probes.retrieval_heads.tables import SCHEMAS

Scores = Mapping[str, Sequence[Sequence[float]]]
"""By needle, for each sample the score of every head; the heads are 0-0, 0-1, 1-0, 1-1, … ."""
NO_ECHO = pd.DataFrame({"layer": [], "head": [], "kv_head": [], "echo": [], "induction": []})


def measured(sets: Scores, *, failed: Sequence[str] = (), locos: Scores | None = None, echo: Sequence[float] = ()):
    """The measured tables of those set scores; count scores are twice as large. Samples are named "needle/number"."""

    def long(scores: Scores, column: str) -> list[dict]:
        return [
            {"needle_id": needle, "sample_id": f"{needle}/{n}", "layer": i // 2, "head": i % 2, column: value}
            for needle, samples in scores.items()
            for n, sample in enumerate(samples)
            for i, value in enumerate(sample)
        ]

    names = [(needle, f"{needle}/{n}", True) for needle, samples in sets.items() for n in range(len(samples))]
    names += [(needle, f"{needle}/none", False) for needle in sets]
    samples = pd.DataFrame(names, columns=["needle_id", "sample_id", "has_needle"])
    passed = samples["has_needle"] & ~samples["sample_id"].isin(failed)
    scores = pd.DataFrame(long(sets, "set_score"))
    heads = np.arange(len(echo))
    echoes = {"draw": 0, "layer": heads // 2, "head": heads % 2, "kv_head": 0, "echo": echo, "induction": echo[::-1]}
    contributions = pd.DataFrame(long(locos, "score")) if locos else empty(SCHEMAS["logit_contribution"])
    return {
        "samples": samples.assign(literal=True, passed=passed, recall=passed.astype(float), near_ties=0),
        "sample_head_scores": scores.assign(count_score=2 * scores["set_score"]),
        "logit_contribution": contributions.assign(definition="locos"),
        "echo_induction": pd.DataFrame(echoes) if echo else empty(SCHEMAS["echo_induction"]),
        "ablation": empty(SCHEMAS["ablation"]),
    }


def totals(sets: Scores) -> NeedleTotals:
    return detection_totals(measured(sets), only_passed=False)["set"]


def report(settings: RetrievalHeads, tables: dict, **summaries: pd.DataFrame) -> list[str]:
    """The report's sentences, from the head scores and those summaries alone."""
    totals = detection_totals(tables, only_passed=settings.success_filter)
    scores = summarise_head_scores(totals, NO_ECHO, 2, "tiny", 0)
    nothing = {name: empty(schema) for name, schema in SCHEMAS.items()}
    found = find_all(settings, {**nothing, **tables, "head_scores": scores, **summaries})
    return [finding.text for finding in found]


FACTS = ModelFacts(ModelIdentity("tiny", "tests", "0", "float32"), "llama", HeadGeometry(2, 2, 1, 8), 512)
TWO = {"a": [[1.0, 0, 0, 0.5], [0.5, 0, 0, 0.5]], "b": [[0, 0, 0.2, 0.5]]}
"""Three samples of two needles; the heads' means are 1.5/3, 0, 0.2/3 and 1.5/3."""


def test_head_scores_are_means_over_samples_and_frequencies_count_samples_with_a_copy():
    table = summarise_head_scores(detection_totals(measured(TWO), only_passed=False), NO_ECHO, 2, "tiny", 0)
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
        # Between needles all differs: the chance to draw four zeros of 0 0 1 1 is 1/16, more than the tail of 2.5 %.
        # Over the 80 samples the interval would be 0.5 ± 0.11.
        pytest.param({"abcd"[n]: [[float(n > 1)]] * 20 for n in range(4)}, 0, 1, id="all between needles"),
        # Within needles all differs: every draw of needles has the mean 0.5. Over 8 samples it would be 0.5 ± 0.35.
        pytest.param({"abcd"[n]: [[0.0], [1.0]] for n in range(4)}, 0.5, 0.5, id="all within needles"),
        pytest.param({"a": [[0.0], [1.0]]}, np.nan, np.nan, id="one needle tells nothing of others"),
    ],
)
def test_intervals_are_over_needles_not_samples(sets, low, high):
    row = summarise_head_scores({"set": totals(sets)}, NO_ECHO, 1, "tiny", 0).iloc[0]
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
    sparsity = summarise_sparsity({"set": totals(TWO)}, "tiny", 0)
    assert sparsity["share"].tolist() == [0.25, 0.25, 0, 0.5]
    # Draws are aa, bb (a quarter each) and ab. Head 1-0 is at 0, at 0.2 and between; head 0-0 at 0.75, at 0 and at 0.5.
    assert sparsity["ci_low"].tolist() == pytest.approx([np.nan, np.nan, 0, 0.25], nan_ok=True)
    assert sparsity["ci_high"].tolist() == pytest.approx([np.nan, np.nan, 0.25, 0.5], nan_ok=True)


def test_halves_of_equal_needles_agree_and_halves_of_opposite_ones_do_not():
    same = summarise_reliability({"set": totals({n: [[0.9, 0.5, 0.2, 0.0]] for n in "abcdef"})}, "tiny", 0)
    assert same[["pearson", "spearman", "spearman_scoring", "top10_overlap"]].to_numpy() == pytest.approx(1)
    assert set(same["n_scoring_heads"]) == {3}
    # Were the halves not disjoint, they would share a needle and agree.
    opposite = summarise_reliability({"set": totals({"a": [[0.0, 1, 2, 3]], "b": [[3.0, 2, 1, 0]]})}, "tiny", 0)
    assert opposite[["pearson", "spearman"]].to_numpy() == pytest.approx(-1)
    noise = np.random.default_rng(0).random((8, 1, 120))
    noisy = summarise_reliability({"set": totals({f"{n}": noise[n].tolist() for n in range(8)})}, "tiny", 0)
    assert noisy["spearman"].abs().median() < 0.15
    assert noisy["top10_overlap"].mean() < 0.3
    assert len(summarise_reliability({"set": totals({"a": [[1.0, 0.0]]})}, "tiny", 0)) == 0


def test_convergence_follows_the_order_of_the_needles():
    # Means after one needle: 4 3 2 1; after two (three samples): 3 3.33 1.67 2.
    sets = {"a": [[4.0, 3, 2, 1], [4.0, 3, 2, 1]], "b": [[1.0, 4, 1, 4]]}
    table = summarise_convergence({"set": totals(sets)}, 1, "tiny", 0)
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
NOISE = {f"n{n:02d}": [row.tolist()] for n, row in enumerate(np.random.default_rng(1).random((16, 40)))}


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
    recall = summarise_needles(tables["samples"], "tiny")
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
        checked(table, SCHEMAS[name])
    last = summary["convergence"].drop_duplicates("definition", keep="last")
    assert set(last["top_k_overlap_with_final"]) == {1}  # also when K is more than the model has heads


def test_samples_without_a_contribution_do_not_count_for_it():
    nothing = [np.nan] * 4
    locos = {"a": [[3.0, 0, 0, -1], nothing], "b": [nothing]}
    found = detection_totals(measured(TWO, locos=locos), only_passed=False)
    assert found["locos"].means().tolist() == [3, 0, 0, -1]
    assert (found["locos"].n_samples, found["locos"].needle_ids) == (1, ["a"])
    assert (found["set"].n_samples, found["set"].needle_ids) == (3, ["a", "b"])
    assert "locos" not in detection_totals(measured(TWO, locos={"a": [nothing]}), only_passed=False)


def test_rankings_put_equal_heads_in_layer_order():
    rankings = rankings_of(measured(TWO, echo=[0.1, 0.3, 0.2, 0.3]), only_passed=False)
    assert rankings["set"] == rankings["count"] == [(0, 0), (1, 1), (1, 0), (0, 1)]
    assert rankings["echo"] == [(0, 1), (1, 1), (1, 0), (0, 0)]
    assert rankings["induction"] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert set(rankings_of(measured(TWO), only_passed=False)) == {"set", "count"}


def test_agreement_is_rank_correlation_and_overlap_with_intervals_over_needles():
    pair = {"set": totals({n: [[0.4, 0.3, 0.2, 0.1]] for n in "abc"})}
    fixed = {"echo": np.array([0.9, 0.3, 0.1, 0.2]), "induction": np.array([0.9, 0.3, 0.2, 0.1])}
    rows = summarise_agreement(pair, fixed, k=3, model="tiny", seed=0).set_index(["first", "second"])
    # Ranks 1 2 3 4 against 1 2 4 3: 1 − 6·2 / (4·15) = 0.8.
    assert rows["spearman"].tolist() == pytest.approx([0.8, 1.0, 0.8])
    assert rows["top_k_overlap"].tolist() == pytest.approx([2 / 3, 1, 2 / 3])
    limits = ["spearman_ci_low", "spearman_ci_high"]
    assert rows.loc[("set", "echo"), limits].tolist() == pytest.approx([0.8, 0.8])
    assert rows.loc[("echo", "induction"), limits].isna().all()  # nothing to resample
    assert rows["n_needles"].tolist() == [3, 3, 0]
    # Two names for one detector agree in every draw, however noisy: both are resampled by the same needles.
    twins = {name: totals(dict(list(NOISE.items())[:3])) for name in ("set", "count")}
    (twin,) = summarise_agreement(twins, {}, k=3, model="tiny", seed=0).to_dict("records")
    assert [twin["spearman_ci_low"], twin["top_k_overlap_ci_low"]] == pytest.approx([1, 1])


def test_a_detector_that_is_the_same_for_every_head_agrees_with_none():
    flat = {"set": totals({n: [[0.0] * 4] for n in "abc"})}
    row = summarise_agreement(flat, {"echo": np.array([0.9, 0.3, 0.1, 0.2])}, k=2, model="tiny", seed=0).iloc[0]
    assert row[["spearman", "spearman_ci_low", "spearman_ci_high"]].isna().all()


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
    table = summarise_ablation(ABLATION.sample(frac=1, random_state=order), "tiny", 0)
    rows = (
        table[(table["k"] != 1) & (table["mode"] == "zero")].set_index(["needles", "outcome", "condition"]).sort_index()
    )
    top = rows.loc[("all", "recall", "top")]
    assert top[["mean", "lost", "beyond_random"]].tolist() == pytest.approx([0.3, 0.6, 0.4])
    # Per needle: lost 0.8 and 0.4; beyond random (draws averaged first: 0.8 and 0.6) 0.6 and 0.2.
    assert top[["lost_ci_low", "lost_ci_high"]].tolist() == pytest.approx([0.4, 0.8])
    assert top[["beyond_random_ci_low", "beyond_random_ci_high"]].tolist() == pytest.approx([0.2, 0.6])
    assert rows.loc[("all", "recall", "random"), ["mean", "lost", "n_draws"]].tolist() == pytest.approx([0.7, 0.2, 2])
    assert rows.loc[("all", "recall", "none"), ["mean", "lost"]].tolist() == pytest.approx([0.9, 0])
    # Prose: 0.5 and 0.1 more than unchanged; random heads add 0.1 and 0.1.
    prose = rows.loc[("all", "prose_surprisal_nats", "top"), ["mean", "lost", "beyond_random"]]
    assert prose.tolist() == pytest.approx([3.4, 0.3, 0.2])
    assert rows.loc[("literal", "recall", "top"), ["lost", "n_needles"]].tolist() == pytest.approx([0.8, 1])
    assert rows.loc[("non-literal", "recall", "top"), ["lost", "lost_ci_low"]].tolist() == pytest.approx(
        [0.4, np.nan], nan_ok=True
    )


def test_the_report_says_what_masking_did():
    summary = summarise_ablation(ABLATION, "tiny", 0)
    texts = " ".join(report(RetrievalHeads(), measured(TWO), ablation_summary=summary))
    assert "takes recall on 2 held-out needles from 0.90 to 0.30; as many random heads" in texts
    assert "leave 0.70." in texts
    assert "That is 40 points more recall lost than by random masking [20, 60]" in texts
    assert "prose surprisal changes by 0.300 nats [0.100, 0.500]." in texts


@pytest.mark.parametrize("seed", [0, 1])
def test_needles_are_split_into_disjoint_halves_the_same_way_every_time(seed):
    finding, held_out = split_needles(RetrievalHeads(seed=seed, held_out_share=0.3))
    assert len(held_out) == round(0.3 * len(read_needles()))
    assert sum(not needle.literal for needle in held_out) == len(held_out) // 2
    ids = [needle.id for needle in finding + held_out]
    assert sorted(ids) == sorted(needle.id for needle in read_needles())
    assert (finding, held_out) == split_needles(RetrievalHeads(seed=seed, held_out_share=0.3))
    assert held_out != split_needles(RetrievalHeads(seed=seed + 1, held_out_share=0.3))[1]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(1, 12), st.integers(0, 9))
def test_every_cell_is_dealt_equally_often(n_lengths, n_depths, per_needle, n_needles, seed):
    lengths, depths = tuple(range(100, 100 + n_lengths)), tuple(n / n_depths for n in range(n_depths))
    settings = RetrievalHeads(context_tokens=lengths, depths=depths, samples_per_needle=per_needle, seed=seed)
    hands = deal_cells(settings, n_needles)
    dealt = Counter(cell for hand in hands for cell in hand)
    grid = {(length, depth) for length in lengths for depth in depths}
    assert {len(set(hand)) for hand in hands} == {min(per_needle, len(grid))}
    assert set(dealt) <= grid
    assert max(dealt.values()) - min(dealt[cell] for cell in grid) <= 1
    assert hands == deal_cells(settings, n_needles)


@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=12), st.integers(0, 99))
def test_random_heads_match_the_layers_of_the_top_and_exclude_it(top, key):
    per_layer = Counter(layer for layer, _ in top)
    if 2 * len(top) > 8 * len(per_layer):
        with pytest.raises(ValueError, match=f"{len(top)} heads leave too few others"):
            layer_matched(sorted(top), 8, (key,))
        return
    drawn = layer_matched(sorted(top), 8, (key,))
    assert len(set(drawn)) == len(drawn) == len(top)
    assert not set(drawn) & top
    assert {layer for layer, _ in drawn} <= set(per_layer)
    assert all(0 <= head < 8 for _, head in drawn)
    if max(per_layer.values()) <= 4:  # each layer has others enough
        assert Counter(layer for layer, _ in drawn) == per_layer
    assert drawn == layer_matched(sorted(top), 8, (key,))


def test_a_full_layer_borrows_from_the_nearest_and_draws_differ_by_key():
    # Of 4 heads layer 0 has one other and needs three; two come from layer 2, the nearest; layer 9 is untouched by that.
    borrowed = layer_matched([(0, 0), (0, 1), (0, 2), (2, 0), (9, 0)], 4, (0,))
    assert Counter(layer for layer, _ in borrowed) == {0: 1, 2: 3, 9: 1}
    assert len({layer_matched([(0, 0), (1, 1)], 30, (key,)) for key in range(20)}) > 10
    drawn = Counter(head for key in range(600) for _, head in layer_matched([(0, 0)], 4, (key,)))
    assert set(drawn) == {1, 2, 3}
    assert min(drawn.values()) > 150  # 200 each are expected


def test_conditions_are_no_change_the_top_and_its_controls_and_the_other_rankings():
    rankings = {"set": [(0, 0), (1, 3), (1, 2)], "echo": [(2, 2), (2, 3), (0, 1)]}
    conditions = plan_conditions(
        rankings, "set", ks=(2, 1, 2), modes=("zero", "mean"), phases=("decode", "both"), random_draws=3, other_k=2,
        n_heads=6, seed=0,
    )  # fmt: skip
    kinds = Counter((c.condition, c.ranking, c.k) for c in conditions)
    per_setting = {("top", "set", 1): 4, ("top", "set", 2): 4, ("random", "set", 1): 12, ("random", "set", 2): 12}
    assert kinds == {("none", "none", 0): 1, **per_setting, ("top", "echo", 2): 1}
    for c in conditions:
        assert len(c.heads) == c.k
        if c.condition == "top":
            assert c.heads == tuple(rankings[c.ranking][: c.k])
        if c.condition == "random":
            assert [layer for layer, _ in c.heads] == [0, 1][: c.k]
            assert not set(c.heads) & set(rankings["set"][: c.k])
    draws = {(c.draw, c.heads) for c in conditions if c.condition == "random" and c.k == 2}
    assert len(draws) == 3  # one set of heads per draw, the same in every mode and phase
    assert len({heads for _, heads in draws}) > 1


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "ks"),
    [(1, 4, (1,)), (1, 10, (2,)), (5, 5, (2, 5)), (10, 10, (2, 5, 10, 20)), (25, 10, (2, 5, 10, 20, 30, 50))],
)
def test_the_default_numbers_of_heads_stop_at_a_fifth(n_layers, n_heads, ks):
    assert default_ks(HeadGeometry(n_layers, n_heads, 1, 8)) == ks
