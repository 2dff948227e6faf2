"""Shares at none and all, and numbers from one cluster, in the summaries of every wing: never certain, never claimed.

Each wing's summaries are made twice from small tables: with several clusters that all agree, and with one.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.statistics import wilson_interval
from interp.tables import Tables, checked, empty, named
from probes.critical_tokens.findings import find_all as critical_findings
from probes.critical_tokens.summaries import summarise_agreement as critical_agreement
from probes.critical_tokens.summaries import summarise_levels, summarise_positions, summarise_replacement
from probes.critical_tokens.tables import SCHEMAS as CRITICAL
from probes.function_tokens.activations import NEVER
from probes.function_tokens.experiment import FunctionTokens
from probes.function_tokens.findings import find_all as function_findings
from probes.function_tokens.summaries import summarise_all as function_summaries
from probes.function_tokens.tables import SCHEMAS as FUNCTION
from probes.joined.findings import find_attention, find_critical, find_memory
from probes.joined.memory_summaries import summarise_memory_change
from probes.joined.summaries import match_critical, summarise_lift, summarise_overlap, token_rules
from probes.joined.tables import ATTENTION_SCHEMAS, CRITICAL_SCHEMAS, MEMORY_SCHEMAS
from probes.kv_policies.dynamics_summaries import _best_alpha
from probes.kv_policies.settings import Settings as PolicySettings
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.findings import find_all as retrieval_findings
from probes.retrieval_heads.rankings import detection_totals, summarise_agreement
from probes.retrieval_heads.summaries import summarise_ablation, summarise_head_scores, summarise_sparsity
from probes.retrieval_heads.tables import SCHEMAS as RETRIEVAL
from probes.surprisal.summaries import summarise as word_summaries
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.findings import find_all as flow_findings
from probes.t2i_flow.items import in_item, in_item_rates, inter_item, inter_item_rates, role_rates
from probes.t2i_flow.judges import judge_check
from probes.t2i_flow.predictor import predictor_table
from probes.t2i_flow.repair import before_and_after, choice_rates, repair_pairs, repair_rates
from probes.t2i_flow.scores import first_layer_rates, lens_rates
from probes.t2i_flow.tables import SUMMARIES as FLOW
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.findings import find_all as memory_findings
from probes.verbatim_memory.summaries import summarise_masking, summarise_repeat_surprisal
from probes.verbatim_memory.summaries import summarise_positions as memory_positions
from probes.verbatim_memory.tables import SCHEMAS as MEMORY
from tests.atlas.test_joins import CLASSES, class_mass, masking, tokens
from tests.critical_tokens.hand_tables import SETTINGS, analysed, calibrated, merged
from tests.critical_tokens.hand_tables import tables as critical_tables
from tests.function_tokens.planted import block_pairs
from tests.retrieval_heads.hand_tables import NO_ECHO, measured
from tests.t2i_flow.test_lens import rows as lens_rows
from tests.t2i_flow.test_predictor import tokens as predictor_tokens
from tests.t2i_flow.test_rates import PROMPTS, flow_rows, repair_rows, subsets

SEVERAL = 8
Rows = Callable[[pd.DataFrame], Any]


def joined(*parts: Tables) -> dict[str, pd.DataFrame]:
    return {name: table for part in parts for name, table in part.items()}


# ---------------------------------------------------------------------- the summaries of each wing


def retrieval_heads(n: int) -> dict[str, pd.DataFrame]:
    """Of four heads two copy everything on every needle and two nothing; masked heads take all recall away."""
    tables = measured({f"n{index}": [[1.0, 0, 0, 1.0]] * 2 for index in range(n)})
    totals = detection_totals(tables, only_passed=False)
    rows = [
        (condition, k, draw, f"n{index}", recall, 3.0 + index + (condition == "top"))
        for condition, k, draw, recall in (("none", 0, 0, 1.0), ("top", 2, 0, 0.0), ("random", 2, 0, 1.0))
        for index in range(n)
    ]
    ablation = pd.DataFrame(rows, columns=["condition", "k", "draw", "needle_id", "recall", "prose_surprisal_nats"])
    ablation = ablation.assign(mode="zero", phase="decode", literal=True, sample_id=ablation["needle_id"])
    ablation["ranking"] = ablation["condition"].map({"none": "none"}).fillna("set")
    return {
        **tables,
        "head_scores": summarise_head_scores(totals, NO_ECHO, 2, 0),
        "sparsity": summarise_sparsity(totals, 0),
        "agreement": summarise_agreement(totals, {"echo": np.array([0.0, 0.9, 0.8, 0.1])}, k=2, seed=0),
        "ablation_summary": summarise_ablation(ablation, 0),
    }


def critical_tokens(n: int) -> dict[str, pd.DataFrame]:
    """All problems answered right or none; the first token of each trajectory is a cliff, and only forbidding it helps."""
    names = [f"t{index}" for index in range(n)]
    parts = merged(*(analysed(name) for name in names))
    rollouts = pd.DataFrame(
        {"model": "m", "trajectory_id": name, "arm": f"{condition}-0", "right": condition == "forbidden"}
        for name in names
        for condition in ("kept", "forbidden")
        for _ in range(4)
    )
    critical = pd.DataFrame({"trajectory_id": names, "definition": "cliff", "position": 0})
    responses = calibrated(*[4] * n, others=0)
    responses = responses[
        (responses["level"] != "words-3-0") | (responses["problem_id"].isin([f"words-3-0-{i}" for i in range(n)]))
    ]
    trajectories = pd.DataFrame({"trajectory_id": names, "problem_id": names})
    causal = {"rollouts": rollouts, "trajectories": trajectories}
    found = {
        "levels": summarise_levels(responses, ["arithmetic-1-9"], set(responses["problem_id"]), 0),
        "positions": summarise_positions(SETTINGS, parts),
        "replacement": summarise_replacement(causal, critical, 0),
        "agreement": critical_agreement({**parts, "contrastive": empty(CRITICAL["contrastive"])}, critical, 0),
    }
    return {**critical_tables(**found), "trajectories": responses}


def function_tokens(n: int) -> dict[str, pd.DataFrame]:
    """n texts with a feature for each token, of which the rarest are not in every text; knocking out always silences."""
    parts = [np.r_[np.repeat(np.arange(10), 2), [10, 11] if index % 2 == 0 else [10]] for index in range(n)]
    ids, block = np.concatenate(parts), np.repeat(np.arange(n), [len(part) for part in parts])
    rank = np.arange(1, 13, dtype=np.int32)
    own = {"model": "m", "dictionary": "d", "layer": 1}
    ranks = pd.DataFrame(
        {
            "block": index, "labels": "observed", "positions": "kept", "replicate": 0,
            "first_rank": np.where(np.isin(rank - 1, part), rank, np.int32(NEVER)).astype(np.int32),
        }
        for index, part in enumerate(parts)
    )  # fmt: skip
    losses = {
        "model": "m", "block": 0, "document": range(n), "threshold": 0.4, "current_class": "function", "next_class": "function",
    }  # fmt: skip
    names = {"token_id": range(12), "token": list("abcdefghijkl"), "kind": "word", "rank": rank}
    knocked = {"activation": 2.0, "activation_sources_out": 0.0, "activation_controls_out": 2.0}
    tables = {
        "token_classes": pd.DataFrame({**names, "token_class": ["function"] * 2 + ["content"] * 10}),
        "dictionary_check": pd.DataFrame([{**own, "width": 12, "neuronpedia_id": ""}]),
        "block_pairs": block_pairs(ids, (np.arange(len(ids)), ids), block).assign(**own),
        "block_first_ranks": pd.concat([ranks, ranks.assign(labels="block")]).assign(**own),
        "pair_loss_documents": pd.DataFrame({**losses, "n": 2, "loss_sum_nats": range(3, 3 + n), "bigram_sum_nats": 5.0}),
        "reactivation_prompts": pd.DataFrame(
            {**own, "prompt": range(n), "token_class": "function", **knocked}
        ),
        "steering_prompts": pd.DataFrame(
            {**own, "prompt": prompt, "feature_id": 1, "where": "last", "token_class": "content", "direction": direction,
             "kl_nats": 1.0, "promoted_gain_nats": 1.0 + prompt}
            for prompt in range(n)
            for direction in ("feature", "random")
        ),
        "blocks": pd.DataFrame({"model": "m", "block": range(n), "classes_in_sample": False, "texts_left_out": 0}),
        "block_positions": pd.DataFrame(
            {**own, "block": range(n), "positions": 5, "early_positions": 0, "sink_positions": 0, "special_positions": 0}
        ),
    }  # fmt: skip
    return {**tables, **function_summaries(FunctionTokens(), tables)}


def t2i_flow(n: int) -> dict[str, pd.DataFrame]:
    """n prompts that all leak and are all repaired, items shown by each of their tokens, and a judge who is never wrong."""
    names = [f"p{index}" for index in range(n)]
    flows = pd.concat([flow_rows().assign(prompt_id=name) for name in names])
    repairs = pd.concat([repair_rows().assign(prompt_id=name) for name in names])
    prompts = pd.concat([PROMPTS.assign(prompt_id=name, group="g", leaks="x") for name in names])
    moved = pd.DataFrame({"prompt_id": names, "group": "g", "encoder": "clip", "without_after": 0.0, "alone": 0.3})
    items = pd.DataFrame([row for name in names for row in subsets(name, {"2": 1, "3": 1, "2 3": 1})])
    kept = pd.concat(
        [items.assign(variant="tokens", token_role=role, visible=seen) for role, seen in (("clean", 0.0), ("pad", 1.0))]
    )
    items = pd.concat([items, kept.drop_duplicates(["prompt_id", "token_role"])])
    pairs, chosen = before_and_after(repairs), [(name, "bat") for name in names]
    lens = pd.DataFrame(
        [row for name in names for row in lens_rows({(0, 0): 0.0, (3, 0): 1.0}, asked="leak", prompt=name)]
    )
    lens = pd.concat([lens, lens.assign(asked="own", visible=1 - lens["visible"])])
    shown = in_item(items[items["token_role"] != "clean"], 0.5)
    rates = [
        *in_item_rates(items, shown, 0.5, 0),
        *role_rates(items, "in_item", 0),
        *inter_item_rates(flows, inter_item(flows, prompts), moved, 0),
        *choice_rates(prompts, chosen, 0),
        *repair_rates(pairs, chosen, 0),
        *first_layer_rates(lens, 0.5, 0),
    ]
    vectors, labels = predictor_tokens("vector", n_items=n)
    truth = pd.DataFrame({"picture_id": names, "truth": [1, 0] * (n // 2) + [1] * (n % 2), "failure": ""})
    found: dict[str, pd.DataFrame] = {
        "rates": pd.DataFrame(rates),
        "lens_rates": lens_rates(lens, 0),
        "paired": pd.DataFrame(repair_pairs(pairs, chosen, 0)),
        "predictor": predictor_table(vectors, labels, 0),
        "judge_check": judge_check("j", truth.assign(visible=truth["truth"]), flows),
    }
    found = named(found, "m")
    return {name: checked(found[name], schema) if name in found else empty(schema) for name, schema in FLOW.items()}


def joins(n: int) -> dict[str, pd.DataFrame]:
    """Critical tokens that are all function tokens beside content; n base lists, trajectories and texts of two."""
    spread = pd.concat(
        [tokens()[lambda rows: rows["trajectory_id"] == "a"].assign(trajectory_id=f"t{i}") for i in range(n)]
    )
    critical = pd.DataFrame({"trajectory_id": [f"t{i}" for i in range(n)], "definition": "cliff", "position": 2})
    positions = token_rules(spread, CLASSES)
    matches = match_critical(positions, critical, nearby=1, uncertainty=0.2)
    lists = pd.concat(
        [
            masking((3.0, 6.0), (5.5, 6.5))[lambda rows: rows["base_list"] == 0].assign(base_list=i, trial_id=f"{i}")
            for i in range(n)
        ]
    )
    mass = class_mass({f"x{i}": {(0, 0): (1.0, 1.0, 0.1 * i), (0, 1): (0.5, 0.0, 0.5)} for i in range(n)})
    return {
        "critical_matches": matches,
        "critical_overlap": summarise_overlap(matches, positions, 0),
        "memory_change": summarise_memory_change(lists, 0),
        "attention_lift": summarise_lift(mass, [(0, 0)], [[(0, 1)]], 0),
    }


def verbatim_memory(n: int) -> dict[str, pd.DataFrame]:
    """Lists that come back cost a tenth of what they cost at first, permuted ones a half, novel ones all."""
    shared = {
        "model": "m",
        "variant": "none",
        "pool": "arbitrary",
        "context_type": "intact",
        "list_length": 3,
        "left_out_share": np.nan,
    }
    cost = {"first": 1.0, "repeat": 0.1, "permute": 0.5, "novel": 1.0}
    nouns = pd.DataFrame(
        {**shared, "trial_id": f"t{base}", "base_list": base, "condition": condition, "list_index": 1 if condition == "first" else 2,
         "intervening": 0 if condition == "first" else 1, "intervening_tokens": 9, "position": position, "mode": mode,
         "surprisal_nats": share * (10.0 + base)}
        for base in range(n)
        for condition, share in cost.items()
        for position in range(3)
        for mode in ("raw", "boundary")
    )  # fmt: skip
    masks = nouns[(nouns["mode"] == "raw") & nouns["condition"].isin(["repeat", "novel"])].assign(heads="", draw=0)
    masks = pd.concat(
        [
            masks.assign(head_set=name, control=control, k=k, surprisal_nats=masks["surprisal_nats"] * more)
            for name, control, k, more in (
                ("none", "none", 0, 1),
                ("recent", "top", 2, 3),
                ("recent", "random", 2, 1.5),
            )
        ]
    )
    found = {name: empty(schema) for name, schema in MEMORY.items()}
    return {
        **found,
        "token_surprisals": nouns,
        "masking_summary": summarise_masking(masks, nouns, 0),
        "repeat_surprisal": summarise_repeat_surprisal(nouns, 0),
        "position_curve": memory_positions(nouns, 0),
    }


WINGS: Mapping[str, Callable[[int], dict[str, pd.DataFrame]]] = {
    make.__name__: make
    for make in (retrieval_heads, critical_tokens, function_tokens, t2i_flow, joins, verbatim_memory)
}
SCHEMAS = {
    "retrieval_heads": RETRIEVAL,
    "critical_tokens": CRITICAL,
    "function_tokens": FUNCTION,
    "t2i_flow": FLOW,
    "joins": joined(MEMORY_SCHEMAS, CRITICAL_SCHEMAS, ATTENTION_SCHEMAS),
    "verbatim_memory": MEMORY,
}


@cache
def made(wing: str, n: int) -> dict[str, pd.DataFrame]:
    return WINGS[wing](n)


# ---------------------------------------------------------------------- which intervals there are


def every(_rows: pd.DataFrame) -> bool:
    return True


NO_SHARE_OF_T2I = (
    r"^(?:minimal_set_size|vectors_move_.*|first_layer_.*|rank_correlation_.*|change_when_removed|.*_change)$"
)

SHARES: Mapping[tuple[str, str, str], tuple[str, Rows]] = {
    ("retrieval_heads", "head_scores", "ci"): ("score", lambda rows: rows["definition"] == "set"),
    ("retrieval_heads", "sparsity", "ci"): ("share", every),
    ("retrieval_heads", "ablation_summary", "ci"): ("mean", lambda rows: rows["outcome"] == "recall"),
    ("retrieval_heads", "agreement", "top_k_overlap_ci"): ("top_k_overlap", every),
    ("critical_tokens", "levels", "ci"): ("success", every),
    # After the last token V is known, not estimated: 0 from 0 to 0.
    ("critical_tokens", "positions", "ci"): ("value", lambda rows: rows["position"] < 2),
    ("critical_tokens", "replacement", "ci"): ("pass_at_k", every),
    ("critical_tokens", "agreement", "auroc_ci"): ("auroc", every),
    ("critical_tokens", "agreement", "average_precision_ci"): ("average_precision", every),
    ("critical_tokens", "agreement", "top1_ci"): ("top1_hit", every),
    ("function_tokens", "pair_losses", "frequency_ci"): ("frequency", every),
    ("function_tokens", "pair_losses", "loss_share_ci"): ("loss_share", every),
    ("function_tokens", "reactivation", "lost_ci"): ("lost", every),
    ("function_tokens", "reactivation", "control_lost_ci"): ("control_lost", every),
    ("function_tokens", "reactivation", "silenced_ci"): ("silenced", every),
    ("function_tokens", "reactivation", "control_silenced_ci"): ("control_silenced", every),
    ("function_tokens", "coverage", "coverage_ci"): ("coverage_alive", every),
    ("t2i_flow", "judge_check", "ci"): ("error_rate", every),
    ("t2i_flow", "rates", "ci"): ("estimate", lambda rows: ~rows["quantity"].str.match(NO_SHARE_OF_T2I)),
    ("t2i_flow", "lens_rates", "ci"): ("estimate", every),
    ("t2i_flow", "predictor", "ci"): ("estimate", every),
    ("joins", "critical_overlap", "share_critical_ci"): ("share_critical", every),
    # Of shuffles these are percentiles of the shuffles themselves.
    ("joins", "critical_overlap", "share_control_ci"): ("share_control", lambda rows: rows["control"] != "shuffled"),
}  # fmt: skip
"""Every interval of a share: its wing, table and columns, the share, and in which rows it is one."""

NO_SHARES = {
    ("retrieval_heads", "ablation_summary", "lost_ci"),
    ("retrieval_heads", "ablation_summary", "beyond_random_ci"),
    ("retrieval_heads", "agreement", "spearman_ci"),
    ("critical_tokens", "critical", "ci"),
    ("critical_tokens", "candidates", "ci"),
    ("function_tokens", "token_degrees", "excess_ci"),
    ("function_tokens", "token_degrees", "rarefied_20_ci"),
    ("function_tokens", "coverage", "excess_ci"),
    ("function_tokens", "accumulation", "ci"),
    ("function_tokens", "pair_losses", "mean_loss_nats_ci"),
    ("function_tokens", "pair_losses", "above_bigram_nats_ci"),
    ("function_tokens", "reactivation", "beyond_control_ci"),
    ("function_tokens", "steering", "feature_ci"),
    ("function_tokens", "steering", "random_ci"),
    ("function_tokens", "steering", "beyond_random_ci"),
    ("t2i_flow", "paired", "ci"),
    ("joins", "memory_change", "ci"),
    ("joins", "critical_overlap", "difference_ci"),
    ("joins", "attention_lift", "ci"),
    ("joins", "answers", "ci"),  # copies of the others
    *(("verbatim_memory", table, "ci") for table in ("repeat_surprisal", "position_curve", "masking_summary", "checkpoints")),
    ("verbatim_memory", "masking_summary", "beyond_random_ci"),
}  # fmt: skip
OF_TRIALS = {("critical_tokens", "positions"), ("t2i_flow", "judge_check")}
"""Wilson's intervals over single draws or answers, not over clusters."""


