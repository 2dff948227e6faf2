"""Each policy on attention that was planted, with the keep set or score worked out by hand."""

import ast
import dataclasses
import importlib
import inspect
import math
import textwrap

import pytest
import torch

from interp.errors import ArgumentError
from interp.retention.contract import Setting, check_room
from interp.retention.losses import oracle_overlap
from interp.retention.policies.base import Evict, best
from interp.retention.policies.baselines import Full, HeadSplit, KeyDiff, KNorm, Oracle, Streaming, Strided
from interp.retention.policies.catalogue import OWN
from interp.retention.policies.evict import (
    A2SF,
    AdaKV,
    H2OMean,
    H2OSum,
    Keyformer,
    LastQuery,
    Lazy,
    PyramidKV,
    SnapKV,
    Tova,
)
from interp.retention.policies.expected import Expected
from interp.retention.policies.layer import Allowance, Rotation, grouped
from interp.retention.policies.per_query import ActQKV, Landmark, Quest, Recycled, TokenSelect
from interp.retention.policies.pool import Core, Razor
from tests.kv_policies.layers import ONE, allowing, planted, stepped

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def kept(policy, prompt, n, steps=1, **protected):
    layer = stepped(prompt, noise(1, len(prompt.calls[0].query[0]), steps, prompt.n + steps))
    return [
        row.nonzero().squeeze(-1).tolist() for row in policy.keep(layer, allowing(n, **protected))[0, :, -1, : prompt.n]
    ]


def test_streaming_keeps_the_first_and_the_last():
    assert kept(Streaming(sinks=2), planted(noise(2, 10, 10)), 5) == [[0, 1, 7, 8, 9]]


def test_strided_keeps_evenly_spaced_tokens_and_the_last():
    assert kept(Strided(), planted(noise(2, 12, 12)), 6) == [[0, 4, 8, 9, 10, 11]]


def test_knorm_keeps_short_keys_and_keydiff_the_odd_one_out():
    keys = torch.tensor([[3.0, 0], [1.0, 0], [2.0, 0], [0, -0.5]])[None, None]
    prompt = planted(noise(1, 4, 4), keys=keys)
    assert kept(KNorm(), prompt, 2) == [[1, 3]]
    assert kept(KeyDiff(), prompt, 1) == [[3]]


def three_queries():
    """Weights of two heads: rows (1), (.5 .5), (.2 .2 .6) and (1), (.9 .1), (.6 .3 .1)."""
    rows = [[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6]], [[1.0, 0, 0], [0.9, 0.1, 0], [0.6, 0.3, 0.1]]]
    return planted(torch.tensor(rows).clamp(min=1e-9).log())


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (H2OSum(), [[1.7, 0.7, 0.6], [2.5, 0.4, 0.1]]),
        (H2OMean(), [[1.7 / 3, 0.35, 0.6], [2.5 / 3, 0.2, 0.1]]),
        (LastQuery(), [[0.2, 0.2, 0.6], [0.6, 0.3, 0.1]]),
        (A2SF(alpha=0.5), [[0.7, 0.45, 0.6], [1.3, 0.35, 0.1]]),
        (Tova(), [[0.4, 0.25, 2.0]]),
    ],
    ids=repr,
)
def test_scores_of_attention_by_hand(policy, wanted):
    torch.testing.assert_close(policy.scores(three_queries())[0], torch.tensor(wanted), atol=1e-6, rtol=0)


def test_forgetting_nothing_is_h2o_and_all_is_the_last_query():
    prompt = planted(noise(2, 20, 20))
    torch.testing.assert_close(A2SF(alpha=1.0).scores(prompt), H2OSum().scores(prompt))
    torch.testing.assert_close(A2SF(alpha=0.0).scores(prompt), LastQuery().scores(prompt))


def test_a_smaller_alpha_prefers_younger_keys():
    prompt = planted(0.1 * noise(1, 60, 60))
    places = [A2SF(alpha=alpha).scores(prompt)[0, 0].topk(10).indices.float().mean() for alpha in (1.0, 0.8)]
    assert places[0] == 4.5 < places[1], "sums prefer what most queries have seen: the first ten"


