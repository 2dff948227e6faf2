"""What pasting an item's vectors, encoded alone, repairs and what it costs, beside baselines. Arithmetic on tables.

Kaplan et al. 2025, leakage: encode the leaked item alone, put its vectors at the item's positions in the encoding of the whole
prompt, draw again from the same noise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probes.t2i_flow.scores import change_of_shares, item_views, paired_row, rate, ratio_of_fall

ARMS = ("paste", "random_paste", "attention")
"""The repair; as much pasted over random other words; the context looked at less."""
REMOVAL = "without_redundant"
LEVELS = {True: "with a leak to look for", False: "without"}


def before_and_after(variants: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per arm, repaired item, item looked at and seed: own and leak before and after, from the same noise."""
    views = item_views(variants[variants["part"] == "repair"])
    keys = ["prompt_id", "group", "item_id", "seed"]
    before = views[views["variant"] == "full"].set_index(keys)[["own", "leak"]]
    after = views[views["variant"].isin([*ARMS, REMOVAL])]
    paired = before.reindex(pd.MultiIndex.from_frame(after[keys])).to_numpy(dtype=float)
    found = after[[*keys, "variant", "source_item", "own", "leak"]].rename(
        columns={"variant": "arm", "own": "own_after", "leak": "leak_after"}
    )
    return found.assign(own_before=paired[:, 0], leak_before=paired[:, 1])


def repair_table(pairs: pd.DataFrame, chosen: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Returns `repair`: one row per repaired item and arm, shares of seeds."""
    pairs = pairs[pairs["arm"].isin(ARMS)]
    keys = ["prompt_id", "group", "source_item", "arm"]
    its = pairs[pairs["item_id"] == pairs["source_item"]].groupby(keys, sort=False)
    others = pairs[pairs["item_id"] != pairs["source_item"]].groupby(keys, sort=False)
    found = its.agg(
        leak_before=("leak_before", "mean"),
        leak_after=("leak_after", "mean"),
        own_before=("own_before", "mean"),
        own_after=("own_after", "mean"),
        n_seeds=("seed", "nunique"),
    )
    found["others_before"] = others["own_before"].mean().reindex(found.index)
    found["others_after"] = others["own_after"].mean().reindex(found.index)
    found = found.reset_index().rename(columns={"source_item": "item_id"})
    picked = set(chosen)
    found["chosen"] = [pair in picked for pair in zip(found["prompt_id"], found["item_id"], strict=True)]
    return found


def choice_rates(prompts: pd.DataFrame, chosen: Sequence[tuple[str, str]], seed: int) -> list[dict[str, Any]]:
    """Returns rows of `rates`: the share of items that were chosen, by group of prompts and by whether they have leaks."""
    picked = set(chosen)
    taken = [pair in picked for pair in zip(prompts["prompt_id"], prompts["item_id"], strict=True)]
    items = prompts.assign(taken=taken, level=(prompts["leaks"] != "").map(LEVELS))
    rows = []
    for key, some in items.groupby(["group", "level"], sort=False):
        group, level = map(str, key)  # type: ignore[call-overload]
        labels: dict[str, Any] = {"question": "repair", "group": group, "level": level, "resampled": "prompts"}
        rows.append(rate("chosen", some["taken"].astype(float), some["prompt_id"], seed, **labels))
    return rows


def repair_rates(pairs: pd.DataFrame, chosen: Sequence[tuple[str, str]], seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `rates` on the question repair: chosen items, before and under each arm, by group and over all."""
    mine = _of_chosen(pairs, chosen)
    rows: list[dict[str, Any]] = []
    for group in ["all", *dict.fromkeys(mine["group"])]:
        of_group = mine if group == "all" else mine[mine["group"] == group]
        for arm, some in of_group.groupby("arm", sort=False):
            labels = {"question": "repair", "group": str(group), "level": str(arm), "resampled": "prompts"}
            rows += _arm_rates(some, seed, labels)
    return rows


def _arm_rates(some: pd.DataFrame, seed: int, labels: dict[str, Any]) -> list[dict[str, Any]]:
    its, others = some[some["item_id"] == some["source_item"]], some[some["item_id"] != some["source_item"]]
    rows = []
    for quantity, part, column in (("leak", its, "leak"), ("own", its, "own"), ("others", others, "own")):
        before, after, prompts = part[f"{column}_before"], part[f"{column}_after"], part["prompt_id"]
        rows += [
            rate(f"{quantity}_before", before, prompts, seed, **labels),
            rate(f"{quantity}_after", after, prompts, seed, **labels),
            change_of_shares(f"{quantity}_change", before, after, prompts, seed, **labels),
        ]
    return [*rows, ratio_of_fall(its["leak_before"], its["leak_after"], its["prompt_id"], seed, **labels)]


def repair_pairs(pairs: pd.DataFrame, chosen: Sequence[tuple[str, str]], seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `paired`: the repaired item, the other items, and whole prompts without redundant tokens."""
    rows = []
    mine = _of_chosen(pairs, chosen)
    for arm, some in mine.groupby("arm", sort=False):
        its = some["item_id"] == some["source_item"]
        for name, part in (("repaired item", some[its]), ("other items", some[~its])):
            if len(part):
                before, after = (_right(part, when) for when in ("before", "after"))
                rows.append(paired_row(f"{arm}: {name}", "all", before, after, part["prompt_id"], seed))
    removed = pairs[pairs["arm"] == REMOVAL]
    if len(removed):
        whole = removed.assign(before=_right(removed, "before"), after=_right(removed, "after"))
        keys = ["prompt_id", "group", "seed"]
        whole = whole.groupby(keys, sort=False)[["before", "after"]].agg(_all_right).reset_index()
        for group in ["all", *dict.fromkeys(whole["group"])]:
            some = whole if group == "all" else whole[whole["group"] == group]
            rows.append(
                paired_row(f"{REMOVAL}: all items", group, some["before"], some["after"], some["prompt_id"], seed)
            )
    return rows


def _of_chosen(pairs: pd.DataFrame, chosen: Sequence[tuple[str, str]]) -> pd.DataFrame:
    picked = set(chosen)
    arms = pairs[pairs["arm"].isin(ARMS)]
    keep = [pair in picked for pair in zip(arms["prompt_id"], arms["source_item"], strict=True)]
    return arms[np.array(keep, dtype=bool)]


def _right(rows: pd.DataFrame, when: str) -> pd.Series:
    """Whether an item is seen as its own and no leak is; NaN where that is not known."""
    own, leak = rows[f"own_{when}"], rows[f"leak_{when}"].fillna(0)
    return own * (1 - leak)


def _all_right(values: pd.Series) -> float:
    return float(values.min(skipna=False))
