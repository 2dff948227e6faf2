"""How alike states are, which words they hold, and which tokens retrieve which. Mathematics alone, without a model."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Vectors = Float[np.ndarray, "text residual"]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of length 1; a vector of zeros stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def cosines(
    vectors: Vectors, first: Sequence[int], second: Sequence[int], *, centred: bool
) -> Float[np.ndarray, " pair"]:
    """Returns the cosine of every pair of texts; `centred` takes the mean over all texts off first."""
    found = unit(vectors - vectors.mean(axis=0) if centred else vectors)
    return (found[list(first)] * found[list(second)]).sum(axis=1)


def anisotropy(vectors: Vectors) -> float:
    """Returns the mean cosine of two different texts taken at random: 0 where directions are used evenly, 1 where all are one."""
    found, n = unit(vectors), len(vectors)
    return float((np.square(found.sum(axis=0)).sum() - n) / (n * (n - 1)))


# ---------------------------------------------------------------------- words from states

PENALTIES = np.logspace(-2, 5, 15)
INTERCEPT = 1e4
"""Weight of a constant feature, beside the mean squared length of the others."""


def ridge(
    train: Float[np.ndarray, "text residual"],
    targets: Float[np.ndarray, "text word"],
    test: Float[np.ndarray, "other residual"],
) -> Float[np.ndarray, "other word"]:
    """Returns ridge regression's predictions; the penalty has the least leave-one-out error on the training texts.

    Features are standardised. The intercept is fitted (all but) without a penalty, also to the texts that are left when one is left
    out: with features centred once and for all, the others would tell where that one is. In the dual form, so that it costs texts
    cubed and not features cubed.
    """
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1)
    a, b = (train - centre) / scale, (test - centre) / scale
    mean = targets.mean(axis=0)
    gram = a @ a.T
    intercept = INTERCEPT * max(float(np.trace(gram)) / len(a), 1e-12)
    scale_of = max(float(np.linalg.eigvalsh(gram)[-1]) / len(a), 1e-12)
    values, vectors = np.linalg.eigh(gram + intercept)
    turned = vectors.T @ (targets - mean)
    best: tuple[float, float] = (np.inf, PENALTIES[0])
    for penalty in PENALTIES * scale_of:
        shrunk = 1 / (np.maximum(values, 0) + penalty)
        residuals = vectors @ (shrunk[:, None] * turned)  # (K + λ)⁻¹ y
        diagonal = (vectors**2 @ shrunk)[:, None]
        best = min(best, (float(np.square(residuals / diagonal).mean()), float(penalty)))
    dual = vectors @ (turned / (np.maximum(values, 0) + best[1])[:, None])
    return b @ (a.T @ dual) + intercept * dual.sum(axis=0) + mean


def ndcg(scores: Float[np.ndarray, "text word"], holds: Float[np.ndarray, "text word"]) -> Float[np.ndarray, " text"]:
    """Returns how high each text's own words stand in the ranking of all words, from 0 to 1 (NaN for a text without any).

    Discounted cumulative gain over the whole ranking, over that of the best ranking; equal scores in the order of the words.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    discounts = 1 / np.log2(np.arange(2, scores.shape[1] + 2))
    gained = (np.take_along_axis(holds, order, axis=1) * discounts).sum(axis=1)
    ideal = np.concatenate([[0.0], discounts.cumsum()])[holds.sum(axis=1).astype(int)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(ideal > 0, gained / ideal, np.nan)


# ---------------------------------------------------------------------- tokens that retrieve tokens


def first_ranks(similarity: Float[np.ndarray, "query token"], is_gold: np.ndarray) -> Int[np.ndarray, " query"]:
    """Returns the rank, from 1 on, of the best gold token for each query token; ties are counted against it."""
    best = similarity[:, is_gold].max(axis=1, keepdims=True)
    return 1 + (similarity[:, ~is_gold] >= best).sum(axis=1)


def late_scores(
    similarity: Float[np.ndarray, "query token"], documents: Int[np.ndarray, " token"], k: int | None, missing: str
) -> Float[np.ndarray, " document"]:
    """Returns the score of every document: the mean over query tokens of its best token's similarity.

    With k only the k best tokens of all documents count for a query token (arXiv:2304.01982); where a document has none of them
    it gets the k-th best similarity (`missing` "imputed") or 0 ("zero"). Without k this is plain MaxSim.
    """
    n = int(documents.max()) + 1
    best = np.full((len(similarity), n), -np.inf)
    if k is None or k >= similarity.shape[1]:
        np.maximum.at(best.T, documents, similarity.T)
        return best.mean(axis=0)
    found = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(similarity, found, axis=1)
    rows = np.arange(len(similarity))[:, None]
    np.maximum.at(best, (np.broadcast_to(rows, found.shape), documents[found]), values)
    filling = values.min(axis=1, keepdims=True) if missing == "imputed" else 0.0
    return np.where(np.isinf(best), filling, best).mean(axis=0)


def rank_of(scores: Float[np.ndarray, " document"], gold: int) -> float:
    """Returns the rank of a document, from 1 on; ties at their mean rank."""
    return 1 + float((scores > scores[gold]).sum()) + float((scores == scores[gold]).sum() - 1) / 2


def chance_reciprocal(n_documents: int) -> float:
    """Returns the mean of 1/rank when every rank is as likely."""
    return float((1 / np.arange(1, n_documents + 1)).mean())