def test_heads_of_a_group_are_reduced_as_a_loop_does():
    values = noise(2, 6, 5)
    for reduction, of in (("mean", torch.mean), ("sum", torch.sum), ("max", torch.amax)):
        wanted = torch.stack([of(values[:, [2 * list_, 2 * list_ + 1]], dim=1) for list_ in range(3)], dim=1)
        torch.testing.assert_close(grouped(values, 3, reduction), wanted)


def test_snapkv_smooths_votes_and_keeps_its_window():
    logits = torch.full((1, 12, 12), -9.0)
    logits[0, -2:, 4] = 9.0
    prompt = planted(logits)
    scores = SnapKV(window=2, kernel=3).scores(prompt)[0, 0]
    torch.testing.assert_close(scores[3:6], torch.full((3,), 1 / 3), atol=1e-4, rtol=0)
    assert kept(SnapKV(window=2, kernel=3), prompt, 5) == [[3, 4, 5, 10, 11]]


def test_pyramidkv_falls_with_depth_and_means_the_budget():
    n = [
        int(
            PyramidKV(window=4).allotted(
                noise(1, 1, 40), allowing(14), planted(noise(1, 40, 40), n_layers=5, layer=layer)
            )
        )
        for layer in range(5)
    ]
    assert n == sorted(n, reverse=True)
    assert sum(n) / 5 == pytest.approx(14, abs=0.5)
    assert n[-1] == 4 + round(10 / 20)


def test_adakv_gives_more_to_the_head_that_spreads():
    logits = torch.full((2, 20, 20), -5.0)
    logits[0, :, 2] = 5.0  # one key is all that the first head reads
    logits[1, :, 5:15] = 2.0
    n = AdaKV(window=2, kernel=1).allotted(
        SnapKV(window=2, kernel=1).scores(planted(logits)), allowing(8), planted(logits)
    )
    assert n.sum() == 16
    assert n[0, 1] > n[0, 0] >= 2


def test_keyformer_without_noise_sums_the_weights_of_its_temperature():
    prompt = planted(noise(2, 9, 9))
    wanted = torch.softmax(prompt.logits() / 2, dim=-1).sum(dim=2)
    torch.testing.assert_close(Keyformer(noise="none", tau_init=2.0).scores(prompt), wanted)
    assert Keyformer(draw=0).scores(prompt).ne(Keyformer(draw=1).scores(prompt)).any()
    assert Keyformer().scores(prompt).equal(Keyformer().scores(prompt))


def lazy_scores(form, active):
    """Scores of key 0, active at these steps of 60 and read at the last."""
    logits = torch.full((1, 60, 60), -30.0)
    logits[0, range(60), range(60)] = 0.0
    logits[0, active, 0] = 0.0
    policy = Lazy(form=form, alpha=0.01)
    return float(policy.ranked(policy.scores(planted(logits)), 60)[0, 0, 0])


@pytest.mark.parametrize(
    ("form", "active", "wanted"),
    [
        ("code", [0], 1.0),  # never after its birth: for ever 1
        ("code", list(range(60)), 1.5379),
        ("code", [0, 9, 59], 0.5379),  # it comes back after 50 steps
        ("notes", list(range(60)), 1.0 + 2 / (1 + math.e)),
        ("notes", [0, 9, 59], 1.0 + 2 / (1 + math.exp(1 / 50))),
    ],
)
def test_lazy_scores_by_hand(form, active, wanted):
    assert lazy_scores(form, active) == pytest.approx(wanted, abs=1e-4)


def test_head_split_spares_the_heads_that_it_is_told():
    assert kept(HeadSplit(heads=((0, 1),), sinks=1), planted(noise(2, 6, 6)), 2) == [[0, 5], list(range(6))]


def test_the_oracle_recovers_most_mass_of_all_lists_of_its_size():
    layer = stepped(planted(noise(2, 12, 12)), noise(1, 2, 3, 15))
    mass = (layer.weights * Oracle().keep(layer, allowing(4)))[..., :12].sum(-1)
    for _ in range(200):
        chosen = torch.randperm(12, generator=GENERATOR)[:4]
        assert (layer.weights[..., chosen].sum(-1) <= mass + 1e-6).all()


