"""What is said of texts with known duplicates: means over texts, and differences that are paired by text."""

from collections.abc import Iterator

import pandas as pd

from interp.estimates import estimates
from interp.tables import empty
from probes.training_memory.tables import SCHEMAS

DRAWS = 1000
MEASURES = {
    "is_recognised": "recognised", "margin_nats": "margin, nats", "rouge_second": "recall", "exact": "exact",
}  # fmt: skip
AGAINST_TWIN, AT_START = "less the twin's", "at the start less behind other text"
WHO = ["checkpoint", "is_twin", "duplicates"]


def lost_without(off: str) -> str:
    """Returns the name of the effect of switching heads off."""
    return f"lost without {off} heads"


def by_duplicates(duplicates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns the mean of every measure by checkpoint, duplicates, place and heads that are switched off."""
    tables = []
    for column, measure in MEASURES.items():
        rows = duplicates.dropna(subset=[column])
        if len(rows):
            kind = "mean" if column == "margin_nats" else "share"
            found = estimates(rows, [*WHO, "place", "off"], column, "text_id", kind=kind, seed=seed, draws=DRAWS)
            tables.append(found.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def duplicate_effects(duplicates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns differences by checkpoint, duplicates and place: from the twin, from other places, and with heads switched off."""
    tables = []
    for column, measure in MEASURES.items():
        rows = duplicates.dropna(subset=[column])
        kind = "mean" if column == "margin_nats" else "share"
        for effect, pairs in _paired(rows, column):
            if len(pairs):
                found = estimates(
                    pairs, [*WHO, "place"], column, "text_id", minus="other", kind=kind, seed=seed, draws=DRAWS
                )
                tables.append(found.assign(measure=measure, effect=effect))
    return pd.concat(tables, ignore_index=True) if tables else empty(SCHEMAS["duplicate_effects"])


def _paired(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each effect with its rows: what is measured, and `other`, what is taken off."""
    plain = rows[rows["off"] == "none"]
    behind = _other(plain[plain["place"] == "offset"], column, ["checkpoint", "text_id"])
    yield AT_START, plain[plain["place"] == "start"].merge(behind)
    twin = _other(plain[plain["is_twin"]], column, ["place", "text_id"])
    yield AGAINST_TWIN, plain[~plain["is_twin"]].merge(twin)
    for off, without in rows[rows["off"] != "none"].groupby("off", sort=False):
        means: pd.DataFrame = without.groupby(["checkpoint", "place", "text_id"])[column].mean().reset_index()
        yield lost_without(str(off)), plain.merge(means.rename(columns={column: "other"}))


def _other(rows: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    return rows[[*keys, column]].rename(columns={column: "other"})
