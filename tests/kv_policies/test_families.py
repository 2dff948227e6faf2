"""Every policy on tiny models of many families, in float32 and bfloat16: right, or refused in a sentence."""

import pytest
import torch

from interp.errors import UserError
from interp.retention.contract import Setting, evictable_layers
from interp.retention.limits import HALVES
from interp.retention.policies.baselines import Full, HeadSplit, KNorm, Oracle, Streaming
from interp.retention.policies.evict import H2OMean, H2OSum, SnapKV, Tova
from interp.retention.policies.expected import Expected
from interp.retention.policies.per_query import Quest, TokenSelect, TokenSelectFree
from interp.retention.policies.pool import Core, Razor
from interp.retention.simulate import PolicyEdit, read_prompt, simulate
from tests.tiny_models import FAMILIES, random_ids, tiny

IDS, N_PROMPT = random_ids(46), 40
POLICIES = [
    Full(), Streaming(), KNorm(), Tova(), H2OSum(event="every_step"), H2OMean(), SnapKV(window=8), Oracle(), Quest(block=4, dense_layers=0),
    TokenSelect(), HeadSplit(heads=((0, 0),)), Razor(), Core(),
]  # fmt: skip
ROTARY = [family for family in FAMILIES if family in HALVES]


def logits_of(model, policies, budget=20):
    read = read_prompt(model, IDS[:N_PROMPT], rotary=any(policy.needs_rotation for policy in policies))
    kept = {}

    def watch(layer, keep, scores):
        kept[layer.prompt.layer] = keep

    settings = [Setting(policy, N_PROMPT if policy == Full() else budget) for policy in policies]
    with model.hooks.opened(PolicyEdit(model, read, settings, watchers=[watch])):
        rows = read.prefix.fork(len(policies))
        return model.extend(rows, [IDS[N_PROMPT:]] * len(policies), logits="all"), kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "family",
    ["llama", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "falcon-multi-query", "falcon-alibi", "mixtral", "opt"],
)
def test_policies_act_on_every_family(family, dtype):
    window = {"sliding_window": 16} if family == "gemma3_text" else {}
    model = tiny(family, **window)
    model.hf.to(dtype)
    logits, kept = logits_of(model, POLICIES)
    assert set(kept) == set(evictable_layers(model, 136))
    plain = model.extend(model.prefix(IDS[:N_PROMPT]), [IDS[N_PROMPT:]], logits="all")[0]
    near = 1e-3 if dtype == torch.float32 else 0.2 * float(plain.std())
    assert float((logits[0] - plain).abs().mean()) < near
    assert logits.isfinite().all()
    for row, policy in enumerate(POLICIES[1:], start=1):
        assert not torch.allclose(logits[row], logits[0], atol=1e-3), policy


def test_half_precision_keeps_the_same_keys_where_scores_are_not_close():
    whole, half = tiny("llama"), tiny("llama")
    half.hf.bfloat16()
    kept = [logits_of(model, [H2OSum()])[1][0][0] for model in (whole, half)]
    assert (kept[0] == kept[1]).float().mean() > 0.95


def test_only_layers_that_see_the_whole_text_are_touched():
    model = tiny("gemma3_text")
    assert evictable_layers(model, 136) == (1,)
    assert evictable_layers(model, 16) == (0, 1, 2)
    found = simulate(model, Streaming(), IDS, n_prompt=N_PROMPT, budget=10)
    assert list(found.keep) == [1]


def test_a_model_all_of_whose_layers_have_short_windows_is_refused():
    with pytest.raises(UserError, match=r"has a window of 16 tokens and drops keys by itself: name another model"):
        simulate(tiny("mistral"), Streaming(), IDS, n_prompt=N_PROMPT, budget=10)
    with pytest.raises(UserError, match=r"of 116 tokens .*: use prompts of at most 20 tokens, or name another model"):
        evictable_layers(tiny("mistral", sliding_window=116), 136)
    chunked = tiny("llama")
    chunked.hf.config.layer_types = ["chunked_attention"] * 3
    with pytest.raises(
        UserError, match=r"No layer of tiny-llama lets every query see the whole text \(chunked_attention\)"
    ):
        evictable_layers(chunked, 136)


@pytest.mark.parametrize(
    ("family", "touched"),
    [
        ("bamba", (1, 3)),
        ("jamba", (1, 3)),
        ("qwen3_next", (1, 3)),
        ("lfm2", (1, 3)),
        ("falcon_h1", (0, 1, 2)),
        ("gpt_neo", (0, 2)),
    ],
)
def test_of_hybrid_and_local_models_the_layers_that_see_the_whole_text_are_touched(family, touched):
    model = tiny(family)
    assert evictable_layers(model, 136) == touched
    logits, kept = logits_of(model, [Full(), KNorm(), H2OSum(), Oracle()])
    assert tuple(sorted(kept)) == touched
    plain = model.extend(model.prefix(IDS[:N_PROMPT]), [IDS[N_PROMPT:]], logits="all")[0]
    torch.testing.assert_close(logits[0], plain, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(logits[1], logits[0], atol=1e-3)


def test_a_model_with_learned_sinks_is_refused_before_anything_is_read():
    with pytest.raises(UserError, match="learned attention sinks"):
        simulate(tiny("gpt_oss"), Streaming(), IDS, n_prompt=N_PROMPT, budget=10)


def test_a_recurrent_model_is_refused():
    model = tiny("mamba", hidden_size=32, num_hidden_layers=2, vocab_size=97)
    with pytest.raises(UserError, match="no attention heads"):
        simulate(model, Streaming(), IDS, n_prompt=N_PROMPT, budget=10)


@pytest.mark.parametrize("family", ROTARY)
def test_rotations_are_undone(family):
    """Without its rotation a key does not know where it stands: of one token again and again it is the same in all of a layer."""
    model = tiny(family)
    read = read_prompt(model, [5] * 30, rotary=True)
    places = torch.arange(30)
    for prompt in read.prompts.values():
        free = prompt.rotation.unturned(prompt.keys, places)
        torch.testing.assert_close(free, free[:, :, :1].expand_as(free), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(prompt.keys[:, :, 0], prompt.keys[:, :, 9], atol=1e-3)
        torch.testing.assert_close(prompt.rotation.turned(free, places), prompt.keys, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "falcon-alibi", "cohere"])
def test_policies_that_need_halves_are_refused_without(family):
    for policy in (Expected(), TokenSelectFree()):
        with pytest.raises(UserError, match="rotary embedding of one kind in halves"):
            simulate(tiny(family), policy, IDS, n_prompt=N_PROMPT, budget=10)


def test_another_number_of_rows_is_refused():
    model = tiny("llama")
    read = read_prompt(model, IDS[:N_PROMPT])
    edit = PolicyEdit(model, read, [Setting(KNorm(), 20)])
    with model.hooks.opened(edit), pytest.raises(UserError, match="there are 1 policies"):
        model.extend(read.prefix.fork(2), [[5], [5]])