def test_quest_bounds_every_key_of_its_page():
    keys, queries = noise(1, 1, 10, 4), noise(1, 2, 3, 4)
    layer = stepped(planted(noise(2, 10, 10), keys=keys), noise(1, 2, 3, 13), queries=queries)
    assert (Quest(block=4).scores(layer) >= queries @ keys.mT - 1e-5).all()


def test_tokenselect_votes_with_its_own_group_and_modulo_with_another():
    keys = torch.zeros(1, 2, 4, 2)
    keys[0, 0, 1] = keys[0, 1, 2] = torch.tensor([9.0, 0.0])
    queries = torch.tensor([[1.0, 0], [1.0, 0], [0, 0], [0, 0]]).view(1, 4, 1, 2)  # only the first group asks
    layer = stepped(planted(noise(4, 4, 4), keys=keys), noise(1, 4, 1, 5), queries=queries)
    assert TokenSelect().scores(layer)[0, 0, 0].argsort(descending=True)[0] == 1
    votes = TokenSelect(modulo=True).scores(layer)[0, 0, 0]
    assert votes[1] == pytest.approx(float(votes[2]))


def test_recycled_reads_the_keys_of_the_last_full_step():
    logits = noise(1, 1, 4, 14)
    scores = Recycled(stride=2).scores(stepped(planted(noise(1, 10, 10)), logits))
    assert scores[:, :, 1].equal(scores[:, :, 0])
    assert scores[:, :, 3].equal(scores[:, :, 2])
    assert not scores[:, :, 2].equal(scores[:, :, 0])


def test_recycled_looks_anew_at_every_fifth_step_whose_query_has_turned():
    queries = torch.tensor([[1.0, 0]] * 7 + [[0.0, 1]] * 5).view(1, 1, 12, 2)
    layer = stepped(planted(noise(1, 10, 10), keys=noise(1, 1, 10, 2)), noise(1, 1, 12, 22), queries=queries)
    scores = Recycled(stride=50, refresh=0.8).scores(layer)
    same = [step for step in range(1, 12) if scores[:, :, step].equal(scores[:, :, step - 1])]
    assert same == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]  # step 5 has not turned, step 10 has
    assert len(Recycled(stride=50).scores(layer).unique(dim=2)[0, 0]) == 1


def test_landmarks_are_the_last_delimiters_of_their_blocks():
    keys, queries = noise(1, 1, 8, 3), noise(1, 1, 1, 3)
    prompt = planted(noise(1, 8, 8), keys=keys)
    object.__setattr__(prompt, "delimiters", (0, 1))
    layer = stepped(prompt, noise(1, 1, 1, 9), queries=queries)
    raw = (queries @ keys.mT)[0, 0, 0]
    torch.testing.assert_close(Landmark(block=4).scores(layer)[0, 0, 0], raw[[1] * 4 + [7] * 4])


def test_actqkv_weighs_the_unusual_token():
    keys, usual, odd = torch.zeros(1, 1, 8, 2), torch.tensor([1.0, 0]), torch.tensor([0, 4.0])
    keys[0, 0, :4], keys[0, 0, 4:] = usual, odd
    prompt = planted(noise(1, 8, 8), keys=keys)
    queries = torch.stack([usual + 0.1 * noise(2) for _ in range(8)])
    object.__setattr__(prompt.calls[0], "query", queries[None, None])
    still = Rotation(torch.ones(20, 2), torch.zeros(20, 2))
    object.__setattr__(prompt, "rotation", still)
    layer = stepped(prompt, noise(1, 1, 1, 9), queries=odd.view(1, 1, 1, 2))
    weighted, even = (ActQKV(block=4, window=4, weighted=flag).scores(layer)[0, 0, 0, [0, 4]] for flag in (True, False))
    assert weighted[1] > weighted[0]
    assert weighted[1] - weighted[0] > even[1] - even[0]


