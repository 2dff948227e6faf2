"""Prediction loss by the classes of the current and the next token, beside what a bigram model leaves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.function_tokens.token_classes import CONTENT, FUNCTION

SWEEP = (0.2, 0.3, 0.4, 0.5)
"""Thresholds of the sweep, beside the run's own."""


class Bigrams:
    """A bigram model with Witten–Bell interpolation, counted in texts that are not measured.

    p(b | a) = (c(ab) + T(a) p(b)) / (c(a) + T(a)), T(a) the number of distinct tokens after a; p(b) with one added to every count.
    """

    def __init__(self, texts: Sequence[Sequence[int]], n_ids: int) -> None:
        self.n_ids = n_ids
        joined = [np.asarray(text, dtype=np.int64) for text in texts]
        current = np.concatenate([text[:-1] for text in joined])
        following = np.concatenate([text[1:] for text in joined])
        self._pairs, self._counts = np.unique(current * n_ids + following, return_counts=True)
        self._before = np.bincount(current, minlength=n_ids)
        self._distinct = np.bincount(self._pairs // n_ids, minlength=n_ids)
        counts = np.bincount(np.concatenate(joined), minlength=n_ids) + 1.0
        self._unigram = counts / counts.sum()

    def surprisal(self, current: NDArray[np.int64], following: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns −ln p(following | current) in nats."""
        wanted = current * self.n_ids + following
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        count = np.where(self._pairs[place] == wanted, self._counts[place], 0)
        distinct = self._distinct[current]
        total = self._before[current] + distinct
        interpolated = (count + distinct * self._unigram[following]) / np.maximum(total, 1)
        return -np.log(np.where(total > 0, interpolated, self._unigram[following]))


def pair_table(
    current: NDArray[np.int64],
    following: NDArray[np.int64],
    loss: NDArray[np.float64],
    bigram: NDArray[np.float64],
    document: NDArray[np.int64],
    function_ids: NDArray[np.int64],
) -> pd.DataFrame:
    """Returns sums per document and pair of classes: of predictions, their losses and bigram losses (in nats).

    The class pair of a prediction is (class of the token it is made at, class of the token that comes next).
    """
    names = np.array([FUNCTION, CONTENT])
    frame = pd.DataFrame(
        {
            "document": document,
            "current_class": names[(~np.isin(current, function_ids)).astype(int)],
            "next_class": names[(~np.isin(following, function_ids)).astype(int)],
            "n": np.ones(len(loss), dtype=np.int64),
            "loss_sum_nats": np.asarray(loss, dtype=np.float64),
            "bigram_sum_nats": np.asarray(bigram, dtype=np.float64),
        }
    )
    return frame.groupby(["document", "current_class", "next_class"], as_index=False).sum()


def summarise_losses(table: pd.DataFrame, model: str, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Returns `pair_losses`: mean loss, frequency and share of the total per class pair and threshold, intervals over documents."""
    from interp.statistics import Estimate, bounded, cluster_weights, percentile_interval

    rows = []
    for threshold, part in table.groupby("threshold"):
        sums = part.pivot_table(
            index="document",
            columns=["current_class", "next_class"],
            values=["n", "loss_sum_nats", "bigram_sum_nats"],
            aggfunc="sum",
            fill_value=0,
        )
        documents = len(sums)
        weights = np.vstack([np.ones(documents), cluster_weights(documents, draws, seed)])
        n, loss, bigram = (weights @ sums[name].to_numpy() for name in ("n", "loss_sum_nats", "bigram_sum_nats"))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "mean_loss_nats": loss / n,
                "frequency": n / n.sum(axis=1, keepdims=True),
                "loss_share": loss / loss.sum(axis=1, keepdims=True),
                "above_bigram_nats": (loss - bigram) / n,
            }
        for column, pair in enumerate(sums["n"].columns):
            row = {"model": model, "threshold": threshold, "current_class": pair[0], "next_class": pair[1]}
            row["n"], row["n_documents"] = int(n[0, column]), documents
            row["bigram_nats"] = bigram[0, column] / n[0, column]
            for name, values in found.items():
                low, high = percentile_interval(values[1:, column])
                estimate = Estimate(float(values[0, column]), float(low), float(high), documents)
                if name in ("frequency", "loss_share"):
                    estimate = bounded(estimate)
                row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"] = estimate[:3]
            rows.append(row)
    return pd.DataFrame(rows)
