"""What is said of texts as they are: which of two parts came first, and tokens that complete a bigram seen before. No model."""

import numpy as np
import pandas as pd

from interp.estimates import beside, estimates
from probes.context_recall.plan import ROLES, WHOLE
from probes.context_recall.settings import Settings

ALL = "all"
BINS = ((0, 50), (50, 100), (100, 10**6))
"""Words from one part to the other."""
REPEATED, OTHERS = "repeated bigram", "other tokens"
FREQUENCIES = ((0, 0, "not in other articles"), (1, 9, "1 to 9 times"), (10, 10**9, "10 times or more"))


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


def slices(settings: Settings, tokens: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `slices`."""
    if not len(tokens):
        return pd.DataFrame()
    keys = ["text_id", "position"]
    whole = tokens[tokens["condition"] == WHOLE].set_index(keys)["surprisal_nats"].rename("whole_nats")
    rows = tokens.join(whole, on=keys)
    rows = rows.assign(slice=rows["is_hit"].map({True: REPEATED, False: OTHERS}))
    frequency = [
        next(name for low, high, name in FREQUENCIES if low <= count <= high) for count in rows["reference_count"]
    ]
    rows = pd.concat([rows.assign(frequency=ALL), rows.assign(frequency=frequency)])
    by = ["condition", "slice", "frequency"]
    nats = estimates(rows, by, "surprisal_nats", "text_id", seed=settings.seed, draws=1000)
    change = estimates(
        rows, by, "surprisal_nats", "text_id", minus="whole_nats", name="change", seed=settings.seed, draws=1000
    )
    return beside(by, nats, change)


def slice_causes(settings: Settings, tokens: pd.DataFrame, replaced: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `slice_causes`: by text, the rise on repeated bigrams minus that on other tokens, and for heads minus the
    same of random heads.
    """
    if not len(tokens):
        return pd.DataFrame()
    means = tokens.groupby(["text_id", "condition", "is_hit"])["surprisal_nats"].mean().unstack("is_hit")
    parts = []
    if {True, False} <= set(means.columns):
        apart = (means[True] - means[False]).unstack("condition")
        for role in ROLES:
            own, random = f"without {role}", f"without random {role}"
            if own in apart:
                rises = apart[[own, random]].sub(apart[WHOLE], axis=0).dropna().reset_index().assign(condition=own)
                part = estimates(rises, ["condition"], own, "text_id", minus=random, seed=settings.seed)
                parts.append(part.assign(control=random))
    if len(replaced):
        rows = replaced.dropna(subset="bystander_change_nats")
        rows = rows.assign(condition="first occurrence replaced", rise=rows["replaced_nats"] - rows["surprisal_nats"])
        part = estimates(rows, ["condition"], "rise", "text_id", minus="bystander_change_nats", seed=settings.seed)
        parts.append(part.assign(control="other tokens between the two"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
