"""What the stimuli are really like: overlaps, surviving pairs and tokens, counted on the lists that were read."""

from typing import Any

import numpy as np
import pandas as pd

from probes.verbatim_memory.lists import surviving_pairs
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.texts import read_texts


def audit_lists(surprisals: pd.DataFrame) -> pd.DataFrame:
    """Returns `stimulus_audit`: one row per pool, length and condition, from the shortest cell that has them."""
    raw = surprisals[(surprisals["mode"] == "raw") & (surprisals["variant"] == "none")]
    rows = []
    cells: dict[Any, pd.DataFrame] = dict(iter(raw.groupby(["pool", "list_length"], sort=False)))
    for (pool, length), group in cells.items():
        first = _lists(group[group["condition"] == "first"])
        for condition, part in group[group["list_index"] == 2].groupby("condition", sort=False):
            second = _lists(part).loc[first.index]
            pairs = list(zip(first["noun"], second["noun"], strict=True))
            n_pairs = len(pairs) * (int(length) - 1)
            tokens = np.array([len(ids) for lists in second["token_ids"] for ids in lists])
            rows.append(
                {
                    "model": group["model"].iloc[0],
                    "pool": pool,
                    "list_length": length,
                    "condition": condition,
                    "n_trials": len(pairs),
                    "n_base_lists": part["base_list"].nunique(),
                    "shared_nouns_share": sum(len(set(a) & set(b)) for a, b in pairs) / (len(pairs) * int(length)),
                    "same_position_share": sum(x == y for a, b in pairs for x, y in zip(a, b, strict=True))
                    / (len(pairs) * int(length)),
                    "surviving_pairs_share": sum(surviving_pairs(a, b) for a, b in pairs) / n_pairs,
                    "tokens_per_noun": float(tokens.mean()),
                    "multi_token_share": float((tokens > 1).mean()),
                }
            )
    return pd.DataFrame(rows)


def _lists(rows: pd.DataFrame) -> pd.DataFrame:
    """The nouns and their tokens as one list per trial."""
    one_cell = rows.drop_duplicates(["trial_id", "position"]).sort_values(["trial_id", "position"])
    return one_cell.groupby("trial_id")[["noun", "token_ids"]].agg(list)


def audit_texts(surprisals: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Returns `intervening_audit`: every text between the lists, with its length in tokens."""
    texts = read_texts(settings.texts)
    columns = ["model", "context_type", "intervening", "intervening_tokens"]
    cells = surprisals.loc[surprisals["list_index"] == 2, columns].drop_duplicates(["context_type", "intervening"])
    wanted = zip(cells["context_type"], cells["intervening"], strict=True)
    return cells.assign(text=[texts.between(context, int(n), settings.seed) for context, n in wanted])
