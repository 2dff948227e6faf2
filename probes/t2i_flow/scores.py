"""From a judge's answers to numbers: what each picture shows of each item, rates with intervals over prompts or items, and exact
tests of what a change fixes and breaks; for the lens, from which layer of an encoder on an item is in its vectors.

Toker et al. 2024 draw whole texts from each layer's states; here tokens are also kept one by one, and a judge looks.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interp.estimates import estimates
from interp.statistics import Array, bounded, mean_estimate, resampled, share_difference, share_estimate

DRAWS = 2000
PICTURE = ["prompt_id", "group", "variant", "token_role", "source_item", "encoder", "kept_positions", "seed"]


def item_views(variants: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per picture and item: `own` and `leak` (any of its leaks) as 0, 1, or NaN when there is no answer.

    An item without leaks has NaN there too.
    """
    keys = [*PICTURE, "kept_tokens", "item_id"]
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


# ---------------------------------------------------------------------- rates


def rate(
    quantity: str, values: ArrayLike, clusters: ArrayLike, seed: int, *, share: bool = True, **labels: Any
) -> dict[str, Any]:
    """Returns a row of `rates`: the mean of the values that are not NaN, with its bootstrap interval over clusters.

    Shares have the interval of `share_estimate`, other numbers that of `mean_estimate`. Labels are question, resampled (what a
    cluster is), and where they apply group, level and encoder.
    """
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    known = ~np.isnan(values)
    mean = share_estimate if share else mean_estimate
    estimate = mean(values[known], clusters[known], draws=DRAWS, seed=seed)
    return _row(quantity, estimate, int(known.sum()), labels)


def ratio_of_fall(before: ArrayLike, after: ArrayLike, clusters: ArrayLike, seed: int, **labels: Any) -> dict[str, Any]:
    """Returns a row of `rates`: the relative reduction (Σ before − Σ after) / Σ before, its interval over clusters."""
    a, b = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    known = ~(np.isnan(a) | np.isnan(b))
    a, b, clusters = a[known], b[known], np.asarray(clusters)[known]

    def reduction(weights: Array) -> Array:
        total = weights @ a
        return np.divide(total - weights @ b, total, out=np.full(len(total), np.nan), where=total > 0)

    if not len(a):
        return rate("relative_reduction", [], [], seed, **labels)
    estimate = resampled(reduction, clusters, draws=DRAWS, seed=seed, limits=(-np.inf, 1.0))
    return _row("relative_reduction", bounded(estimate), len(a), labels)


def change_of_shares(
    quantity: str, before: ArrayLike, after: ArrayLike, clusters: ArrayLike, seed: int, **labels: Any
) -> dict[str, Any]:
    """Returns a row of `rates`: after less before, picture by picture, with a width also where no picture changes."""
    a, b = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    known = ~(np.isnan(a) | np.isnan(b))
    estimate = share_difference(b[known], a[known], np.asarray(clusters)[known], draws=DRAWS, seed=seed)
    return _row(quantity, estimate, int(known.sum()), labels)


def _row(quantity: str, estimate: Any, n_rows: int, labels: dict[str, Any]) -> dict[str, Any]:
    named = {"group": "all", "level": "", "encoder": "", **labels}
    interval = {"estimate": estimate.value, "ci_low": estimate.ci_low, "ci_high": estimate.ci_high}
    return {"quantity": quantity, **named, **interval, "n": estimate.n, "n_rows": n_rows}


def clustered_mcnemar(change: ArrayLike, clusters: ArrayLike) -> float:
    """Returns the exact two-sided p that whole clusters are as likely to be fixed as broken; 1 where no cluster changes.

    `change` is 1 for a fixed picture, −1 for a broken one, 0 for the others. Pictures of one prompt share its text, so each cluster's
    sum has either sign with chance 1/2, and p is the share of all choices of signs that add up to as much. Of one picture a cluster
    it is McNemar's exact test.
    """
    sums = pd.Series(np.asarray(change, dtype=int)).groupby(np.asarray(clusters)).sum().to_numpy()
    chances = np.ones(1)  # of the sums −m … m of the clusters so far
    for size in np.abs(sums[sums != 0]):
        step = np.zeros(2 * size + 1)
        step[[0, -1]] = 0.5
        chances = np.convolve(chances, step)
    reached = np.abs(np.arange(len(chances)) - len(chances) // 2) >= abs(sums.sum())
    return float(min(1.0, chances[reached].sum()))


def paired_row(
    comparison: str, group: str, before: ArrayLike, after: ArrayLike, prompts: ArrayLike, seed: int
) -> dict[str, Any]:
    """Returns a row of `paired` from right (1) and wrong (0) before and after, picture by picture; NaN rows are left out."""
    a, b = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    known = ~(np.isnan(a) | np.isnan(b))
    a, b, clusters = a[known], b[known], np.asarray(prompts)[known]
    fixed, broken = int(((a == 0) & (b == 1)).sum()), int(((a == 1) & (b == 0)).sum())
    difference = share_difference(b, a, clusters, draws=DRAWS, seed=seed)
    return {
        "comparison": comparison,
        "group": group,
        "n": len(a),
        "right_before": int(a.sum()),
        "right_after": int(b.sum()),
        "fixed": fixed,
        "broken": broken,
        "p_value": clustered_mcnemar(b - a, clusters),
        "difference": difference.value,
        "ci_low": difference.ci_low,
        "ci_high": difference.ci_high,
        "n_prompts": difference.n,
    }


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
