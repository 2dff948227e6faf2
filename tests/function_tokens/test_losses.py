"""Pair losses against a table made by hand, and the bigram model against its formula."""

import numpy as np
import pandas as pd
import pytest

from probes.function_tokens.measure import Bigrams, pair_table
from probes.function_tokens.summaries import summarise_losses


def test_pair_losses_by_hand():
    # Token 0 is a function token. The pairs: f→c 2.0, c→f .5, f→f 1.0 in the first text; f→c 4.0, c→c 3.0 in the second.
    current, following = np.array([0, 5, 0, 0, 7]), np.array([5, 0, 0, 6, 7])
    loss, document = np.array([2.0, 0.5, 1.0, 4.0, 3.0]), np.array([0, 0, 0, 1, 1])
    table = pair_table(current, following, loss, loss + 1, document, np.array([0])).assign(threshold=0.4)
    summary = summarise_losses(table, draws=50).set_index(["current_class", "next_class"])
    assert summary["n"].to_dict() == {
        ("function", "content"): 2,
        ("content", "function"): 1,
        ("function", "function"): 1,
        ("content", "content"): 1,
    }
    assert summary.at[("function", "content"), "mean_loss_nats"] == pytest.approx(3.0)
    assert summary.at[("function", "content"), "loss_share"] == pytest.approx(6 / 10.5)
    assert summary.at[("content", "function"), "frequency"] == pytest.approx(0.2)
    assert summary["above_bigram_nats"].tolist() == pytest.approx([-1.0] * 4)
    assert summary.at[("content", "content"), "bigram_nats"] == pytest.approx(4.0)


def test_the_weighted_mean_of_the_classes_is_the_overall_loss():
    generator = np.random.default_rng(0)
    current, following = generator.integers(0, 50, (2, 5000))
    loss = generator.gamma(2, 1, 5000)
    table = pair_table(current, following, loss, loss, generator.integers(0, 9, 5000), np.arange(12))
    summary = summarise_losses(table.assign(threshold=0.4), draws=20)
    assert summary["n"].sum() == 5000
    assert (summary["mean_loss_nats"] * summary["frequency"]).sum() == pytest.approx(loss.mean(), abs=1e-9)
    assert summary["loss_share"].sum() == pytest.approx(1.0)


def test_intervals_resample_texts():
    rows = [("function", "content", 10, 10.0 * mean, document) for document, mean in enumerate([1.0, 1.0, 5.0, 5.0])]
    table = pd.DataFrame(rows, columns=["current_class", "next_class", "n", "loss_sum_nats", "document"])
    summary = summarise_losses(table.assign(bigram_sum_nats=0.0, threshold=0.4), draws=4000).iloc[0]
    assert summary["mean_loss_nats"] == 3.0
    # Four texts: t of three degrees of freedom times the standard error, √(16/3) / 2.
    half = 3.182446 * np.sqrt(16 / 3) / 2
    interval = (summary["mean_loss_nats_ci_low"], summary["mean_loss_nats_ci_high"])
    assert interval == pytest.approx((3 - half, 3 + half), abs=0.15)
    one = summarise_losses(table[table["document"] == 0].assign(bigram_sum_nats=0.0, threshold=0.4)).iloc[0]
    assert np.isnan(one["mean_loss_nats_ci_low"])


def test_bigram_surprisal_by_hand():
    bigrams = Bigrams([[0, 1, 0, 1, 0, 2], [1, 2]], 4)
    # After 0: 1 twice, 2 once (T=2 of 3). Unigram with one added: 4, 4, 3, 1 of 12.
    expected = [(2 + 2 * 4 / 12) / 5, (1 + 2 * 3 / 12) / 5, (0 + 2 * 1 / 12) / 5, 4 / 12]
    found = np.exp(-bigrams.surprisal(np.array([0, 0, 0, 3]), np.array([1, 2, 3, 0])))
    assert found == pytest.approx(expected)
    every = np.exp(-bigrams.surprisal(np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4))).reshape(4, 4)
    assert every.sum(axis=1) == pytest.approx([1, 1, 1, 1])
