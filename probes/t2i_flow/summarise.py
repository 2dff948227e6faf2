"""From answers to rates: every summary table, from the measured tables alone."""

import pandas as pd

from interp.tables import Tables, empty
from probes.t2i_flow.attention_effect import attention_mass, attention_rates
from probes.t2i_flow.choice import choice_rates
from probes.t2i_flow.in_item import in_item, in_item_rates, role_rates
from probes.t2i_flow.inter_item import choose_repairs, inter_item, inter_item_rates
from probes.t2i_flow.judge_check import judge_check
from probes.t2i_flow.lens import first_layer_rates, lens_rates
from probes.t2i_flow.plan import prompts_of
from probes.t2i_flow.predictor import predictor_table
from probes.t2i_flow.repair import before_and_after, repair_pairs, repair_rates, repair_table
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.summary_tables import SUMMARIES


def summarise_all(settings: Settings, model: str, measured: Tables) -> dict[str, pd.DataFrame]:
    """Returns the summary tables of a run."""
    variants, threshold, seed = measured["variants"], settings.visible_share, settings.seed
    has = set(variants["part"])
    found = {"prompts": prompts_table(settings, model)}
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
        found["lens_rates"] = pd.DataFrame(lens_rates(measured["lens"], seed)).assign(model=model)
        rates += first_layer_rates(measured["lens"], threshold, seed)
    if "repair" in has:
        pairs, chosen = before_and_after(variants), choose_repairs(variants, threshold)
        found["repair"] = repair_table(pairs, chosen)
        rates += choice_rates(found["prompts"], chosen, seed) + repair_rates(pairs, chosen, seed)
        found["paired"] = pd.DataFrame(repair_pairs(pairs, chosen, seed)).assign(model=model)
    found["judge_check"] = judge_check(settings.judge, measured["judge_truth"], variants, model)
    found["rates"] = pd.DataFrame([row for row in rates if row["n_rows"]]).assign(model=model)
    return {
        name: found[name] if name in found and len(found[name]) else empty(schema) for name, schema in SUMMARIES.items()
    }


def prompts_table(settings: Settings, model: str) -> pd.DataFrame:
    """Returns `prompts`: one row per item of each prompt."""
    return pd.DataFrame(
        {
            "model": model,
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
