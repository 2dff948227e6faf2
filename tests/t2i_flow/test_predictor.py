"""The linear rule against values by hand, and on vectors with a planted sign of representative tokens."""

import numpy as np
import pandas as pd
import pytest

from probes.t2i_flow.predictor import PENALTY, fit_rule, metrics, out_of_fold, predictor_table, weighted_auroc

ONES = np.ones((1, 4))


def test_the_fit_is_where_the_penalised_likelihood_is_flat():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(40, 3)), rng.random(40) < 0.4
    score = fit_rule(vectors, labels).log_odds
    x = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    odds = score(vectors)
    coefficients = np.linalg.lstsq(np.column_stack([x, np.ones(40)]), odds, rcond=None)[0]
    residual = labels - 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(x.T @ residual, PENALTY * coefficients[:3], atol=1e-3)
    assert residual.sum() == pytest.approx(0, abs=1e-3)  # the intercept is free


def test_auroc_counts_pairs_and_ties_half():
    labels = np.array([True, True, False, False])
    assert weighted_auroc(np.array([3.0, 1.0, 2.0, 1.0]), labels, ONES) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    twice = np.array([[2.0, 1.0, 1.0, 1.0]])
    assert weighted_auroc(np.array([3.0, 1.0, 2.0, 1.0]), labels, twice) == pytest.approx((2 + 2 + 0 + 0.5) / 6)
    assert np.isnan(weighted_auroc(np.ones(4), np.ones(4, dtype=bool), ONES)[0])


def test_precision_recall_and_accuracy_by_hand():
    said, labels = np.array([True, True, False, False]), np.array([True, False, True, False])
    found = {name: statistic(ONES)[0] for name, statistic in metrics(said, said.astype(float), labels).items()}
    assert found == {"precision": 0.5, "recall": 0.5, "accuracy": 0.5, "auroc": 0.5, "base_rate": 0.5}


def tokens(labelled_by: str, n_items: int = 30) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items of three tokens. The vectors say which is representative, or say nothing but which item they are of."""
    rng = np.random.default_rng(1)
    vectors, subsets = [], []
    for item in range(n_items):
        own = rng.normal(size=8)
        chosen = rng.integers(3)
        for place in range(3):
            vector = own + (np.eye(8)[0] * 8 * (place == chosen) if labelled_by == "vector" else 0)
            shared = {"model": "any", "prompt_id": f"i{item}", "item_id": f"red shape{item}"}
            kind = "last_token" if place == 2 else "last_word"
            vectors.append(
                {
                    **shared,
                    "encoder": "clip",
                    "position": place + 2,
                    "token": "t",
                    "token_role": kind,
                    "vector": list(vector),
                }
            )
            subsets.append(
                {**shared, "kept_positions": str(place + 2), "n_kept": 1, "n_item_tokens": 3, "shows": place == chosen}
            )
    return pd.DataFrame(vectors), pd.DataFrame(subsets)


def test_a_planted_sign_is_found_on_items_that_were_left_out():
    table = predictor_table(*tokens("vector"), seed=0).set_index(["left_out", "rule", "metric"])
    assert table.loc[("item", "linear", "auroc"), "estimate"] > 0.99
    assert table.loc[("item", "linear", "precision"), "estimate"] > 0.9
    assert table.loc[("item", "linear", "base_rate"), "estimate"] == pytest.approx(1 / 3)
    assert table.loc[("item", "last_token", "precision"), "estimate"] < 0.6
    assert (table["n_tokens"] == 90).all()


def test_vectors_that_only_tell_items_apart_predict_nothing():
    auroc = (
        predictor_table(*tokens("nothing"), seed=0)
        .set_index(["left_out", "rule", "metric"])
        .loc[("item", "linear", "auroc")]
    )
    assert auroc["ci_low"] < 0.55
    assert auroc["estimate"] < 0.65


def test_a_group_is_never_fitted_and_predicted_at_once():
    vectors = np.repeat(np.eye(10), 2, axis=0)  # a channel per group: it can be learnt by heart, not generalised
    labels = np.repeat(np.arange(10) % 2 == 0, 2)
    groups = [f"g{index}" for index in range(10) for _ in range(2)]
    assert ((out_of_fold(vectors, labels, groups, 0) > 0) == labels).mean() < 0.6
    assert ((fit_rule(vectors, labels).log_odds(vectors) > 0) == labels).all()


def test_tokens_of_one_kind_have_no_table():
    vectors, subsets = tokens("vector")
    assert not len(predictor_table(vectors, subsets.assign(shows=False), seed=0))
