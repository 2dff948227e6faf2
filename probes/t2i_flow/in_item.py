"""Which of an item's tokens carry it: representative tokens, minimal sets, redundancy. Arithmetic on tables.

Kaplan et al. 2025, in-item: keep one token of an item that is encoded alone, everything else clean padding; the token is
representative when the picture shows the item.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from probes.t2i_flow.prompts import FLOOR_ROLES
from probes.t2i_flow.scores import item_views, rate, shares

SUBSETS = ("tokens", "item")


def in_item(variants: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Returns `in_item`: every subset that was kept, with the share of seeds that show the item."""
    views = item_views(variants[variants["part"] == "in_item"])
    views = views[views["variant"].isin(SUBSETS)]
    by = ["prompt_id", "item_id", "encoder", "kept_positions", "kept_tokens", "token_role"]
    found = shares(views, by).rename(columns={"own": "visible_share", "n": "n_seeds"}).drop(columns="leak")
    found["n_kept"] = found["kept_positions"].str.count(r"\S+").astype(int)
    found["n_item_tokens"] = found.groupby("prompt_id")["n_kept"].transform("max")
    found["shows"] = found["visible_share"] >= threshold
    smallest = found["n_kept"].where(found["shows"]).groupby(found["prompt_id"]).transform("min")
    found["minimal"] = found["shows"] & (found["n_kept"] == smallest)
    return found


def drawn_alone(variants: pd.DataFrame, threshold: float) -> pd.Series:
    """Returns, by prompt id, whether the model can draw the item from its text alone, nothing taken away."""
    views = item_views(variants[(variants["part"] == "in_item") & (variants["variant"] == "full")])
    return views.groupby("prompt_id", sort=False)["own"].mean() >= threshold


def redundant_tokens(subsets: pd.DataFrame) -> Mapping[str, tuple[int, ...]]:
    """Returns, by prompt id, which of an item's tokens (counted from 0 in the item) do not show it when kept alone.

    Items without any token that does are left out: none of theirs can be called redundant.
    """
    found = {}
    for prompt_id, rows in subsets[subsets["n_kept"] == 1].groupby("prompt_id", sort=False):
        ordered = rows.assign(place=rows["kept_positions"].astype(int)).sort_values("place")["shows"].to_numpy()
        if ordered.any() and not ordered.all():
            found[str(prompt_id)] = tuple(int(index) for index in np.flatnonzero(~ordered))
    return found


def in_item_rates(variants: pd.DataFrame, subsets: pd.DataFrame, threshold: float, seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `rates` on the question in_item."""
    if not len(subsets):
        return []
    drawn = drawn_alone(variants, threshold)
    labels: dict[str, Any] = {"question": "in_item", "resampled": "items"}
    rows = [rate("drawn_alone", drawn.astype(float), drawn.index, seed, **labels)]
    kept = subsets[subsets["prompt_id"].map(drawn)]
    if not len(kept):
        return rows
    single = kept[kept["n_kept"] == 1]
    representative = single.groupby("prompt_id")["shows"].any().astype(float)
    smallest = kept[kept["minimal"]].groupby("prompt_id")["n_kept"].first()
    several = single[single["n_item_tokens"] > 1]
    rows += [
        rate("representative_rate", representative, representative.index, seed, **labels),
        rate("minimal_set_size", smallest, smallest.index, seed, share=False, **labels),
        rate("redundancy_share", ~several["shows"], several["prompt_id"], seed, **labels),
    ]
    sizes = smallest.reindex(representative.index)  # an item that no subset shows is of no size
    for size in sorted(smallest.unique()):
        rows.append(rate("minimal_set_of", sizes == size, sizes.index, seed, level=str(size), **labels))
    return rows


def role_rates(variants: pd.DataFrame, part: str, seed: int) -> list[dict[str, Any]]:
    """Returns how often an item is visible when only one role's tokens are kept, by encoder: the bars and their floor.

    For whole prompts also how often its leak is, by group of prompts, over items that have one.
    """
    views = item_views(variants[variants["part"] == part])
    role = views["token_role"]
    views = views[views["variant"].isin(["full", "clean", *SUBSETS, *FLOOR_ROLES]) & ~role.isin(["several"])]
    if part == "inter_item":  # the item's own vectors are asked for it alone
        views = views[(views["source_item"] == "") | (views["source_item"] == views["item_id"])]
    level = views["token_role"].where(~views["token_role"].isin(["none"]), views["variant"]).rename("level")
    labels: dict[str, Any] = {"question": part, "resampled": "items" if part == "in_item" else "prompts"}
    rows = []
    for key, some in views.groupby([level, "encoder"], sort=False):
        at = dict(zip(("level", "encoder"), map(str, key), strict=True))  # type: ignore[call-overload]
        group = "alone" if part == "in_item" else "prompts"
        rows.append(rate("kept_visible", some["own"], some["prompt_id"], seed, group=group, **at, **labels))
        leaks = some[some["leak"].notna()]
        for of_group, part_of in leaks.groupby("group", sort=False):
            values, prompts = part_of["leak"], part_of["prompt_id"]
            rows.append(rate("kept_leak", values, prompts, seed, group=str(of_group), **at, **labels))
    return rows
