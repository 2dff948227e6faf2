"""From single answers of a judge to what each picture shows of each item: own look, leaked look, reading."""

from typing import Any

import numpy as np
import pandas as pd

PICTURE = ["prompt_id", "group", "variant", "token_role", "source_item", "encoder", "kept_positions", "seed"]


def item_views(variants: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per picture and item: `own` and `leak` (any of its leaks) as 0, 1, or NaN when there is no answer.

    An item without leaks has NaN there too.
    """
    keys = ["model", *PICTURE, "kept_tokens", "item_id"]
    own = variants[variants["asked"] == "own"].set_index(keys)[["visible", "pixel_change"]]
    leak = variants[variants["asked"] == "leak"].groupby(keys)["visible"].max()
    views = own.rename(columns={"visible": "own"}).assign(leak=leak.reindex(own.index))
    return views.reset_index()


def readings(views: pd.DataFrame) -> np.ndarray:
    """Returns how each picture reads its item: own (and no leak), leak (and not own), both, none, or unknown."""
    own, leak = views["own"].to_numpy(dtype=float), views["leak"].fillna(0).to_numpy(dtype=float)
    names = np.array(["none", "leak", "own", "both"], dtype=object)
    known = ~np.isnan(own)
    index = (2 * np.nan_to_num(own) + leak).astype(int)
    return np.where(known, names[index], "unknown")


def usual_reading(some: Any, threshold: float) -> str:
    """Returns the reading that at least that share of the pictures with an answer have, own before leak; else none."""
    known = [reading for reading in some if reading != "unknown"]
    for reading in ("own", "leak"):
        if known and known.count(reading) / len(known) >= threshold:
            return reading
    return "none"


def shares(views: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns the share of pictures that show own and leak, by these columns, and how many pictures had an answer."""
    grouped = views.groupby(by, sort=False)
    return grouped.agg(own=("own", "mean"), leak=("leak", "mean"), n=("own", "count")).reset_index()
