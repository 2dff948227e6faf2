"""The simulator against real deletion, incremental decoding, transformers' eager attention, and its own algebra."""

import math
import re

import pytest
import torch
from torch.nn.functional import softmax

from interp.errors import ArgumentError, UserError
from interp.models.language.attention import mix_values
from interp.retention.contract import Setting
from interp.retention.losses import mass_recovered, output_change
from interp.retention.policies.base import Evict
from interp.retention.policies.baselines import Full, KeyDiff, KNorm, Oracle, OracleHeads, Random, Streaming, Strided
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
from interp.retention.policies.per_query import ActQKV, Landmark, Quest, Recycled, TokenSelect, TokenSelectFree
from interp.retention.policies.pool import Core, Razor
from interp.retention.simulate import PolicyEdit, read_prompt, simulate
from tests.tiny_models import random_ids, tiny

N_PROMPT, N_STEPS, BUDGET = 40, 6, 20
N = N_PROMPT + N_STEPS
IDS = random_ids(N)
AT_THE_END = [
    Random(), Streaming(), KNorm(), KeyDiff(), Tova(), LastQuery(), A2SF(), H2OSum(), H2OMean(), SnapKV(window=8),
    PyramidKV(window=8), AdaKV(window=8), Expected(), Keyformer(), Strided(),
]  # fmt: skip
EVERY_STEP = [
    Streaming(event="every_step"), Tova(event="every_step"), H2OSum(event="every_step"), H2OMean(event="every_step"),
    A2SF(event="every_step", alpha=0.5), Keyformer(event="every_step", noise="normal"), Lazy(alpha=0.02),
]  # fmt: skip
SELECT = [
    Oracle(), OracleHeads(), Quest(block=4), TokenSelect(), TokenSelect(modulo=True), TokenSelectFree(), Recycled(stride=2),
    Landmark(block=8), Landmark(block=8, by="mean"), ActQKV(block=4),
]  # fmt: skip
POOL = [Razor(heads=((0, 1),)), Core(), Core(pool="mean")]
ALL = [Full(), *AT_THE_END, *EVERY_STEP, *SELECT, *POOL]


@pytest.fixture(scope="module")
def model():
    return tiny("llama", num_hidden_layers=2)


def named(policies):
    return pytest.mark.parametrize("policy", policies, ids=repr)


def all_together(model, settings):
    """Logits and, by layer, keep sets of one batch with a row for each setting."""
    read = read_prompt(model, IDS[:N_PROMPT], rotary=True, delimiters=range(3, N_PROMPT, 5))
    kept = {}

    def watch(layer, keep, scores):
        kept[layer.prompt.layer] = keep

    with model.hooks.opened(PolicyEdit(model, read, settings, watchers=[watch])):
        rows = read.prefix.fork(len(settings))
        return model.extend(rows, [IDS[N_PROMPT:]] * len(settings), logits="all"), kept


def test_with_room_for_the_whole_prompt_nothing_changes(model):
    policies = [Full(), *AT_THE_END, *SELECT, *POOL]
    wanted = model.extend(model.prefix(IDS[:N_PROMPT]), [IDS[N_PROMPT:]], logits="all")[0]
    logits, kept = all_together(model, [Setting(policy, N_PROMPT) for policy in policies])
    for row, policy in enumerate(policies):
        if policy != Core() and policy != Core(pool="mean"):  # it pools half of what it has room for
            assert torch.allclose(logits[row], wanted, atol=5e-5), policy
            assert all((~keep[row]).triu(N_PROMPT + 1).equal(~keep[row]) for keep in kept.values()), policy


