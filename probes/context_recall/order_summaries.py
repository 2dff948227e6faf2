"""Which of two parts came first: the four presentations of a pair put together, so that a bias for a label or a place cancels."""

import numpy as np
import pandas as pd

from interp.estimates import estimates
from probes.context_recall.plan import WHOLE
from probes.context_recall.settings import Settings

ALL = "all"
BINS = ((0, 50), (50, 100), (100, 10**6))
"""Words from one part to the other."""


def presentations(items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each pair of parts: content, label and place effects in nats, and shares that are right.

    A presentation's kind is the label of the right part and whether that part is shown first: A1, A0, B1, B0. Its margin is what
    the right label has over the other; with the sign of its label it is A over B, and with that of its place first over second.
    """
    keys = ["task", "cell", "sample_id", "question"]
    rows = answers[(answers["condition"] == WHOLE) & (answers["task"] == "order")]
    rows = rows.merge(items[[*keys, "distance_words"]], on=keys)
    margin = rows["margin_nats"]
    rows = rows.assign(
        content=margin,
        label=np.where(rows["kind"].str[0] == "A", margin, -margin),
        place=np.where(rows["kind"].str[1] == "1", margin, -margin),
        one=(margin > 0).astype(float),
    )
    found = rows.groupby(["cell", "sample_id"], as_index=False, sort=False).agg(
        distance_words=("distance_words", "first"), content=("content", "mean"), label=("label", "mean"),
        place=("place", "mean"), one=("one", "mean"),
    )  # fmt: skip
    return found.assign(right=(found["content"] > 0).astype(float))


def summarise_order(settings: Settings, items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `order`."""
    pairs = presentations(items, answers)
    if not len(pairs):
        return pd.DataFrame()
    pairs = pairs.assign(text=pairs["cell"].str.extract(r"text=(\w+)", expand=False).fillna(""))
    distance = [
        next(
            f"{low} to {high - 1} words" if high < 10**6 else f"{low} words or more"
            for low, high in BINS
            if words < high
        )
        for words in pairs["distance_words"]
    ]
    rows = pd.concat([pairs.assign(distance=ALL), pairs.assign(distance=distance)])
    parts = []
    for quantity, column in (
        ("content", "content"),
        ("right", "right"),
        ("one right", "one"),
        ("label", "label"),
        ("place", "place"),
    ):
        kind = "share" if column in ("right", "one") else "mean"
        part = estimates(rows, ["text", "distance"], column, "sample_id", kind=kind, seed=settings.seed)
        parts.append(part.assign(quantity=quantity))
    return pd.concat(parts, ignore_index=True)