def intervals(wing: str) -> set[tuple[str, str, str]]:
    return {
        (wing, table, column.removesuffix("_low"))
        for table, schema in SCHEMAS[wing].items()
        for column in schema.to_schema().columns
        if column.endswith("ci_low")
    }


def test_every_interval_of_every_wing_is_said_to_be_of_a_share_or_not():
    assert set().union(*map(intervals, WINGS)) == set(SHARES) | NO_SHARES
    assert not set(SHARES) & NO_SHARES


@pytest.mark.parametrize("wing", WINGS)
def test_no_share_of_none_or_all_is_certain(wing):
    tables = made(wing, SEVERAL)
    at_an_end = 0
    for (_, table, ci), (value, of) in ((key, found) for key, found in SHARES.items() if key[0] == wing):
        rows = tables[table]
        rows = rows[of(rows) & rows[value].isin([0.0, 1.0])]
        low, high = rows[f"{ci}_low"], rows[f"{ci}_high"]
        assert not (low == high).any(), (table, ci, rows[low == high].to_dict("records")[:2])
        at_an_end += int((low < high).sum())
        assert (low.dropna() >= 0).all()
        assert (high.dropna() <= 1).all()
    assert at_an_end or wing == "verbatim_memory"  # which has no shares


@pytest.mark.parametrize("wing", WINGS)
def test_one_cluster_has_no_interval_in_any_table(wing):
    tables = made(wing, 1)
    looked_at = 0
    for _, table, ci in intervals(wing):
        if table not in tables or (wing, table) in OF_TRIALS or ci == "share_control_ci":
            continue
        bounds = tables[table][[f"{ci}_low", f"{ci}_high"]]
        assert bounds.isna().all(axis=None), (table, ci)
        looked_at += len(bounds)
    assert looked_at