def test_actqkv_takes_statistics_of_all_layers_if_asked():
    still, odd = Rotation(torch.ones(20, 2), torch.zeros(20, 2)), torch.tensor([0, 4.0])
    prompts = {}
    for layer, usual in enumerate(
        (torch.tensor([1.0, 0]), odd)
    ):  # the other layer's queries are what is odd in this one
        prompt = planted(noise(1, 8, 8), keys=noise(1, 1, 8, 2), layer=layer)
        object.__setattr__(prompt.calls[0], "query", (usual + 0.1 * noise(8, 2))[None, None])
        object.__setattr__(prompt, "rotation", still)
        object.__setattr__(prompt, "text", prompts)
        prompts[layer] = prompt
    steps = stepped(prompts[0], noise(1, 1, 1, 9), queries=odd.view(1, 1, 1, 2))
    even, shared, own = (
        ActQKV(block=4, window=4, **options).scores(steps)[0, 0, 0, 0]
        for options in ({"weighted": False}, {"shared": True}, {})
    )
    assert abs(shared - even) < abs(own - even), "what is odd in one layer is not among all"


# ---------------------------------------------------------------------- stand-ins


def test_the_compensation_token_is_the_mean_key_and_never_has_more_mass_than_what_it_stands_for():
    keys, queries, values = noise(1, 2, 12, 4), noise(1, 2, 3, 4), noise(1, 2, 12, 5)
    prompt = planted(noise(2, 12, 12), keys=keys, values=values)
    scores = torch.cat([queries @ keys.mT, noise(1, 2, 3, 3)], dim=-1)
    layer = stepped(prompt, scores, queries=queries)
    keep = Razor(sinks=2).keep(layer, allowing(5))
    stood = Razor().stand_ins(layer, keep)
    gone = ~keep[0, 0, 0, :12]
    mean_key, mean_value = keys[:, :, gone].mean(dim=2), values[:, :, gone].mean(dim=2)
    column = torch.einsum("rhsd,rhd->rhs", queries, mean_key) + math.log(int(gone.sum()))
    torch.testing.assert_close(stood.logsumexp(dim=-1), column, atol=1e-5, rtol=1e-5)
    assert (column <= layer.logits[..., :12][..., gone].logsumexp(dim=-1) + 1e-6).all(), "Jensen"
    merged = torch.softmax(torch.where(keep, layer.logits, stood), dim=-1)
    written = merged[..., :12][..., gone] @ values[:, :, gone]
    weight = merged[..., :12][..., gone].sum(dim=-1, keepdim=True)
    torch.testing.assert_close(written, weight * mean_value[:, :, None], atol=1e-5, rtol=1e-5)
    assert Razor(compensate=False).stand_ins(layer, keep).isneginf().all()


