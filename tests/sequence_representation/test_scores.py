"""Correlations, regressions and rankings, against scipy, a direct solution and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interp.agreement import weighted_ranks, weighted_spearman
from probes.sequence_representation.scores import (
    anisotropy,
    chance_reciprocal,
    cosines,
    first_ranks,
    late_scores,
    ndcg,
    rank_of,
    ridge,
)
from probes.sequence_representation.summaries import correlation
from probes.sequence_representation.words import held, held_out

RANDOM = np.random.default_rng(3)


def test_weights_count_rows_as_if_they_were_repeated() -> None:
    x, y = RANDOM.integers(0, 6, 30), RANDOM.integers(0, 4, 30)  # many ties
    weights = RANDOM.integers(0, 4, (5, 30)).astype(float)
    for draw, found in zip(weights, weighted_spearman(x, y, weights), strict=True):
        repeated = draw.astype(int)
        a, b = np.repeat(x, repeated), np.repeat(y, repeated)
        assert found == pytest.approx(stats.spearmanr(a, b).statistic)
        ranks = weighted_ranks(x, draw[None])[0]
        assert np.repeat(ranks, repeated) == pytest.approx(stats.rankdata(a))
    assert np.isnan(weighted_spearman([1, 1, 1], [1, 2, 3], np.ones((1, 3))))[0]


def test_a_partial_correlation_is_that_of_what_is_left_of_the_ranks() -> None:
    rows = pd.DataFrame({"grade": RANDOM.normal(size=60), "length_difference": RANDOM.normal(size=60)})
    rows["cosine"] = rows["length_difference"] + 0.3 * rows["grade"] + 0.1 * RANDOM.normal(size=60)
    ranks = rows.rank()

    def left(column: str) -> np.ndarray:
        fit = stats.linregress(ranks["length_difference"], ranks[column])
        return ranks[column] - fit.intercept - fit.slope * ranks["length_difference"]

    wanted = np.corrcoef(left("cosine"), left("grade"))[0, 1]
    found = correlation(rows, np.ones((1, 60)), column="cosine", held="length_difference")
    assert found[0] == pytest.approx(wanted)


def test_ridge_is_the_direct_solution_with_the_penalty_that_leaves_out_best() -> None:
    x, other = RANDOM.normal(size=(20, 50)), RANDOM.normal(size=(4, 50))
    y = x[:, :3] + 0.1 * RANDOM.normal(size=(20, 3))
    found = ridge(x, y, other)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    a, b = (x - mean) / deviation, (other - mean) / deviation
    scale = np.linalg.eigvalsh(a @ a.T).max() / len(a)

    def direct(train: np.ndarray, targets: np.ndarray, test: np.ndarray, penalty: float) -> np.ndarray:
        return test @ np.linalg.solve(train.T @ train + penalty * np.eye(50), train.T @ targets)

    centred = y - y.mean(axis=0)
    errors = {}
    for penalty in np.logspace(-2, 5, 15) * scale:
        missed = []
        for i in range(20):
            rest, targets = np.delete(a, i, 0), np.delete(centred, i, 0)
            middle = rest.mean(axis=0)
            fitted = direct(rest - middle, targets - targets.mean(axis=0), a[i : i + 1] - middle, penalty)[0]
            missed.append(centred[i] - fitted - targets.mean(axis=0))
        errors[penalty] = np.square(missed).mean()
    best = min(errors, key=errors.__getitem__)
    assert found == pytest.approx(direct(a, centred, b, best) + y.mean(axis=0), abs=1e-3)


def test_words_are_found_in_states_that_hold_them_and_not_in_others() -> None:
    y = (RANDOM.random((80, 15)) < 0.2).astype(float)
    fold = np.arange(80) % 4
    planted = y @ RANDOM.normal(size=(15, 30))
    assert np.nanmean(ndcg(held_out(planted, y, fold), y)) > 0.98
    assert np.nanmean(ndcg(held_out(RANDOM.normal(size=(80, 30)), y, fold), y)) < 0.65


def test_states_that_hold_nothing_are_shrunk_to_nothing() -> None:
    """Where features are many and hold no word, predictions are means: no ranking is lost to noise."""
    y = (RANDOM.random((60, 40)) < 0.1).astype(float)
    noise, other = RANDOM.normal(size=(60, 300)), RANDOM.normal(size=(20, 300))
    assert np.abs(ridge(noise, y, other) - y.mean(axis=0)).max() < 0.02


def test_ndcg_by_hand() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]])
    holds = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = ndcg(scores, holds)
    assert found[:2] == pytest.approx([1.0, 1 / np.log2(4)])
    assert np.isnan(found[2])


def test_halves_of_a_sentence_hold_their_own_words() -> None:
    texts = ["red blue green grey"] * 3
    assert held(texts, "all").sum(axis=1).tolist() == [4, 4, 4]
    first, second = held(texts, "first"), held(texts, "second")
    assert (first + second == held(texts, "all")).all()
    assert first.sum(axis=1).tolist() == [2, 2, 2]


def test_tokens_that_retrieve_by_hand() -> None:
    similarity = np.array([[0.9, 0.1, 0.5, 0.2], [0.3, 0.8, 0.7, 0.6]])
    documents = np.array([0, 0, 1, 2])
    assert late_scores(similarity, documents, None, "zero") == pytest.approx([0.85, 0.6, 0.4])
    assert late_scores(similarity, documents, 2, "imputed") == pytest.approx([0.85, 0.6, (0.5 + 0.7) / 2])
    assert late_scores(similarity, documents, 2, "zero") == pytest.approx([0.85, 0.6, 0.0])
    assert late_scores(similarity, documents, 99, "zero") == pytest.approx([0.85, 0.6, 0.4])
    assert first_ranks(similarity, documents == 1).tolist() == [2, 2]
    two = np.array([[0.9, 0.1, 0.5, 0.2], [0.1, 0.3, 0.5, 0.2]])
    assert first_ranks(two, documents == 0).tolist() == [1, 2]  # the better of its tokens counts
    assert first_ranks(np.ones((1, 4)), documents == 0).tolist() == [3]  # ties count against it
    assert rank_of(np.array([0.5, 0.5, 0.1]), 0) == 1.5
    assert chance_reciprocal(2) == pytest.approx(0.75)


def test_cosines_and_the_cone_that_all_states_are_in() -> None:
    vectors = RANDOM.normal(size=(7, 5)) + 3
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    every = unit @ unit.T
    assert anisotropy(vectors) == pytest.approx(every[~np.eye(7, dtype=bool)].mean())
    assert cosines(vectors, [0, 1], [2, 3], centred=False) == pytest.approx([every[0, 2], every[1, 3]])
    moved = cosines(vectors + 100, [0, 1], [2, 3], centred=True)
    assert moved == pytest.approx(cosines(vectors, [0, 1], [2, 3], centred=True))