# ---------------------------------------------------------------------- sentences


def said(wing: str, n: int) -> str:
    tables: Any = {name: empty(schema) for name, schema in SCHEMAS[wing].items()} | made(wing, n)
    findings = {
        "retrieval_heads": lambda: retrieval_findings(RetrievalHeads(), tables),
        "critical_tokens": lambda: critical_findings(SETTINGS, tables),
        "function_tokens": lambda: function_findings(FunctionTokens(), tables),
        "t2i_flow": lambda: flow_findings(T2IFlow(), tables),
        "joins": lambda: [*find_memory(tables), *find_critical(tables), *find_attention(tables, 1)],
        "verbatim_memory": lambda: memory_findings(VerbatimMemory(conditions=("repeat", "permute", "novel")), tables),
    }
    return "\n".join(finding.text for finding in findings[wing]())


@pytest.mark.parametrize(
    ("wing", "claims"),
    [
        ("retrieval_heads", ["95% interval"]),
        ("critical_tokens", ["95% interval"]),
        ("function_tokens", ["chance gives"]),
        ("t2i_flow", ["Not only an item's own tokens carry it", "an item's vectors show the leak"]),
        (
            "joins",
            [
                "Retrieval heads carry verbatim memory", "than other tokens do", "more than their number explains", "than random heads",
                "95% intervals",
            ],
        ),
        ("verbatim_memory", ["95% interval"]),
    ],
)  # fmt: skip
def test_one_cluster_makes_no_claim_where_several_do(wing, claims):
    several, one = said(wing, SEVERAL), said(wing, 1)
    assert not [claim for claim in claims if claim not in several], several
    also_no_claim = [
        "There is no sign",
        "show no difference",
        "neither prefer nor avoid",
        "no differently",
        "no more and no fewer",
    ]
    assert not [claim for claim in [*claims, *also_no_claim, "nan"] if claim in one], one


