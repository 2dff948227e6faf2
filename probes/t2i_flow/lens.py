"""From which layer of an encoder on an item is in its vectors, and from which on a context's sense is. Arithmetic on tables.

Toker et al. 2024 draw whole texts from each layer's states; here tokens are also kept one by one, and a judge looks.
"""

from typing import Any

import numpy as np
import pandas as pd

from interp.estimates import estimates
from probes.t2i_flow.scores import rate

PLACE = ["group", "encoder", "layer", "n_layers", "depth_fraction", "token_role"]
RESAMPLED = {"full": "items", "last_token": "items", "item": "prompts"}
"""By what is kept: the first two are of items alone."""


def lens_views(lens: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per picture and look (own, or any of the leaks) of the kept item: `visible` is 0, 1, or NaN."""
    mine = lens[(lens["source_item"] == "") | (lens["source_item"] == lens["item_id"])]
    keys = ["prompt_id", *PLACE, "item_id", "asked", "seed"]
    return mine.groupby(keys, sort=False)["visible"].max().reset_index()


def lens_rates(lens: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `lens_rates`: the share of pictures that show each look, by what is kept and layer."""
    seen = lens_views(lens).dropna(subset="visible")
    found = estimates(seen, [*PLACE, "asked"], "visible", over="prompt_id", kind="share", seed=seed)
    return found.rename(columns={"value": "estimate"}).assign(resampled=found["token_role"].map(RESAMPLED))


def first_layers(lens: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Returns, per text, item and look, the first layer from which on the look is there: NaN where the last has it not.

    A look is there when at least that share of the seeds with an answer show it, in that layer and every later one that was
    drawn.
    """
    keys = ["prompt_id", "group", "encoder", "token_role", "item_id", "asked"]
    shares = lens_views(lens).groupby([*keys, "layer"], sort=False)["visible"].mean().reset_index().dropna()
    found = []
    for key, some in shares.groupby(keys, sort=False):
        ordered = some.sort_values("layer")
        missing = np.flatnonzero(ordered["visible"].to_numpy() < threshold)
        first = missing[-1] + 1 if len(missing) else 0
        layer = ordered["layer"].iloc[first] if first < len(ordered) else np.nan
        found.append({**dict(zip(keys, key, strict=True)), "first_layer": layer})
    return pd.DataFrame(found)


def first_layer_rates(lens: pd.DataFrame, threshold: float, seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `rates` on the question lens: mean first layers, over the items that the last layer shows."""
    rows = []
    for key, some in first_layers(lens, threshold).groupby(["group", "encoder", "token_role", "asked"], sort=False):
        group, encoder, role, asked = map(str, key)  # type: ignore[call-overload]
        labels: dict[str, Any] = {"question": "lens", "group": group, "encoder": encoder, "level": role}
        labels["resampled"] = RESAMPLED[role]
        rows.append(rate(f"first_layer_{asked}", some["first_layer"], some["prompt_id"], seed, share=False, **labels))
    return rows
