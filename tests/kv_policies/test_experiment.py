"""A whole run on a tiny model, its tables and sentences; what is planned, summed up and refused."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.retention.contract import evictable_layers
from interp.retention.policies.baselines import Random
from interp.retention.policies.catalogue import OWN, build, options_of
from interp.tables import checked, empty, named
from probes.kv_policies import dynamics, materials
from probes.kv_policies.dynamics import forgetting, largest_gaps, shuffled_after_birth, stale_mass
from probes.kv_policies.experiment import KvPolicies
from probes.kv_policies.heads import ranked_heads, spared
from probes.kv_policies.plan import DynamicsUnit, HeadsUnit, TextUnit, conditions_of, random_heads
from probes.kv_policies.summaries import shares_of
from tests.kv_policies.test_materials import NEWS, model_of

FACTS = ModelFacts(ModelIdentity("tiny", "tests", "0", "float32"), "llama", HeadGeometry(3, 4, 2, 16), 2048)
SMALL = KvPolicies(
    policies=("random", "snapkv(window=4)", "razor", "razor_plain", "oracle"), budgets=(0.2, 0.5), prompt_tokens=300, recent=4,
    prose_texts=2, lists=2, list_words=3, needles=2, finding_needles=2, restored_k=(1,), random_draws=1, dynamics_texts=1, role_share=0.25,
)  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    patch = pytest.MonkeyPatch()
    patch.setattr(materials, "news_articles", lambda: NEWS * 4)
    patch.setattr(dynamics, "RECURRENCE_TOKENS", 40)
    model = model_of("byte-level")
    schemas = SMALL.schemas()
    measured = {name: empty(schema) for name, schema in schemas.items()}
    done = set()
    while waiting := [unit for unit in SMALL.plan(model.facts, measured) if unit.id not in done]:
        for unit in waiting:
            for name, frame in named(SMALL.measure(model, unit), "tiny").items():
                measured[name] = pd.concat([measured[name], checked(frame, schemas[name])], ignore_index=True)
            done.add(unit.id)
    patch.undo()
    found = named(SMALL.summarise(model.facts, measured), "tiny")
    return {**measured, **{name: checked(frame, schemas[name]) for name, frame in found.items()}}


def test_a_run_fills_every_table(tables):
    assert not [name for name, table in tables.items() if not len(table)]
    losses = tables["policies"]
    full = losses[losses["policy"] == "full"]
    assert (full["change_nats"].abs() < 1e-5).all()
    assert (full["mass_recovered"] > 0.9999).all()
    assert set(losses["policy"]) == {"full", *SMALL.policies}
    assert (losses["n_layers"] == 1).all()


def test_heads_that_all_have_a_role_have_no_others_beside_them(tables):
    every = dataclasses.replace(SMALL, role_share=0.99)
    found = named(every.summarise(model_of("byte-level").facts, tables), "tiny")
    assert not len(checked(found["roles"], every.schemas()["roles"]))
    assert every.findings({**tables, **found})
    assert "roles" not in every.figures({**tables, **found})


def test_what_is_planned_beforehand_is_what_is_then_measured_and_read(tables, monkeypatch):
    monkeypatch.setattr(materials, "news_articles", lambda: NEWS * 4)
    model = model_of("byte-level")
    nothing = {name: empty(schema) for name, schema in SMALL.schemas().items()}
    expected, planned = SMALL.expected_units(model, nothing), SMALL.plan(model.facts, tables)
    assert [unit.id for unit in expected] == [unit.id for unit in planned]
    extend, read = type(model).extend, []
    monkeypatch.setattr(
        type(model),
        "extend",
        lambda self, rows, ids, **how: read.extend(map(len, ids)) or extend(self, rows, ids, **how),
    )
    for guess, unit in zip(expected, planned, strict=True):
        if not isinstance(unit, DynamicsUnit):
            read.clear()
            SMALL.measure(model, unit)
            assert sum(read) == SMALL.work_of(model, guess).tokens_read == SMALL.work_of(model, unit).tokens_read


def test_two_models_are_compared_policy_by_policy(tables):
    found, figures = SMALL.compare({"one": tables, "other": tables})
    table = found["comparison"]
    assert set(table["run"]) == {"one", "other"}
    assert len(table) == 2 * len(tables["policies"])
    assert set(figures) == {"comparison"}
    shown = [trace for trace in figures["comparison"].data if trace.name == "other"]
    one = tables["policies"].query("policy == 'razor' and material == 'prose' and budget == 0.2")["change_nats"].iloc[0]
    assert any(one in trace.x for trace in shown)


def test_runs_that_share_the_full_cache_alone_are_not_compared(tables):
    policies = tables["policies"]
    other = policies.assign(budget=policies["budget"].where(policies["policy"] == "full", 0.9))
    with pytest.raises(ArgumentError, match="in common but the full cache: give them the same settings"):
        SMALL.compare({"one": tables, "other": {**tables, "policies": other}})


def test_keep_sets_in_tables_are_as_large_as_asked(tables):
    kept = tables["kept"]
    rows = kept[(kept["policy"] == "random") & (kept["budget"] == 0.2)]
    assert (rows["mean_kept"] >= 60).all()
    assert (rows["peak_kept"] <= 60 + rows["n_keys"] - 300).all()


def test_the_oracle_recovers_the_most_mass_of_the_policies_that_keep_as_many(tables):
    losses = (
        tables["policies"]
        .set_index(["material", "scope", "protection", "budget", "policy"])["mass_recovered"]
        .unstack()
        .dropna(subset="oracle")
    )
    assert (losses["oracle"] >= losses["random"]).all()
    assert (losses["oracle"] >= losses["snapkv(window=4)"] - 1e-6).all()


def test_stand_ins_never_have_more_mass_than_what_they_stand_for(tables):
    ratio = tables["head_losses"].dropna(subset="stand_in_ratio")
    assert set(ratio["policy"]) == {"razor"}
    assert "razor_plain" in set(tables["head_losses"]["policy"])
    assert (ratio["stand_in_ratio"] <= 1 + 1e-5).all()


def test_pairs_of_policies_differ_by_what_the_table_says(tables):
    by_text = tables["token_losses"].query("head_set == 'razor' or policy == 'razor_plain'")
    rows = by_text[(by_text["protection"] == "sinks_recent") & (by_text["material"] == "lists")]
    means = rows.groupby(["policy", "budget", "text_id"])["surprisal_nats"].mean().groupby(["policy", "budget"]).mean()
    found = tables["variants"].query("material == 'lists' and quantity == 'change_nats'").set_index("budget")["value"]
    for budget in (0.2, 0.5):
        assert found[budget] == pytest.approx(means["razor", budget] - means["razor_plain", budget], abs=1e-5)


def test_the_parts_of_a_prompt_together_hold_what_is_kept(tables):
    kept, parts = (tables[name].query("policy == 'random'") for name in ("kept", "kept_depths"))
    assert sorted(parts["depth_fraction"].unique()) == [0, 0.2, 0.4, 0.6, 0.8]
    row = kept[(kept["budget"] == 0.2) & (kept["protection"] == "sinks_recent")].iloc[0]
    mine = parts[(parts["text_id"] == row["text_id"]) & (parts["budget"] == 0.2) & (parts["scope"] == row["scope"])]
    mine = mine[mine["protection"] == "sinks_recent"]
    assert mine["kept_share"].sum() * 300 / 5 == pytest.approx(60, abs=1e-3)
    assert mine.set_index("depth_fraction")["kept_share"][0] > 4 / 60


def test_stored_bytes_count_stand_ins(tables):
    losses = tables["policies"].query("material == 'prose' and budget == 0.2 and protection == 'sinks_recent'")
    losses = losses.set_index("policy")
    n_keys = 300 + 17
    assert losses["bytes_share"]["razor"] * n_keys == pytest.approx(losses["mean_kept"]["razor"] + 1)
    assert losses["bytes_share"]["razor_plain"] * n_keys == pytest.approx(losses["mean_kept"]["razor_plain"])
    assert losses["bytes_share"]["oracle"] == 1


def test_figures_and_sentences_come_from_the_tables(tables):
    figures = SMALL.figures(tables)
    assert set(figures) == {
        "restored",
        "losses",
        "head_map",
        "kept_tokens",
        "depths",
        "variants",
        "roles",
        "stale",
        "best_alpha",
        "recurring",
    }
    assert all(figure.layout.meta["caption"] for figure in figures.values())
    texts = [finding.text for finding in SMALL.findings(tables)]
    assert any("k=1" in text for text in texts)
    assert not [text for text in texts if "nan" in text]


def test_needles_with_another_unit_of_heads_are_planned_once_heads_are_known():
    nothing = {name: empty(schema) for name, schema in SMALL.schemas().items()}
    assert not [unit for unit in SMALL.plan(FACTS, nothing) if isinstance(unit, TextUnit)]
    assert [unit.id for unit in SMALL.plan(FACTS, nothing) if isinstance(unit, HeadsUnit)] == [
        "heads-000",
        "heads-repeats",
    ]


def test_every_policy_meets_the_first_protection_at_every_budget_and_the_others_at_the_middle_one():
    ranking = {
        role: [(layer, head) for layer in range(3) for head in range(2)] for role in ("retrieval", "induction", "echo")
    }
    found = list(conditions_of(SMALL, FACTS, ranking))
    assert [(one.protection, one.budget) for one in found if one.policy == "random"] == [
        ("sinks_recent", 0.2), ("sinks_recent", 0.5), ("none", 0.5),
    ]  # fmt: skip
    assert found[0].policy == "full"


def test_random_heads_are_others_in_the_same_or_nearest_layers():
    top = [(1, 0), (1, 1), (0, 0)]
    drawn = random_heads(top, FACTS.geometry, (0, 3, 0))
    assert len(set(drawn)) == 3
    assert not set(drawn) & set(top)
    assert (0, 1) in drawn


def test_random_heads_of_a_hybrid_model_are_in_layers_that_have_heads():
    hybrid = HeadGeometry(6, 4, 2, 16, only_in=(1, 4))
    assert {layer for layer, _ in random_heads([(1, 0), (1, 1)], hybrid, (0, 2, 0))} == {4}


def test_razor_spares_two_shares():
    ranking = {role: [(layer, 0) for layer in range(100)] for role in ("induction", "retrieval")}
    ranking["echo"] = [(layer, 0) for layer in reversed(range(100))]
    assert spared("razor", ranking, 0.1) == tuple((layer, 0) for layer in [*range(14), 99])
    assert spared("retrieval", ranking, 0.1) == tuple((layer, 0) for layer in range(10))


def test_shares_of_variance_by_hand():
    means = np.array([[[0.0, 0.0], [2.0, 2.0]], [[0.0, 4.0], [0.0, 4.0]], [[1.0, -1.0], [-1.0, 1.0]]])
    np.testing.assert_allclose(shares_of(means), np.eye(3), atol=1e-12)


def test_heads_that_keep_the_whole_prompt_their_controls_and_roles_are_of_layers_that_policies_act_on(monkeypatch):
    monkeypatch.setattr(materials, "news_articles", lambda: NEWS * 4)
    model = model_of("byte-level", "gemma3_text", sliding_window=16)
    layers = set(evictable_layers(model, 400))
    assert 0 < len(layers) < model.n_layers
    asked = dataclasses.replace(SMALL, policies=("duo", "razor"), restored_k=(1,))
    nothing = {name: empty(schema) for name, schema in asked.schemas().items()}
    units = [unit for unit in asked.plan(model.facts, nothing) if isinstance(unit, HeadsUnit)]
    scores = pd.concat([asked.measure(model, unit)["head_scores"] for unit in units], ignore_index=True)
    windowed = min(set(range(model.n_layers)) - layers)
    given = pd.DataFrame({"layer": [windowed, min(layers)], "head": [0, 0]})
    for ranking in (None, given):
        roles = ranked_heads(scores, ranking)
        assert {layer for heads in roles.values() for layer, _ in heads} == layers
    planned = asked.plan(model.facts, {**nothing, "head_scores": named({"head_scores": scores}, "tiny")["head_scores"]})
    sets = {(one.head_set, one.heads) for unit in planned if isinstance(unit, TextUnit) for one in unit.conditions}
    assert {name for name, heads in sets if heads} == {"retrieval", "razor", "best", "random"}
    assert {layer for _, heads in sets for layer, _ in heads} <= layers
    expected = asked.expected_units(model, nothing)
    texts = [[unit for unit in part if isinstance(unit, TextUnit)] for part in (expected, planned)]
    assert [len(unit.conditions) for unit in texts[0]] == [len(unit.conditions) for unit in texts[1]]


def test_retrieval_heads_that_copy_nothing_are_told_of(tables):
    scores = tables["head_scores"]
    copying = scores["role"] == "retrieval"
    said = [
        [one.text for one in SMALL.findings({**tables, "head_scores": part}) if "copied no token" in one.text]
        for part in (scores.assign(score=scores["score"].where(~copying, value)) for value in (0.0, 0.5))
    ]
    assert [len(texts) for texts in said] == [1, 0]


def test_given_heads_of_layers_that_no_policy_acts_on_are_told_of(tables):
    scored = tables["head_scores"]["layer"].unique()
    for layers, n_told in ((scored, 0), ([*scored, scored.max() + 1], 1)):
        given = pd.DataFrame(
            {"layer": layers, "head": 0, "kv_head": 0, "score": 1.0, "rank": range(1, len(layers) + 1)}
        )
        given = given.assign(model="tiny", kind="set", per_kv_head=False, named_model="")
        texts = [one.text for one in SMALL.findings({**tables, "heads_from": given})]
        assert sum("are passed over" in text for text in texts) == n_told


# ---------------------------------------------------------------------- dynamics, planted


def test_stale_keys_lose_what_moves_and_keep_what_stays():
    n = 200
    stays = torch.zeros(1, n, n)
    stays[0, :, 5] = 1.0
    moves = torch.zeros(1, n, n)
    moves[0, torch.arange(n), (torch.arange(n) * 7) % torch.arange(1, n + 1)] = 1.0
    for weights, wanted in ((stays, 1.0), (moves, None)):
        found = stale_mass(weights, weights, 8).groupby("lag")["mass_stale"].mean()
        assert (found == 1.0).all() if wanted else found.min() < 0.5
        assert (stale_mass(weights, weights, 8)["mass_oracle"] == 1.0).all()


def test_gaps_by_hand_and_their_shuffle():
    active = np.zeros((8, 8), dtype=bool)
    active[[0, 1, 6], 0] = True
    active[3, 3] = True
    assert largest_gaps(active)[[0, 3, 4]].tolist() == [5, 1, 0]
    shuffled = shuffled_after_birth(active, np.random.default_rng(0))
    assert (shuffled.sum(axis=0) == active.sum(axis=0)).all()
    assert not np.triu(shuffled, 1).any()


def test_forgetting_is_best_at_once_where_only_the_last_query_tells():
    n = 80
    lists = torch.full((1, n, n), 1e-6)
    lists[0, :39, 3] = 1.0  # the first half reads key 3, but its last query and the second half key 20
    lists[0, 39:, 20] = 1.0
    found = forgetting(lists.tril(), 1).set_index("alpha")["mass_recovered"]
    assert found[0.0] > 0.99
    assert found[1.0] < 0.01


# ---------------------------------------------------------------------- names and refusals


def test_every_policy_of_the_toolkit_is_built_by_its_name():
    for name in OWN:
        assert dataclasses.is_dataclass(build(name)), name
    assert build("random(draw=3)") == Random(draw=3)
    assert options_of("keyformer(noise=normal, tau_init=0.5)") == {"noise": "normal", "tau_init": 0.5}
    assert build("docs.example_policy.odd_values:OddValues(power=0.5)").power == 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(policies=("snapvk",)), "Did you mean snapkv"),
        (dict(policies=("snapkv(4)",)), "is no policy: write it as"),
        (dict(policies=("snapkv(windw=4)",)), "has no option windw. Did you mean window"),
        (dict(policies=("no.such.module:Policy",)), "give module:Class"),
        (dict(policies=("math:sqrt",)), "is no policy: make it"),
        (dict(policies=()), "needs at least one name"),
        (dict(budgets=(0.0,)), "above 0"),
        (dict(budgets=(1.5,)), "at most 1"),
        (dict(budgets=(0.001,)), "less than one of"),
        (dict(budgets=(0.04,)), "sinks_recent protects 20 tokens"),
        (dict(policies=("snapkv(window=90)",)), "keeps at least 91 keys"),
        (dict(policies=("streaming(sinks=90)",)), "Streaming always keeps"),
        (dict(prompt_tokens=2000), "use --prompt-tokens up to 1952"),
        (dict(materials=()), "needs at least one"),
        (dict(protections=("needle", "none")), "name another protection first"),
        (dict(protections=("none", "needle"), materials=("prose",)), "which prose have not"),
        (dict(protections=("boundaries",), budgets=(0.02,)), "boundaries protects a tenth"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        KvPolicies(**options).check_model(FACTS)


def test_heads_of_another_model_are_refused(tmp_path):
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"9-1": [0.9, 0.8], "0-1": [0.2, 0.1]}), encoding="utf-8")
    with pytest.raises(ArgumentError, match="has 3 layers of 4 heads"):
        KvPolicies(heads_from=path).check_model(FACTS)


def test_a_policy_that_needs_a_rotary_embedding_is_left_out_or_refused():
    gpt2 = dataclasses.replace(FACTS, model_type="gpt2")
    assert "expected" not in KvPolicies().chosen(gpt2)
    assert "expected" in KvPolicies().chosen(FACTS)
    with pytest.raises(ArgumentError, match="leave it out of --policies"):
        KvPolicies(policies=("expected",)).check_model(gpt2)


@pytest.mark.parametrize("preset", KvPolicies.presets)
def test_presets_fit_the_default_model(preset):
    KvPolicies(**KvPolicies.presets[preset]).check_model(FACTS)
    assert math.isfinite(KvPolicies(**KvPolicies.presets[preset]).main_budget)
