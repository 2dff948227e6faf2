"""Detectors side by side: which samples count for each, its ranking, and how far two agree."""

import numpy as np
import pytest

from probes.retrieval_heads.rankings import detection_totals, rankings_of, summarise_agreement
from tests.retrieval_heads.hand_tables import NOISE, TWO, measured, totals


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
    rows = summarise_agreement(pair, fixed, k=3, seed=0).set_index(["first", "second"])
    # Ranks 1 2 3 4 against 1 2 4 3: 1 − 6·2 / (4·15) = 0.8.
    assert rows["spearman"].tolist() == pytest.approx([0.8, 1.0, 0.8])
    assert rows["top_k_overlap"].tolist() == pytest.approx([2 / 3, 1, 2 / 3])
    limits = ["spearman_ci_low", "spearman_ci_high"]
    assert rows.loc[("set", "echo"), limits].tolist() == pytest.approx([0.8, 0.8])
    assert rows.loc[("echo", "induction"), limits].isna().all()  # nothing to resample
    assert rows["n_needles"].tolist() == [3, 3, 0]
    # Two names for one detector agree in every draw, however noisy: both are resampled by the same needles.
    twins = {name: totals(dict(list(NOISE.items())[:3])) for name in ("set", "count")}
    (twin,) = summarise_agreement(twins, {}, k=3, seed=0).to_dict("records")
    assert twin["spearman_ci_low"] == pytest.approx(1)
    # The overlap is a share, so all of it is not certain: n / (n + z²) with three needles and z = 1.959964.
    assert (twin["top_k_overlap_ci_low"], twin["top_k_overlap_ci_high"]) == pytest.approx((3 / 6.841459, 1), abs=1e-6)


def test_a_detector_that_is_the_same_for_every_head_agrees_with_none():
    flat = {"set": totals({n: [[0.0] * 4] for n in "abc"})}
    row = summarise_agreement(flat, {"echo": np.array([0.9, 0.3, 0.1, 0.2])}, k=2, seed=0).iloc[0]
    assert row[["spearman", "spearman_ci_low", "spearman_ci_high"]].isna().all()
