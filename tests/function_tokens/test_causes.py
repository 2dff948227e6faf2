"""Knock-out and steering: the right pairs blocked, the planted source found, controls matched, effects where they belong."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from interp.models.language.recording import Weights
from interp.models.language.residuals import read_residuals
from probes.function_tokens.causes import (
    BlockedPairs,
    Case,
    activations_under_knockout,
    choose_case,
    steered,
)
from probes.function_tokens.inputs import Loaded
from probes.function_tokens.summaries import summarise_reactivation, summarise_steering
from tests.tiny_models import random_ids, tiny


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_only_the_blocked_pairs_get_no_attention(family):
    model = tiny(family)
    ids = torch.tensor([random_ids(12, 1), random_ids(12, 2)])
    blocked = torch.zeros((2, 12, 12), dtype=torch.bool)
    blocked[1, 10, [3, 5]] = True
    rows = {}
    for name, edits in (("plain", []), ("blocked", [BlockedPairs(blocked)])):
        model.hooks.edits.extend(edits)
        with model.record(torch.arange(12)[None], Weights(12)) as recording, torch.no_grad():
            model.hf(ids, use_cache=False)
        model.hooks.edits.clear()
        rows[name] = recording["weights"]  # [layer, row, head, query, key]
    assert (rows["blocked"][:, 1, :, 10, [3, 5]] == 0).all()
    assert (rows["plain"][:, 1, :, 10, [3, 5]] > 0).all()
    torch.testing.assert_close(rows["blocked"].sum(dim=-1), torch.ones_like(rows["blocked"][..., 0]))
    torch.testing.assert_close(rows["blocked"][:, 0], rows["plain"][:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(rows["blocked"][:, 1, :, :10], rows["plain"][:, 1, :, :10], atol=1e-6, rtol=0)
    first = rows["plain"][0, 1, :, 10].clone()
    first[:, [3, 5]] = 0
    torch.testing.assert_close(rows["blocked"][0, 1, :, 10], first / first.sum(dim=-1, keepdim=True), atol=1e-5, rtol=0)


def test_cases_are_features_that_come_back_with_controls_beside_their_sources():
    active = np.zeros((30, 6), dtype=bool)
    active[[5, 9, 20], 2] = True  # comes back at 20
    active[[3, 25], 4] = True  # comes back at 25, which is not wanted
    active[22, 1] = True  # is there for the first time
    active[::2, 5] = True  # is everywhere
    wanted = np.zeros(30, dtype=bool)
    wanted[[20, 22, 24]] = True
    usable = np.arange(30) >= 2
    for seed in range(5):
        assert choose_case(active, wanted, usable, np.random.default_rng(seed)) == (20, 2, (5, 9), (4, 8))
    assert choose_case(active[:, [1]], wanted, usable, np.random.default_rng(0)) is None
    early = active.copy()
    early[20, 2], early[12, 2] = False, True  # comes back too early to have a context
    assert choose_case(early, wanted | (np.arange(30) == 12), usable, np.random.default_rng(0)) is None


def test_sources_that_may_not_be_used_are_no_sources():
    active = np.zeros((30, 1), dtype=bool)
    active[[1, 20], 0] = True
    wanted = np.arange(30) == 20
    assert choose_case(active, wanted, np.arange(30) >= 4, np.random.default_rng(0)) is None


def test_sources_and_controls_are_knocked_out_in_readings_of_their_own():
    """The three activations of a case are those of three forward passes made one by one."""
    model = tiny("llama")
    loaded = object.__new__(Loaded)  # no dictionary on disk: every residual dimension is a feature
    object.__setattr__(loaded, "dictionary", SimpleNamespace(layer=2, encode=lambda vectors: vectors.float()))
    ids = torch.tensor([random_ids(16, 1), random_ids(16, 2)])
    cases = [Case(0, 1, "content", 12, 5, (2, 7), (3, 8)), Case(1, 0, "function", 15, 9, (4,), (6,))]
    together = activations_under_knockout(model, loaded, ids, cases)
    for row, case in enumerate(cases):
        for column, keys in enumerate(((), case.sources, case.controls)):
            blocked = torch.zeros((1, 16, 16), dtype=torch.bool)
            blocked[0, case.position, list(keys)] = True
            model.hooks.edits.append(BlockedPairs(blocked))
            alone = read_residuals(model, ids[case.window : case.window + 1], [2])[2][0, case.position, case.feature]
            model.hooks.edits.clear()
            assert float(together[row, column]) == pytest.approx(float(alone), abs=1e-5)
    assert len({round(value, 5) for value in together[0].tolist()}) == 3


def test_the_summary_of_knockouts_by_hand():
    table = pd.DataFrame(
        {
            "dictionary": "d",
            "layer": 1,
            "token_class": ["function", "function", "content"],
            "prompt": [0, 2, 1],
            "activation": [2.0, 4.0, 1.0],
            "activation_sources_out": [0.0, 2.0, 1.0],
            "activation_controls_out": [2.0, 3.0, 1.0],
        }
    )
    summary = summarise_reactivation(table).set_index("token_class")
    row = summary.loc["function"]
    assert (row["lost"], row["control_lost"], row["beyond_control"], row["silenced"]) == (0.75, 0.125, 0.625, 0.5)
    assert summary.at["content", "lost"] == 0.0
    assert summary["n_prompts"].to_dict() == {"content": 1, "function": 2}


def test_prompts_whose_feature_is_gone_when_read_again_are_left_out():
    table = pd.DataFrame(
        {
            "dictionary": "d",
            "layer": 1,
            "token_class": "function",
            "prompt": [0, 2, 4],
            "activation": [2.0, 0.0, 4.0],
            "activation_sources_out": [1.0, 0.0, 2.0],
            "activation_controls_out": [2.0, 0.0, 4.0],
        }
    )
    (row,) = summarise_reactivation(table).itertuples()
    assert (row.n_prompts, row.lost, row.control_lost, row.silenced) == (2, 0.5, 0.0, 0.0)


def test_steering_by_nothing_does_nothing_and_acts_only_from_its_position_on():
    model = tiny("llama")
    ids = torch.tensor(random_ids(10, 3))
    vectors = torch.stack([torch.zeros(64), 4 * torch.randn(64, generator=torch.Generator().manual_seed(0))])
    outcome = steered(model, 1, ids, 9, vectors, torch.tensor([5, 6]))
    assert outcome[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert outcome[1, 0] > 1e-3
    with torch.no_grad():
        from interp.models.language.residuals import changed_residuals

        def add(x):
            x = x.clone()
            x[:, 9] += vectors[1]
            return x

        clean = torch.log_softmax(model.hf(ids[None]).logits[0, -1].double(), dim=-1)
        with changed_residuals(model, 1, add):
            changed = torch.log_softmax(model.hf(ids[None]).logits[0, -1].double(), dim=-1)
    divergence = float((changed.exp() * (changed - clean)).sum())
    gain = float(torch.logsumexp(changed[[5, 6]], 0) - torch.logsumexp(clean[[5, 6]], 0))
    assert outcome[1].tolist() == pytest.approx([divergence, gain], abs=1e-4)


def test_the_summary_of_steering_pairs_feature_and_random_direction():
    rows = [
        {"prompt": prompt, "direction": name, "kl_nats": value, "promoted_gain_nats": -value}
        for prompt in range(3)
        for name, value in (("feature", 2.0 + prompt), ("random", 1.0 + prompt))
    ]
    table = pd.DataFrame(rows).assign(dictionary="d", layer=1, where="last", token_class="function")
    summary = summarise_steering(table).set_index("outcome")
    assert summary.loc["kl_nats", ["feature", "random", "beyond_random"]].tolist() == [3.0, 2.0, 1.0]
    assert summary.at["promoted_gain_nats", "beyond_random_ci_low"] == -1.0