@pytest.mark.parametrize("pool", ["mean", "last_query"])
def test_core_tokens_are_weighted_means_of_their_groups(pool):
    keys, queries = noise(1, 1, 8, 3), noise(1, 1, 2, 3)
    prompt = planted(torch.zeros(1, 8, 8), keys=keys)
    asked = noise(1, 1, 8, 3)
    object.__setattr__(prompt.calls[0], "query", asked)
    layer = stepped(prompt, torch.cat([queries @ keys.mT, noise(1, 1, 2, 2)], dim=-1), queries=queries)
    keep = Core(pool=pool).keep(layer, allowing(4))
    assert keep[0, 0, 0].nonzero().squeeze(-1).tolist() == [6, 7, 8]
    stood = Core(pool=pool).stand_ins(layer, keep)
    for group in (torch.arange(3), torch.arange(3, 6)):
        last = asked[0, 0, group[-1]] @ keys[0, 0, group].mT
        weights = torch.softmax(last if pool == "last_query" else torch.zeros(3), dim=-1)
        core = weights @ keys[0, 0, group]
        torch.testing.assert_close(stood[0, 0][:, group].logsumexp(-1), queries[0, 0] @ core, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------- choosing


def test_protected_keys_come_first_even_among_equal_and_infinite_scores():
    scores = torch.tensor([[[torch.inf, torch.inf, 1.0, 0.0, 0.0]]])
    protected = torch.tensor([[False, False, False, False, True]])
    assert best(scores, torch.tensor([2]), protected)[0, 0].tolist() == [True, False, False, False, True]


def test_protected_keys_are_kept_though_a_layer_has_less_room():
    scores, protected = torch.arange(5.0)[None, None], torch.tensor([[True, True, False, False, False]])
    assert best(scores, torch.tensor([1]), protected)[0, 0].tolist() == [True, True, False, False, False]
    assert best(scores, torch.tensor([3]), protected)[0, 0].tolist() == [True, True, False, False, True]
    n = [
        PyramidKV(window=4).allotted(noise(1, 1, 40), allowing(20, 9, 4), planted(noise(1, 40, 40), layer=layer))
        for layer in range(2)
    ]
    assert int(n[1]) == 13
    assert int(n[0] + n[1]) == 40


def test_core_tokens_leave_no_room_for_more_protected_keys_than_half_of_the_budget():
    prompt = planted(noise(1, 12, 12))
    with pytest.raises(ArgumentError, match="5 are protected"):
        Core().keep(stepped(prompt, noise(1, 1, 1, 13)), allowing(8, 2, 3))
    assert Core().keep(stepped(prompt, noise(1, 1, 1, 13)), allowing(9, 2, 2))[..., :12].sum() == 4
    with pytest.raises(
        ArgumentError, match="5 tokens are protected, and the budget is 8 keys of 12, of which Core keeps 4"
    ):
        check_room(Setting(Core(), 8, first=5), 12, ())


def test_expected_attention_leaves_its_sinks_out_of_the_softmax_if_asked():
    still = Rotation(torch.ones(600, 4), torch.zeros(600, 4))
    prompt = planted(noise(2, 12, 12), keys=noise(1, 1, 12, 4), values=noise(1, 1, 12, 3))
    object.__setattr__(prompt.calls[0], "query", noise(1, 2, 12, 4))
    object.__setattr__(prompt, "rotation", still)
    whole, without = Expected(ahead=8).scores(prompt), Expected(ahead=8, whole=False).scores(prompt)
    assert whole[..., :4].isinf().all()
    assert without[..., :4].isinf().all()
    norm = prompt.values.norm(dim=-1)[..., 4:]
    assert float((without[..., 4:] / norm).sum()) == pytest.approx(1, abs=1e-5)
    assert float((whole[..., 4:] / norm).sum()) < 1 - 1e-3  # the four have the rest


def test_a_policy_is_a_few_lines():
    """Without its docstrings, which hold the paper, the formula and the code's defects."""
    for entry in OWN.values():
        module, _, name = entry.place.partition(":")
        kind = getattr(importlib.import_module(f"interp.retention.policies.{module}"), name)
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        said = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ]
        lines = [line for line in inspect.getsource(kind).splitlines() if line.strip()]
        assert len(lines) - sum(int(node.end_lineno or 0) - node.lineno + 1 for node in said) <= 40, name
        assert kind.__doc__


def test_every_row_has_its_own_allowance():
    scores = torch.tensor([3.0, 2.0, 1.0]).expand(2, 1, -1)
    chosen = best(scores, torch.tensor([1, 2]), torch.zeros(2, 3, dtype=torch.bool))
    assert chosen[:, 0].tolist() == [[True, False, False], [True, True, False]]


def test_overlap_with_the_oracle_counts_shared_keys():
    weights = torch.tensor([[[0.4, 0.3, 0.2, 0.1]]])
    keep = torch.tensor([[[True, False, True, False]]])
    assert float(oracle_overlap(weights, keep, 1)) == 0.5


def test_the_full_policy_keeps_all_that_came_before():
    assert Full().keep(stepped(planted(noise(1, 3, 3)), noise(1, 1, 2, 5)), allowing(3))[0, 0].tolist() == [
        [True, True, True, True, False],
        [True, True, True, True, True],
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lazy(form="paper"),
        lambda: Keyformer(noise="laplace"),
        lambda: Core(pool="max"),
        lambda: Landmark(by="first"),
        lambda: H2OSum(event="never"),
        lambda: Keyformer(event="every_window"),
        lambda: Lazy(event="every_step"),
    ],
)
def test_unknown_forms_are_refused(make):
    with pytest.raises(ArgumentError, match="choose"):
        make()


