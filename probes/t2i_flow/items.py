"""The two questions about items: which of an item's tokens carry it, and what flows between items.

In-item (Kaplan et al. 2025): keep one token of an item that is encoded alone, everything else clean padding; the token is
representative when the picture shows the item. Inter-item: an item drawn with its vectors from the prompt, against the same
item encoded alone; a reading that differs means that something of the prompt has entered the item's vectors.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.models.tokens.token_spans import spelling
from probes.t2i_flow.prompts import FLOOR_ROLES, Prompt
from probes.t2i_flow.scores import item_views, rate, readings, shares, usual_reading

if TYPE_CHECKING:
    from interp.models.image.conditioning import Conditioning
    from interp.models.image.model import ImageModel

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


VECTORS = {"item": "from_prompt", "alone": "from_alone", "full": "in_full"}
"""Variants that the flow is read from, and the columns they become."""


def vectors_moved(model: "ImageModel", prompt: Prompt) -> Iterator[dict[str, Any]]:
    """Yields the rows of `vector_change`: how far each item's vectors move when the text ends with it, and when it stands alone."""
    tokens, whole = model.tokens(prompt.text), model.encode([prompt.text])
    for item in prompt.items:
        start, end = prompt.characters(item)
        cut_text = prompt.text[:end]
        cut, cut_tokens = model.encode([cut_text]), model.tokens(cut_text)
        alone, alone_at = model.encode([item.alone_text]), model.spans(item.alone_text, item.phrase)
        alone_tokens = model.tokens(item.alone_text)
        for encoder in model.encoders:
            here = [p for p in spelling(tokens, start, end) if tokens[p].encoder == encoder]
            there = [p for p in spelling(cut_tokens, start, end) if cut_tokens[p].encoder == encoder]
            bare = [p for p in alone_at if alone_tokens[p].encoder == encoder]
            yield {
                "prompt_id": prompt.id,
                "group": prompt.group,
                "item_id": item.id,
                "encoder": encoder,
                "without_after": relative_change(whole, here, cut, there),
                "alone": relative_change(whole, here, alone, bare),
            }


def relative_change(first: "Conditioning", at: Sequence[int], second: "Conditioning", other_at: Sequence[int]) -> float:
    """Returns ‖a − b‖ / ‖a‖ over the vectors at these positions of one row each."""
    a, b = first.sequence[0, list(at)].float(), second.sequence[0, list(other_at)].float()
    return float((a - b).norm() / a.norm())