@pytest.fixture(scope="module")
def kept(model):
    _, kept = all_together(model, [Setting(policy, BUDGET, 2, 3) for policy in ALL])
    return kept


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "falcon", "falcon-alibi", "gemma2", "qwen3", "phi3"])
def test_the_full_cache_is_transformers_eager_attention(family):
    model = tiny(family)
    found = simulate(model, Full(), IDS, n_prompt=N_PROMPT, budget=N_PROMPT)
    if family.startswith("falcon"):
        wanted = model.extend(model.prefix(), [IDS], logits="all")[0]
    else:
        with model.eager(), torch.inference_mode():
            wanted = model.hf(input_ids=torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(found.logits, wanted[N_PROMPT:].float(), atol=1e-4, rtol=1e-4)


@named(ALL)
def test_keep_sets_obey_their_contract(kept, policy):
    for layer, keep in ((layer, rows[ALL.index(policy)]) for layer, rows in kept.items()):
        steps = torch.arange(N_STEPS)
        assert keep[:, steps, N_PROMPT + steps].all(), "a step reads itself"
        assert not (keep & (torch.arange(N) > N_PROMPT + steps[:, None])).any(), "and nothing after it"
        assert keep[:, :, :2].all(), "protected first tokens"
        if policy.semantics == "evict":
            assert not (keep[:, 1:] & ~keep[:, :-1] & (torch.arange(N) < N_PROMPT + steps[1:, None])).any()
        if policy.event == "every_step":
            assert int(keep.sum(dim=-1).max()) <= BUDGET + 1
        elif isinstance(policy, Lazy):
            assert int(keep.sum(dim=-1).max()) <= BUDGET + policy.every
        elif not isinstance(policy, (Full, PyramidKV, AdaKV, Lazy, Razor, Core)) and not policy.is_dense(layer):
            assert (keep[..., :N_PROMPT].sum(dim=-1) == BUDGET).all()


def by_hand(query, key, value, keep):
    """Attention over the keys that are really left, one head and step at a time."""
    group = query.shape[0] // key.shape[0]
    rows = []
    for head in range(query.shape[0]):
        left = keep[head].nonzero().squeeze(-1)
        logits = key[head // group, left] @ query[head] / math.sqrt(query.shape[-1])
        rows.append(softmax(logits, dim=-1) @ value[head // group, left])
    return torch.stack(rows)


@named([Streaming(), KNorm(), LastQuery(), SnapKV(window=8), H2OSum(event="every_step"), Oracle(), Quest(block=4)])
def test_a_mask_equals_real_deletion(policy):
    model = tiny("llama")
    model.hf.double()
    seen = {}

    class Look:
        def check(self, n_rows): ...

        def look(self, call, output):
            seen[call.layer] = (call, output)

    with model.hooks.opened(observer=Look()):
        found = simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=BUDGET)
    for layer, keep in found.keep.items():
        call, output = seen[layer]
        key = torch.cat([segment.key[0] for segment in call.segments], dim=1)
        value = torch.cat([segment.value[0] for segment in call.segments], dim=1)
        for step in range(N_STEPS):
            wanted = by_hand(call.query[0, :, step], key, value, keep[:, step])
            torch.testing.assert_close(output[0, step], wanted, atol=1e-12, rtol=0)


def test_one_pass_equals_decoding_token_by_token(model):
    policies = [
        Full(),
        SnapKV(window=8),
        Expected(),
        Quest(block=4),
        ActQKV(block=4),
        Recycled(stride=2),
        *POOL,
        *EVERY_STEP,
    ]
    settings = [Setting(policy, BUDGET) for policy in policies]
    whole, _ = all_together(model, settings)
    read = read_prompt(model, IDS[:N_PROMPT], rotary=True, delimiters=range(3, N_PROMPT, 5))
    rows = read.prefix.fork(len(policies))
    with model.hooks.opened(PolicyEdit(model, read, settings, remember=True)):
        steps = [model.extend(rows, [[token]] * len(policies), phase="decode") for token in IDS[N_PROMPT:]]
    for row, policy in enumerate(policies):
        assert torch.allclose(torch.cat(steps, dim=1)[row], whole[row], atol=1e-4, rtol=1e-4), policy


def test_reading_on_in_steps_without_remembering_is_refused(model):
    read = read_prompt(model, IDS[:N_PROMPT])
    rows = read.prefix.fork(1)
    with model.hooks.opened(PolicyEdit(model, read, [Setting(KNorm(), BUDGET)])):
        model.extend(rows, [IDS[N_PROMPT : N_PROMPT + 1]])
        with pytest.raises(UserError, match="remember=True"):
            model.extend(rows, [IDS[N_PROMPT + 1 :]])


@named([H2OSum(), KNorm(), Random(), Oracle()])
def test_rows_do_not_know_of_each_other(model, policy):
    alone = simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=BUDGET).logits
    settings = [Setting(Full(), N_PROMPT), Setting(policy, 7, 2, 2), Setting(Streaming(), 10), Setting(policy, BUDGET)]
    read = read_prompt(model, IDS[:N_PROMPT])
    with model.hooks.opened(PolicyEdit(model, read, settings)):
        together = model.extend(read.prefix.fork(4), [IDS[N_PROMPT:]] * 4, logits="all")
    torch.testing.assert_close(together[3], alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[1], alone, atol=1e-2)


def test_the_algebra_of_dropping_a_set_equals_a_softmax_over_what_is_left():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 30, generator=generator, dtype=torch.float64)
    values = torch.randn(2, 2, 30, 5, generator=generator, dtype=torch.float64)
    keep = torch.rand(2, 4, 3, 30, generator=generator) > 0.5
    weights = softmax(logits, dim=-1)
    left = softmax(logits.masked_fill(~keep, -torch.inf), dim=-1)
    wanted = mix_values(left, values) - mix_values(weights, values)
    torch.testing.assert_close(output_change(weights, keep, values), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(mass_recovered(weights, keep), (weights * keep).sum(-1))


# ---------------------------------------------------------------------- refusals


class Scored(Evict):
    """Scores of another shape than a list for each key-value head, or none at all."""

    what = "heads"

    def scores(self, prompt):
        scores = prompt.keys.norm(dim=-1)
        return {
            "heads": scores.repeat(1, 2, 1), "keys": scores[..., 1:], "flat": scores[0], "nan": scores * torch.nan,
        }[self.what]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "said"), [("heads", "[1, 4, 40]"), ("keys", "[1, 2, 39]"), ("flat", "[2, 40]"), ("nan", "NaN")]
)
def test_scores_of_another_shape_or_none_are_refused(model, what, said):
    policy = type("Scored", (Scored,), {"what": what})()
    with pytest.raises(UserError, match=f"The policy Scored returned scores .*{re.escape(said)}.*are needed"):
        simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=BUDGET)