def test_an_overlap_of_all_heads_is_as_uncertain_as_so_many_needles():
    agreement = made("retrieval_heads", SEVERAL)["agreement"].set_index(["first", "second"]).loc[("set", "count")]
    _, low, high, _ = wilson_interval(SEVERAL, SEVERAL)
    assert (agreement["top_k_overlap_ci_low"], agreement["top_k_overlap_ci_high"]) == (low, high)


# ---------------------------------------------------------------------- what cannot be


def test_wings_end_intervals_where_the_quantity_ends():
    """Over few texts that differ much, Student's interval is wider than an alpha or a surprisal can vary."""
    forgetting = pd.DataFrame(
        {
            "text_id": ["a", "a", "b", "b"], "layer": 0, "kv_head": 0, "alpha": [0.0, 1.0] * 2,
            "mass_recovered": [0.9, 0.1, 0.1, 0.9],
        }
    )  # fmt: skip
    alpha = _best_alpha(PolicySettings(), forgetting).iloc[0]
    assert (alpha["value"], alpha["ci_low"], alpha["ci_high"]) == (0.5, 0.0, 1.0)
    words = pd.DataFrame({"text_id": ["a", "b"], "mode": "raw", "word_index": 0, "surprisal_nats": [0.1, 9.0]})
    means = word_summaries(words, 0)["means"].iloc[0]
    assert means["ci_low"] == 0
    assert means["ci_high"] > 9
