"""Telling representative tokens from their vectors alone, without a picture: a linear rule, on items it was not fitted to.

Kaplan et al. 2025 report 92% precision (nearest neighbours, preprint) and 90% (one linear layer) on FLUX-schnell.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from interp.statistics import Array, resampled

FOLDS = 5
PENALTY = 1.0
"""Weight of half the squared length of the coefficients, beside the sum of the losses; vectors are standardised before."""
DRAWS = 1000


def fit_logistic(
    vectors: Float[np.ndarray, "token channel"], labels: Bool[np.ndarray, " token"], penalty: float = PENALTY
) -> Callable[[np.ndarray], Array]:
    """Returns a function from vectors to the log odds of the label, by ridge-penalised logistic regression.

    Channels are standardised by the vectors that are fitted; the intercept is not penalised.
    """
    from scipy.optimize import minimize

    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([(vectors - mean) / scale, np.ones(len(vectors))])
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (x @ weights)
        free = np.append(weights[:-1], 0.0)
        value = np.logaddexp(0.0, -margin).sum() + penalty / 2 * free @ free
        gradient = -(x * (sign / (1 + np.exp(margin)))[:, None]).sum(axis=0) + penalty * free
        return float(value), gradient

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda some: (some - mean) / scale @ weights[:-1] + weights[-1]


def out_of_fold(
    vectors: Float[np.ndarray, "token channel"], labels: Bool[np.ndarray, " token"], groups: Sequence[str], seed: int
) -> Float[np.ndarray, " token"]:
    """Returns each token's log odds from a rule fitted without its group; groups go to FOLDS folds at random.

    NaN where the fitted part holds one label only.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[index] % FOLDS
    scores = np.full(len(labels), np.nan)
    for number in np.unique(fold):
        left_out = fold == number
        if len(np.unique(labels[~left_out])) == 2:
            scores[left_out] = fit_logistic(vectors[~left_out], labels[~left_out])(vectors[left_out])
    return scores


def metrics(
    said: NDArray[np.bool_], scores: NDArray[Any], labels: NDArray[np.bool_]
) -> dict[str, Callable[[Array], Array]]:
    """Returns precision, recall, accuracy, auroc and base_rate as functions of weights [draw, token]."""

    def share(hits: np.ndarray, of: np.ndarray) -> Callable[[Array], Array]:
        def weighted(weights: Array) -> Array:
            total = weights @ of.astype(float)
            return np.divide(
                weights @ (hits & of).astype(float), total, out=np.full(len(total), np.nan), where=total > 0
            )

        return weighted

    everything = np.ones_like(labels)
    return {
        "precision": share(labels, said),
        "recall": share(said, labels),
        "accuracy": share(said == labels, everything),
        "auroc": lambda weights: weighted_auroc(scores, labels, weights),
        "base_rate": share(labels, everything),
    }


def weighted_auroc(scores: NDArray[Any], labels: NDArray[np.bool_], weights: Array) -> Array:
    """Returns the chance that a labelled token scores above an unlabelled one, ties half; weights [draw, token]; else NaN."""
    positive, negative = weights[:, labels], weights[:, ~labels]
    above = scores[labels][:, None] - scores[~labels][None, :]
    wins = (above > 0) + 0.5 * (above == 0)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = np.einsum("dp,pn,dn->d", positive, wins, negative)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def predictor_table(token_vectors: pd.DataFrame, subsets: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `predictor`: the linear rule and "the last token of an item", each left out by item and by last word.

    Items of one token say nothing about redundancy and are left out. Empty when all tokens are of one kind.
    """
    single = subsets[(subsets["n_kept"] == 1) & (subsets["n_item_tokens"] > 1)]
    place = single.assign(position=single["kept_positions"].astype(int))[["prompt_id", "position", "shows"]]
    tokens = token_vectors.merge(place, on=["prompt_id", "position"])
    if tokens["shows"].nunique() < 2:
        return pd.DataFrame()
    labels = tokens["shows"].to_numpy(dtype=bool)
    last_word = tokens["item_id"].str.split().str[-1]
    rows: list[dict[str, Any]] = []
    for left_out, groups in (("item", tokens["prompt_id"]), ("last_word", last_word)):
        scores = np.full(len(tokens), np.nan)
        for _, some in tokens.groupby("encoder"):  # encoders have channels of their own
            at = tokens.index.get_indexer(some.index)
            vectors = np.stack(list(some["vector"])).astype(float)
            scores[at] = out_of_fold(vectors, labels[at], list(groups.iloc[at]), seed)
        last = tokens["token_role"].isin(["last_token"]).to_numpy(dtype=float)
        for rule, some_scores, cut in (("linear", scores, 0.0), ("last_token", last, 0.5)):
            known = ~np.isnan(some_scores)
            if not known.any():
                continue
            measured = metrics(some_scores[known] > cut, some_scores[known], labels[known])
            for metric, statistic in measured.items():
                estimate = resampled(statistic, groups[known], draws=DRAWS, seed=seed)
                rows.append(
                    {
                        "model": tokens["model"].iloc[0],
                        "rule": rule,
                        "left_out": left_out,
                        "metric": metric,
                        **dict(zip(("estimate", "ci_low", "ci_high", "n_items"), estimate, strict=True)),
                        "n_tokens": int(known.sum()),
                    }
                )
    return pd.DataFrame(rows)