def test_a_selection_of_another_shape_is_refused(model):
    policy = type("Flat", (Oracle,), {"scores": lambda self, layer: layer.weights})()
    with pytest.raises(UserError, match="The policy Flat returned scores"):
        simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=BUDGET)


def test_named_spans_are_kept_whatever_their_scores(model):
    for policy in (KNorm(), Oracle(), H2OSum(event="every_step"), Strided()):
        found = simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=12, spans=[(10, 14), (30, 33)])
        for keep in found.keep.values():
            assert keep[..., 10:14].all()
            assert keep[..., 30:33].all()


class Broken(Evict):
    what = "shape"

    def keep(self, layer, allowed):
        rows, _, steps, keys = layer.logits.shape
        seen = torch.ones(rows, 2, steps, keys, dtype=torch.bool).tril(keys - steps)
        if self.what == "shape":
            return seen[:, :1]
        if self.what == "future":
            return torch.ones_like(seen)
        if self.what == "itself":
            return seen.tril(keys - steps - 1)
        seen[:, :, 0, 3] = False
        return seen


@pytest.mark.parametrize(
    ("what", "said"),
    [("shape", "boolean mask"), ("future", "comes after"), ("itself", "read itself"), ("back", "had dropped")],
)
def test_a_policy_that_keeps_what_it_cannot_is_refused(model, what, said):
    policy = type("Broken", (Broken,), {"what": what})()
    with pytest.raises(UserError, match=said):
        simulate(model, policy, IDS, n_prompt=N_PROMPT, budget=BUDGET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(budget=0), "does not fit"),
        (dict(budget=41), "does not fit"),
        (dict(budget=5, first=4, last=4), "8 tokens are protected"),
        (dict(budget=5, n_prompt=N), "leaves nothing"),
        (dict(budget=20, spans=[(38, 41)]), "lies outside a prompt of 40 tokens"),
        (dict(budget=20, spans=[(-2, 3)]), "lies outside"),
        (dict(budget=20, spans=[(3, 3)]), "lies outside"),
        (dict(budget=5, spans=[(3, 9)]), "6 tokens are protected"),
    ],
)
def test_budgets_without_room_are_refused(model, options, said):
    with pytest.raises(ArgumentError, match=said):
        simulate(model, Streaming(), IDS, **{"n_prompt": N_PROMPT, **options})


def test_a_window_longer_than_the_budget_is_refused(model):
    with pytest.raises(ArgumentError, match="SnapKV keeps at least 17 keys"):
        simulate(model, SnapKV(), IDS, n_prompt=N_PROMPT, budget=10)