def inter_item(variants: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """Returns `inter_item`: for each kept item and each item asked for, the share of seeds that show it."""
    rows = variants[(variants["part"] == "inter_item") & variants["variant"].isin(VECTORS)]
    asked = ["prompt_id", "group", "item_id", "asked"]
    by_seed = rows.groupby([*asked, "variant", "source_item", "seed"], sort=False)["visible"].max()  # any of the leaks
    share = by_seed.groupby([*asked, "variant", "source_item"], sort=False).agg(["mean", "count"]).reset_index()
    kept = share[share["variant"] == "item"].set_index([*asked, "source_item"])
    alone = share[share["variant"] == "alone"].set_index([*asked, "source_item"])["mean"]
    full = share[share["variant"] == "full"].set_index(asked)["mean"]
    found = kept.reset_index().rename(columns={"mean": "from_prompt", "count": "n_seeds", "source_item": "kept_item"})
    found["from_alone"] = alone.reindex(kept.index).to_numpy()
    found["in_full"] = full.reindex(pd.MultiIndex.from_frame(found[asked])).to_numpy()
    order = _order(prompts)
    for kind, column in (("kept", "kept_item"), ("asked", "item_id")):
        keys = pd.MultiIndex.from_frame(found[["prompt_id", column]])
        found[f"{kind}_index"] = order.reindex(keys).to_numpy()
    return found.rename(columns={"item_id": "asked_item"}).drop(columns="variant")


def _order(prompts: pd.DataFrame) -> pd.Series:
    """The place of each item in its prompt, from 0."""
    place = prompts.groupby("prompt_id", sort=False).cumcount()
    return pd.Series(place.to_numpy(), index=pd.MultiIndex.from_frame(prompts[["prompt_id", "item_id"]]))


def kept_readings(variants: pd.DataFrame) -> pd.DataFrame:
    """Returns, per prompt, item and seed, how the item is read with its vectors from the prompt, alone, and in the full picture."""
    views = item_views(variants[variants["part"] == "inter_item"])
    views = views[views["variant"].isin(VECTORS)]
    views = views[(views["variant"] == "full") | (views["source_item"] == views["item_id"])]
    views = views.assign(reading=readings(views), column=views["variant"].map(VECTORS))
    keys = ["prompt_id", "group", "item_id", "seed"]
    wide = views.pivot(index=keys, columns="column", values="reading")
    known_leaks = views.groupby(keys, sort=False)["leak"].count() > 0
    return wide.reindex(columns=list(VECTORS.values())).assign(has_leaks=known_leaks.reindex(wide.index)).reset_index()


def choose_repairs(variants: pd.DataFrame, threshold: float) -> list[tuple[str, str]]:
    """Returns (prompt id, item id) of the items to repair: read as their own alone, and otherwise with the prompt's vectors.

    Needs no picture of the whole prompt: only what is drawn from the item's own vectors.
    """
    if not len(variants):
        return []
    chosen = []
    for key, rows in kept_readings(variants).groupby(["prompt_id", "item_id"], sort=False):
        alone, prompt = (usual_reading(list(rows[name]), threshold) for name in ("from_alone", "from_prompt"))
        if alone == "own" and prompt != "own":
            prompt_id, item_id = (str(one) for one in key)  # type: ignore[misc]
            chosen.append((prompt_id, item_id))
    return chosen


def inter_item_rates(
    variants: pd.DataFrame, flows: pd.DataFrame, vector_change: pd.DataFrame, seed: int
) -> list[dict[str, Any]]:
    """Returns the rows of `rates` on the question inter_item, by group of prompts and over all."""
    if not len(flows):
        return []
    seen = kept_readings(variants)
    rows: list[dict[str, Any]] = []
    for group in ["all", *dict.fromkeys(seen["group"])]:
        some = seen if group == "all" else seen[seen["group"] == group]
        labels: dict[str, Any] = {"question": "inter_item", "group": group, "resampled": "prompts"}
        rows += [rate(name, values, some["prompt_id"], seed, **labels) for name, values in _by_picture(some).items()]
        part = flows if group == "all" else flows[flows["group"] == group]
        rows += _matrix(part[part["asked"] == "own"], seed, labels)
        moved = vector_change if group == "all" else vector_change[vector_change["group"] == group]
        for encoder, some_moved in moved.groupby("encoder", sort=False):
            for cut in ("without_after", "alone"):
                rows.append(
                    rate(
                        f"vectors_move_{cut}", some_moved[cut], some_moved["prompt_id"], seed,
                        share=False, encoder=str(encoder), **labels,
                    )
                )  # fmt: skip
    return rows


def _by_picture(seen: pd.DataFrame) -> dict[str, np.ndarray]:
    """Leak, flow and neglect of each picture as 0 and 1, NaN where they are not defined."""
    prompt, alone, full = (seen[name].to_numpy(dtype=object) for name in ("from_prompt", "from_alone", "in_full"))
    leaks = seen["has_leaks"].to_numpy(dtype=bool)

    def where(defined: np.ndarray, holds: np.ndarray) -> np.ndarray:
        return np.where(defined & (full != "unknown"), holds.astype(float), np.nan)

    def leaked(reading: np.ndarray) -> np.ndarray:
        return np.isin(reading, ["leak", "both"])

    own_alone, own_prompt = np.isin(alone, ["own", "both"]), np.isin(prompt, ["own", "both"])
    return {
        "leak_in_full": where(leaks, leaked(full)),
        "leak_from_prompt": where(leaks, leaked(prompt)),
        "leak_from_alone": where(leaks, leaked(alone)),
        "flow": where((prompt != "unknown") & (alone != "unknown"), prompt != alone),
        "neglect": where(own_alone, full == "none"),
        "neglect_encoded": where(own_prompt, full == "none"),
    }


def _matrix(flows: pd.DataFrame, seed: int, labels: dict[str, Any]) -> list[dict[str, Any]]:
    """How often item j is seen when only item i's vectors are kept, from the prompt and alone, by their places."""
    rows = []
    for _, some in flows.groupby(["kept_index", "asked_index"], sort=True):
        level = f"{int(some['kept_index'].iloc[0])}>{int(some['asked_index'].iloc[0])}"
        for column in ("from_prompt", "from_alone"):
            rows.append(rate(f"seen_{column}", some[column], some["prompt_id"], seed, level=level, **labels))
    return rows
