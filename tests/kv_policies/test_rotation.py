"""Rotations that policies undo and redo, held against the queries that the model itself has before and after its rotary embedding."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from interp.models.language.attention import AttentionCall, Segment
from interp.retention.policies.catalogue import build
from interp.retention.policies.expected import Expected
from interp.retention.policies.layer import Prompt, Rotation
from interp.retention.simulate import read_prompt, simulate
from tests.test_rotary_switch import DYNAMIC, LONGROPE
from tests.tiny_models import random_ids, tiny

IDS = random_ids(30)
YARN: dict[str, Any] = dict(
    max_position_embeddings=128,
    rope_parameters=dict(
        rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32, attention_factor=1.5
    ),
)
LINEAR: dict[str, Any] = dict(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0))
LONG: dict[str, Any] = dict(
    max_position_embeddings=4096,
    original_max_position_embeddings=2048,
    rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, short_factor=[1.0] * 8, long_factor=[4.0] * 8, attention_factor=1.5
    ),
)
CASES = [
    ("llama", {}),
    ("llama", YARN),
    ("llama", LINEAR),
    ("llama", DYNAMIC),
    ("qwen3", YARN),
    ("phi3", LONGROPE),
    ("phi3", LONG),
]


def before_and_after(model: Any, ids: list[int]) -> tuple[torch.Tensor, Any]:
    """The first layer's queries before the rotary embedding, from its projection, and the prompt as policies see it."""
    attention, found = model.attention_modules[0], []
    named = dict(attention.named_modules())
    source = next(named[name] for name in ("q_norm", "q_proj", "qkv_proj") if name in named)
    handle = source.register_forward_hook(lambda module, args, output: found.append(output))
    read = read_prompt(model, ids, rotary=True)
    handle.remove()
    n_heads, dim = model.geometry.n_heads, attention.head_dim
    queries = found[0].reshape(1, len(ids), -1, dim)[:, :, :n_heads].transpose(1, 2)
    return queries, read.prompts[0]


@pytest.mark.parametrize(
    ("family", "changes"),
    CASES,
    ids=lambda one: one if isinstance(one, str) else one.get("rope_parameters", {}).get("rope_type", "default"),
)
def test_queries_without_their_rotation_are_those_of_the_projection(family, changes):
    queries, prompt = before_and_after(tiny(family, **changes), IDS)
    places = torch.arange(len(IDS))
    torch.testing.assert_close(prompt.rotation.unturned(prompt.queries, places), queries, atol=2e-5, rtol=0)
    torch.testing.assert_close(prompt.rotation.turned(queries, places), prompt.queries, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("family", "changes"), [("llama", DYNAMIC), ("phi3", LONGROPE)], ids=["dynamic", "longrope"])
def test_asking_for_a_rotation_changes_nothing_for_texts_read_later(family, changes):
    """Embeddings that depend on the longest text so far would."""
    model = tiny(family, **changes)
    before = model.extend(model.prefix(), [IDS], logits="all")
    simulate(model, build("expected(ahead=4)"), IDS, n_prompt=20, budget=10)
    torch.testing.assert_close(model.extend(model.prefix(), [IDS], logits="all"), before, atol=0, rtol=0)


# ---------------------------------------------------------------------- expected attention as kvpress computes it


def expected_by_formula(
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    angles: np.ndarray,
    *,
    sinks: int,
    ahead: int,
    whole: bool,
) -> np.ndarray:
    """Scores [kv_head, key] in double precision, query by query and key by key; queries [head, token, dim] before rotation."""
    n_heads, n, dim = queries.shape
    group, half = n_heads // len(keys), dim // 2
    rotation = np.zeros((dim, dim))
    for place in range(n, n + ahead):
        for channel, angle in enumerate(place * angles):
            pair = [channel, channel + half]
            turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            rotation[np.ix_(pair, pair)] += np.array(turn) / ahead
    scores = np.full((len(keys), n), np.inf)
    first = 0 if whole else sinks
    weights = np.zeros((len(keys), n))
    for head in range(n_heads):
        known = queries[head, sinks:]
        mean = rotation @ known.mean(axis=0)
        covariance = rotation @ np.cov(known.T, bias=True) @ rotation.T
        own = keys[head // group, first:]
        logits = np.array([key @ mean / dim**0.5 + key @ covariance @ key / (2 * dim) for key in own])
        weights[head // group, first:] += np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() / group
    scores[:, sinks:] = (weights * np.linalg.norm(values, axis=-1))[:, sinks:]
    return scores


@pytest.mark.parametrize("whole", [True, False], ids=["ours", "kvpress"])
@pytest.mark.parametrize("sinks", [0, 4])
def test_expected_attention_is_its_formula(whole, sinks):
    """`whole=False` is kvpress' ExpectedAttentionPress: the sinks are no part of the softmax."""
    generator = np.random.default_rng(3)
    n, dim, ahead, angles = 20, 6, 9, np.array([1.0, 0.3, 0.05])
    queries, keys, values = (generator.normal(size=(heads, n, dim)) for heads in (4, 2, 2))
    queries[1] += 2.0  # means far from nought
    table = np.arange(n + ahead)[:, None] * np.tile(angles, 2)
    rotation = Rotation(torch.tensor(np.cos(table)), torch.tensor(np.sin(table)))
    turned = rotation.turned(torch.tensor(queries), torch.arange(n))[None]
    zero = torch.zeros(1, dtype=torch.long)
    segment = Segment(torch.tensor(keys)[None], torch.tensor(values)[None])
    call = AttentionCall(0, turned, zero, zero, (segment,), None, dim**-0.5)
    scores = Expected(ahead=ahead, sinks=sinks, whole=whole).scores(Prompt(0, (0,), [call], rotation=rotation))
    wanted = expected_by_formula(queries, keys, values, angles, sinks=sinks, ahead=ahead, whole=whole)
    np.testing.assert_allclose(scores[0].numpy(), wanted, rtol=1e-9)
