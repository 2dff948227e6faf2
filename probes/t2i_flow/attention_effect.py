"""Attention beside cause: how much a word is looked at, and what taking it away or keeping only it does. Arithmetic on tables."""

from typing import Any

import numpy as np
import pandas as pd

from interp.statistics import spearman
from probes.t2i_flow.rates import rate
from probes.t2i_flow.roles import FLOOR_ROLES
from probes.t2i_flow.views import item_views

EFFECTS = ("effect_removed", "effect_only", "change_removed")
CONTROLS = ("all tokens", "words")
"""Correlations over every position there is, and over the words of the text only (beginning, end and padding left out)."""
SPECIAL = ("bos", "eos", "pad")


def attention_mass(variants: pd.DataFrame, attention_seeds: pd.DataFrame) -> pd.DataFrame:
    """Returns `attention_mass`: each word's share of attention and its causal effects, means over seeds and items."""
    keys = ["model", "prompt_id", "word_index", "word", "token_role", "positions"]
    found = attention_seeds.groupby(keys, sort=False)["mass"].mean().reset_index()
    found["mass"] = found["mass"].clip(upper=1.0)
    found["n_tokens"] = found["positions"].str.count(r"\S+").astype(int)
    views = item_views(variants[variants["part"] == "inter_item"])
    groups = views.drop_duplicates("prompt_id").set_index("prompt_id")["group"]
    whole, nothing = (_mean_own(views[views["variant"] == name], ["prompt_id"]) for name in ("full", "clean"))
    at = ["prompt_id", "kept_positions"]
    words = pd.MultiIndex.from_frame(found[["prompt_id", "positions"]])
    removed, only = views[views["variant"] == "word_without"], views[views["variant"].isin(["word_only", *FLOOR_ROLES])]
    found["group"] = groups.reindex(found["prompt_id"]).to_numpy()
    found["effect_removed"] = (
        whole.reindex(found["prompt_id"]).to_numpy() - _mean_own(removed, at).reindex(words).to_numpy()
    )
    found["effect_only"] = (
        _mean_own(only, at).reindex(words).to_numpy() - nothing.reindex(found["prompt_id"]).to_numpy()
    )
    found["change_removed"] = removed.groupby(at)["pixel_change"].mean().reindex(words).to_numpy()
    per_prompt = found.groupby("prompt_id")
    found["mass_rank"] = per_prompt["mass"].rank(ascending=False)
    found["effect_rank"] = per_prompt["change_removed"].rank(ascending=False)
    return found.drop(columns="positions")


def _mean_own(views: pd.DataFrame, by: list[str]) -> pd.Series:
    return views.groupby(by)["own"].mean()


def attention_rates(masses: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `rates` on the question attention: rank correlations within prompts, and attention by role.

    A prompt in which one side is the same for all words has no correlation and is left out of that mean.
    """
    rows = []
    for level in CONTROLS if len(masses) else ():
        part = masses if level == "all tokens" else masses[~masses["token_role"].isin(SPECIAL)]
        for effect in EFFECTS:
            known = part.dropna(subset=[effect]).groupby("prompt_id", sort=False)
            correlations = {str(id): spearman(some["mass"], some[effect]) for id, some in known}
            labels: dict[str, Any] = {"question": "attention", "level": level, "resampled": "prompts"}
            values = np.array(list(correlations.values()), dtype=float)
            rows.append(rate(f"rank_correlation_{effect}", values, list(correlations), seed, share=False, **labels))
    for role, some in masses.groupby("token_role", sort=False):
        by_prompt = some.groupby("prompt_id", sort=False)
        labels: dict[str, Any] = {"question": "attention", "level": str(role), "resampled": "prompts"}
        mass = by_prompt["mass"].sum()
        rows.append(rate("attention_share", mass, mass.index, seed, **labels))
        change = by_prompt["change_removed"].mean()
        rows.append(rate("change_when_removed", change, change.index, seed, share=False, **labels))
    return rows
