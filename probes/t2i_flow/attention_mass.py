"""Attention beside cause: how much a word is looked at, and what taking it away or keeping only it does."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.agreement import spearman
from probes.t2i_flow.prompts import FLOOR_ROLES, Prompt, words
from probes.t2i_flow.scores import item_views, rate

if TYPE_CHECKING:
    from interp.models.image.heat_maps import HeatMaps
    from interp.models.image.model import ImageModel
    from probes.t2i_flow.pictures import Sampling

EFFECTS = ("effect_removed", "effect_only", "change_removed")
CONTROLS = ("all tokens", "words")
"""Correlations over every position there is, and over the words of the text only (beginning, end and padding left out)."""
SPECIAL = ("bos", "eos", "pad")
OVERLAY_PIXELS = 64
"""Longest side of a stored heat map."""


def attention_by_seed(
    model: "ImageModel", prompts: Sequence[Prompt], record: "HeatMaps", sampling: "Sampling"
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `attention_seeds`: the share of attention that each word gets, seed by seed."""
    mass = record.mass().reshape(len(prompts), len(sampling.seeds), -1)
    for prompt, by_seed in zip(prompts, mass, strict=True):
        for index, word in enumerate(words(prompt, model.tokens(prompt.text))):
            for seed, share in zip(sampling.seeds, by_seed[:, list(word.positions)].sum(dim=1).tolist(), strict=True):
                yield {
                    "prompt_id": prompt.id,
                    "word_index": index,
                    "word": word.text,
                    "token_role": word.role,
                    "positions": " ".join(map(str, word.positions)),
                    "seed": seed,
                    "mass": min(share, 1.0),
                }


def heat_maps(
    model: "ImageModel",
    prompts: Sequence[Prompt],
    kept: Sequence[str],
    record: "HeatMaps",
    sampling: "Sampling",
    shape: tuple[int, ...],
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `heat_maps`: those of the kept prompts' words, from the first seed, in the proportions of the pictures."""
    largest = max(shape)
    height, width = (max(1, side * min(largest, OVERLAY_PIXELS) // largest) for side in shape)
    for number, prompt in enumerate(prompts):
        if prompt.id not in kept:
            continue
        for index, word in enumerate(words(prompt, model.tokens(prompt.text))):
            overlay = record.overlay(word.positions, height, width)[number * len(sampling.seeds)]
            yield {
                "prompt_id": prompt.id,
                "word_index": index,
                "word": word.text,
                "seed": sampling.seeds[0],
                "height": height,
                "width": width,
                "attention": overlay.flatten().float().tolist(),
            }


def attention_mass(variants: pd.DataFrame, attention_seeds: pd.DataFrame) -> pd.DataFrame:
    """Returns `attention_mass`: each word's share of attention and its causal effects, means over seeds and items."""
    keys = ["prompt_id", "word_index", "word", "token_role", "positions"]
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