POLICIES_THAT_HOLD = [
    (Streaming(sinks=3), 3, 0),
    (HeadSplit(sinks=3), 3, 0),
    (Razor(sinks=3), 3, 0),
    (Expected(sinks=3, ahead=4), 3, 0),
    (Tova(), 0, 1),
    (SnapKV(window=3), 0, 3),
    (PyramidKV(window=3), 0, 3),
    (AdaKV(window=3), 0, 3),
    (Lazy(alpha=0.1), 0, 16),
]
"""Policies that keep first and last tokens whatever their scores, and how many of each."""


def turning(n, dim):
    angles = torch.arange(n)[:, None] * torch.tensor([1.0, 0.1]).repeat(2)
    return Rotation(angles.cos()[:, :dim], angles.sin()[:, :dim])


@pytest.mark.parametrize(("policy", "first", "last"), POLICIES_THAT_HOLD, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("spans", [(), ((9, 13),)], ids=["no_span", "span"])
def test_what_a_policy_always_keeps_is_kept_beside_what_is_protected_or_the_budget_is_refused(
    policy, first, last, spans
):
    """At every budget from 0 to more than the prompt."""
    n = 24
    prompt = planted(noise(2, n, n), keys=noise(1, 2, n, 4), n_layers=4, layer=3)
    prompt = dataclasses.replace(prompt, rotation=turning(n + 8, 4))
    sure = {*range(first), *range(n - last, n), *(place for span in spans for place in range(*span))}
    n_ran = 0
    for budget in range(n + 2):
        setting = Setting(policy, budget, spans=bool(spans))
        try:
            check_room(setting, n, spans)
        except ArgumentError:
            in_spans = sum(end - start for start, end in spans)
            apart = first + last + in_spans if policy.event == "every_window" else len(sure)
            assert budget < max(apart, policy.least) or budget > n, f"{budget} keys are room enough"
            continue
        by_span = torch.tensor([bool(spans)])
        layer = stepped(prompt, noise(1, 2, 1, n + 1))
        keep = policy.keep(layer, Allowance(budget * ONE, 0 * ONE, 0 * ONE, spans, by_span))
        for row in keep[0, :, 0, :n]:
            left = row.nonzero().squeeze(-1).tolist()
            assert sure <= set(left), f"{budget}: {left}"
            assert isinstance(policy, PyramidKV | AdaKV) or len(left) == budget
        n_ran += 1
    assert n_ran


@pytest.mark.parametrize("place", [one.place for one in OWN.values()])
def test_a_policy_that_has_no_rule_for_later_tokens_does_not_cut_after_every_step(place):
    """Such tokens would have score 0: the best of all for one policy, the worst for the next."""
    module, _, name = place.partition(":")
    kind = getattr(importlib.import_module(f"interp.retention.policies.{module}"), name)
    if not issubclass(kind, Evict) or kind is Lazy:
        return
    n = 12
    prompt = dataclasses.replace(planted(noise(2, n, n), keys=noise(1, 2, n, 4)), rotation=turning(n + 600, 4))
    try:
        policy = kind(event="every_step")
    except ArgumentError:
        return
    scores = torch.nn.functional.pad(policy.scores(prompt), (0, 1))
    layer = stepped(prompt, noise(1, 2, 1, n + 1))
    after = policy.updated(scores.clone(), layer.weights[:, :, 0], layer, n)
    assert not torch.equal(after[..., n], scores[..., n])


def test_tova_keeps_the_token_that_was_read_last_after_every_step():
    prompt = planted(noise(2, 8, 8))
    logits = torch.zeros(1, 2, 2, 10)
    logits[:, :, 0, 8] = -20.0  # the first token after the prompt does not look at itself
    keep = Tova(event="every_step").keep(stepped(prompt, logits), allowing(4))
    assert bool(keep[0, 0, 1, 8])


def test_windows_that_move_on_leave_room_for_named_spans():
    """Where the last tokens are protected and lie in a span, they leave it with the first step."""
    spans = ((8, 12),)
    setting = Setting(H2OSum(event="every_step"), 4, last=2, spans=True)
    with pytest.raises(ArgumentError, match="protected"):
        check_room(setting, 12, spans)
    check_room(dataclasses.replace(setting, policy=H2OSum()), 12, spans)
