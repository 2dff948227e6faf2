"""What is computed from tokens, probabilities and states, without a model."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Seen = Literal["new", "again", "recall"]
_RIDGE = 1.0


def seen_before(ids: Sequence[int]) -> list[Seen]:
    """Returns for every token whether it is new in the text, was there before, or was there behind the same token (a recall hit).

    A recall hit is what copying behind a repeated beginning could predict (the AR hits of Zoology, arXiv:2312.04927).
    """
    tokens: set[int] = set()
    pairs: set[tuple[int, int]] = set()
    found: list[Seen] = []
    for place, id in enumerate(ids):
        pair = (ids[place - 1] if place else -1, id)
        found.append("recall" if pair in pairs else "again" if id in tokens else "new")
        tokens.add(id)
        pairs.add(pair)
    return found


def derangement(n: int, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Returns a random cycle through n places, so that no place keeps its own. Raises ValueError for fewer than two."""
    if n < 2:
        raise ValueError("one place has no other to change with")
    order = generator.permutation(n)
    found = np.empty(n, dtype=int)
    found[order] = np.roll(order, 1)
    return found


def frame_effect(nats: Float[np.ndarray, "frame test"]) -> float:
    """Returns how much likelier a word is where the test wants what the frame said than elsewhere, in nats.

    The matrix holds ln P of the word for every part of speech of the frame and of the test. The mean of the diagonal minus that of
    the rest: what a frame, or a test, does to every word alike cancels.
    """
    n = len(nats)
    own = np.eye(n, dtype=bool)
    return float(nats[own].mean() - nats[~own].mean())


def word_effect(nats: Float[np.ndarray, "word test"], classes: Int[np.ndarray, " word"]) -> Float[np.ndarray, " word"]:
    """Returns for each known word how much likelier it is where a test wants its own part of speech, in nats.

    ln P of every word for every test, less the test's mean over words: of every class's mean alike, so that their numbers do not count.
    """
    n = nats.shape[1]
    means = np.stack([nats[classes == of].mean(axis=0) for of in range(n)]).mean(axis=0)
    centred = nats - means
    own = np.eye(n, dtype=bool)[classes]
    return centred[own] - np.where(own, 0.0, centred).sum(axis=1) / (n - 1)


def readout(
    train: Float[np.ndarray, "row residual"],
    labels: Int[np.ndarray, " row"],
    test: Float[np.ndarray, "tested residual"],
    n_classes: int,
) -> Int[np.ndarray, " tested"]:
    """Returns the class that a ridge regression on the training rows' labels gives each row; features have mean 0 and variance 1."""
    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
    x, y = (train - mean) / scale, np.eye(n_classes)[labels]
    y = y - y.mean(axis=0)
    kernel = x @ x.T / x.shape[1]
    weights = np.linalg.solve(kernel + _RIDGE * np.eye(len(x)), y)
    return (
        (test - mean) / scale @ x.T / x.shape[1] @ weights + np.bincount(labels, minlength=n_classes) / len(labels)
    ).argmax(axis=1)


def changed_places(ids: Sequence[int], changed: Int[np.ndarray, " changed"]) -> Bool[np.ndarray, " token"]:
    """Returns at which places of a text a token stands whose row is changed."""
    return np.isin(np.asarray(ids), changed)
