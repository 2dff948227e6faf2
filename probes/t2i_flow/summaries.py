"""Every summary table of a run, from the measured tables alone, and several runs side by side."""

from collections.abc import Mapping

import pandas as pd

from interp.errors import ArgumentError
from interp.tables import Tables, empty
from probes.t2i_flow.attention_mass import attention_mass, attention_rates
from probes.t2i_flow.items import choose_repairs, in_item, in_item_rates, inter_item, inter_item_rates, role_rates
from probes.t2i_flow.judges import judge_check
from probes.t2i_flow.plan import prompts_of
from probes.t2i_flow.predictor import predictor_table
from probes.t2i_flow.repair import before_and_after, choice_rates, repair_pairs, repair_rates, repair_table
from probes.t2i_flow.scores import first_layer_rates, lens_rates
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.tables import SUMMARIES

CELL = ["question", "quantity", "group", "level", "encoder"]
"""Columns that say which quantity a row of `rates` is of."""


def summarise_all(settings: Settings, measured: Tables) -> dict[str, pd.DataFrame]:
    """Returns the summary tables of a run."""
    variants, threshold, seed = measured["variants"], settings.visible_share, settings.seed
    has = set(variants["part"])
    found = {"prompts": prompts_table(settings)}
    rates = []
    if "in_item" in has:
        found["in_item"] = in_item(variants, threshold)
        rates += in_item_rates(variants, found["in_item"], threshold, seed) + role_rates(variants, "in_item", seed)
        found["predictor"] = predictor_table(measured["token_vectors"], found["in_item"], seed)
    if "inter_item" in has:
        found["inter_item"] = inter_item(variants, found["prompts"])
        rates += inter_item_rates(variants, found["inter_item"], measured["vector_change"], seed)
        rates += role_rates(variants, "inter_item", seed)
    if len(measured["attention_seeds"]):
        found["attention_mass"] = attention_mass(variants, measured["attention_seeds"])
        rates += attention_rates(found["attention_mass"], seed)
    if len(measured["lens"]):
        found["lens_rates"] = lens_rates(measured["lens"], seed)
        rates += first_layer_rates(measured["lens"], threshold, seed)
    if "repair" in has:
        pairs, chosen = before_and_after(variants), choose_repairs(variants, threshold)
        found["repair"] = repair_table(pairs, chosen)
        rates += choice_rates(found["prompts"], chosen, seed) + repair_rates(pairs, chosen, seed)
        found["paired"] = pd.DataFrame(repair_pairs(pairs, chosen, seed))
    found["judge_check"] = judge_check(settings.judge, measured["judge_truth"], variants)
    found["rates"] = pd.DataFrame([row for row in rates if row["n_rows"]])
    return {
        name: found[name] if name in found and len(found[name]) else empty(schema) for name, schema in SUMMARIES.items()
    }


def prompts_table(settings: Settings) -> pd.DataFrame:
    """Returns `prompts`: one row per item of each prompt."""
    return pd.DataFrame(
        {
            "prompt_id": prompt.id,
            "group": prompt.group,
            "text": prompt.text,
            "item_id": item.id,
            "looks": item.looks or item.phrase,
            "leaks": " | ".join(item.leaks),
            "alone_text": item.alone_text,
        }
        for prompt in prompts_of(settings)
        for item in prompt.items
    )


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `rates` of all runs, the quantities that any two of them have; runs are given by label, the column `run`.

    Raises ArgumentError when no two have one in common.
    """
    columns = ["run", "model", *CELL, "estimate", "ci_low", "ci_high", "n"]
    frames = [tables["rates"].assign(run=run)[columns] for run, tables in runs.items()]
    together = pd.concat(frames, ignore_index=True)
    shared = together.groupby(CELL)["run"].transform("nunique") >= min(2, len(runs))
    if not shared.any():
        raise ArgumentError("These runs measured nothing in common: give them the same --parts.")
    return {"rates": together[shared].reset_index(drop=True)}
