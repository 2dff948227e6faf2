"""How often the automatic choice of what to repair takes an item, where something can leak and where nothing can."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probes.t2i_flow.rates import rate

LEVELS = {True: "with a leak to look for", False: "without"}


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
