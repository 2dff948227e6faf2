"""The parts of a model add up to its logits, on every family: what the `direct` contribution rests on."""

import threading
from typing import Any

import pytest
import torch

from interp.errors import UserError
from interp.models.language.logit_directions import LogitDirections
from interp.models.language.norms import take_apart
from interp.models.language.recording import HeadOutputs
from probes.retrieval_heads.scores import ContributionReader, contribution_scores, divide_by_scales
from tests.tiny_models import FAMILIES, random_ids, tiny

N = 30
IDS = random_ids(N, seed=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_the_rest_add_up_to_the_logit(family):
    """Σ over heads of d · head output, plus all else, is the logit: all else is found by taking the heads away."""
    model = tiny(family)
    directions = LogitDirections(model)
    targets = torch.tensor([IDS[1:]])
    queries = torch.arange(N - 1)[None]
    with model.record(queries, HeadOutputs()) as recording, directions.watching_scales() as scales:
        logits = model.extend(model.prefix(), [IDS[:-1]], logits="all")[0].double()
    cap = getattr(model.hf.config, "final_logit_softcapping", None)
    if cap:
        logits = cap * torch.atanh((logits / cap).clamp(-1 + 1e-12, 1 - 1e-12))
    wanted = logits.gather(1, targets[0][:, None])[:, 0]

    toward = directions.frozen(targets)
    norm = directions.final_norm
    residual_logit = _final_residual_logit(model, directions, toward, scales)
    norm_bias = (directions.unembedding(targets)[0].double() @ norm.bias.double()) * directions.output_scale
    head_bias = getattr(model.hf.get_output_embeddings(), "bias", None)
    extra = 0 if head_bias is None else head_bias.double()[targets[0]]
    torch.testing.assert_close(residual_logit + norm_bias + extra, wanted, atol=2e-3, rtol=1e-4)

    # One layer's heads: their contributions add up to what its attention block adds to the logit, biases apart.
    for layer in range(model.n_layers):
        share = directions.to_head(layer, toward, through_norm=True)
        outputs = recording["head_output"][layer]
        summed = (outputs * share).double().sum(dim=(1, -1))[0]
        if layer in scales.after_attention:
            summed = summed / scales.after_attention[layer][0]
        summed = summed / scales.final[0][0]
        block = _attention_block_logit(model, directions, layer, toward, scales)
        torch.testing.assert_close(summed, block, atol=2e-4, rtol=1e-3)


def _capture(model, module, *, output):
    kept = []

    def hook(_, inputs, out=None):
        value = out if output else inputs
        kept.append((value[0] if isinstance(value, tuple) else value).detach())

    handle = module.register_forward_hook(hook) if output else module.register_forward_pre_hook(hook)
    try:
        model.prefix(IDS[:-1])
    finally:
        handle.remove()
    return kept[0]


def _final_residual_logit(model, directions, toward, scales):
    residual = _capture(model, directions.final_norm.module, output=False)
    return (residual * toward).double().sum(-1)[0] / scales.final[0][0]


def _attention_block_logit(model, directions, layer, toward, scales):
    """What the block really adds: the output of the projection without its bias, through the norm after it if there is one."""
    from interp.models.language.architecture import output_projection

    projection = output_projection(model.attention_modules[layer])
    written = _capture(model, projection, output=True)
    bias = getattr(projection, "bias", None)
    written = written if bias is None else written - bias
    if layer in directions.attention_norms:
        norm = directions.attention_norms[layer]
        assert bias is None
        written = (norm.gain * written) / scales.after_attention[layer][..., None]
    return (written * toward).double().sum(-1)[0] / scales.final[0][0]


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "olmo2"])
def test_a_norm_after_attention_is_found(family):
    directions = LogitDirections(tiny(family))
    assert sorted(directions.attention_norms) == [0, 1, 2]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "falcon", "cohere"])
def test_a_norm_before_the_feed_forward_block_is_not_taken_for_one_after_attention(family):
    assert not LogitDirections(tiny(family)).attention_norms


def test_an_unknown_norm_is_refused():
    class Odd(torch.nn.Module):
        weight = torch.nn.Parameter(torch.ones(8))

        def forward(self, x):
            return x.tanh()

    with pytest.raises(UserError, match="unknown kind"):
        take_apart(Odd(), 8)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "olmo2", "gpt2", "falcon-multi-query"])
def test_contribution_equals_brute_force_over_positions(family):
    """φ of every position written out in full width: weight · (u · W_O v), summed over the needle and over all."""
    from interp.models.language.architecture import output_projection_weight

    model = tiny(family)
    directions = LogitDirections(model)
    queries, emitted = torch.tensor([[27, 28]]), torch.tensor([[5, 9]])
    needle = torch.tensor([[10, 11, 12]])

    def everything(rows):
        group = rows.weights.shape[1] // rows.values.shape[1]
        values = rows.values.repeat_interleave(group, dim=1)
        matrix = output_projection_weight(model.attention_modules[rows.layer]).unflatten(0, (values.shape[1], -1))
        written = torch.einsum("rhkd,hdw->rhkw", values, matrix)
        toward = model.hf.get_output_embeddings().weight[emitted]
        return {"phi": torch.einsum("rhqk,rhkw,rqw->rhqk", rows.weights, written, toward)}

    reader = ContributionReader(directions, emitted, needle)
    with model.record(queries, reader, everything) as recording:
        model.prefix(IDS[:29])
    phi = recording["phi"][:, 0].double()
    sums = recording["locos"][:, 0].double()
    torch.testing.assert_close(sums[..., 0], phi[..., 10:13].sum(-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sums[..., 1], phi.sum(-1), atol=1e-4, rtol=1e-4)
    n_keys = torch.tensor([28, 29])
    score = contribution_scores(recording["locos"][:, 0], 3, n_keys, torch.tensor([True, True]))
    inside, outside = phi[..., 10:13].sum(-1), phi.sum(-1) - phi[..., 10:13].sum(-1)
    expected = (inside - outside * 3 / (n_keys - 3)).mean(-1)
    torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)


def test_contribution_score_by_hand():
    # One head, two answer steps; φ over the needle 3 and 1, over everything 5 and 4; 2 needle tokens of 10 and 11 keys.
    sums = torch.tensor([[[[3.0, 5.0], [1.0, 4.0], [9.0, 9.0]]]])
    score = contribution_scores(sums, 2, torch.tensor([10, 11, 12]), torch.tensor([True, True, False]))
    assert score.item() == pytest.approx(((3 - 2 * 2 / 8) + (1 - 3 * 2 / 9)) / 2)
    assert contribution_scores(sums, 2, torch.tensor([10, 11, 12]), torch.zeros(3, dtype=torch.bool)).isnan().all()


def test_the_exact_definition_differs_from_the_published_one_where_norms_scale():
    for family in ("gemma2", "olmo2"):
        model = tiny(family)
        directions = LogitDirections(model)
        reader = ContributionReader(directions, torch.tensor([[5]]), torch.tensor([[20, 21]]))
        with model.record(torch.tensor([[28]]), reader) as recording, directions.watching_scales() as scales:
            model.prefix(IDS[:29])
        scales.final = [scales.final[0][:, -1:]]
        scales.after_attention = {layer: scale[:, -1:] for layer, scale in scales.after_attention.items()}
        direct = divide_by_scales(recording["direct"], scales)[..., 0].flatten()
        locos = recording["locos"][..., 0].flatten()
        ratio = direct / locos
        assert ratio.std() / ratio.mean().abs() > 0.05


def test_a_needle_outside_a_sliding_window_contributes_nothing_there():
    model = tiny("gemma2")  # layers 0 and 2 see 16 tokens
    reader = ContributionReader(LogitDirections(model), torch.tensor([[5]]), torch.tensor([[3, 4]]))
    with model.record(torch.tensor([[28]]), reader) as recording:
        model.prefix(IDS[:29])
    inside = recording["locos"][:, 0, :, 0, 0]
    assert (inside[[0, 2]] == 0).all()
    assert (inside[1] != 0).all()


# ---------------------------------------------------------------------- families whose way to the logits is another

OTHER = ("glm4", "hyperclovax", "granite", "exaone4", "doge", "smollm3")
"""Norms after attention under other names, residual multipliers as numbers and as vectors, logits divided after the head."""
SIZES: dict[str, Any] = dict(FAMILIES["llama"], head_dim=16, residual_multiplier=0.5, logits_scaling=4.0)


def other(family: str) -> Any:
    model = tiny(family, **SIZES)
    for name, parameter in model.hf.named_parameters():
        if name.endswith("_residual"):
            parameter.data = torch.linspace(0.5, 1.5, len(parameter))
    return model


@pytest.mark.parametrize("family", OTHER)
def test_contributions_add_up_to_the_change_when_the_last_layers_heads_fall_silent_and_its_mlp_is_frozen(family):
    from interp.models.language.architecture import output_projection

    model = other(family)
    ids, last = torch.tensor([IDS[:-1]]), model.n_layers - 1
    layer, norm = model.hf.model.layers[last], model.hf.model.norm
    projection = output_projection(model.attention_modules[last])
    residuals, written = [], []
    norm.register_forward_pre_hook(lambda _, given: residuals.append(given[0].double()))
    with torch.no_grad():
        recording = layer.mlp.register_forward_hook(lambda _, __, output: written.append(output))
        before = model.hf(ids, use_cache=False).logits[0].double()
        recording.remove()
        frozen = layer.mlp.register_forward_hook(lambda *_: written[0])
        silenced = projection.register_forward_pre_hook(lambda _, given: (torch.zeros_like(given[0]),))
        after = model.hf(ids, use_cache=False).logits[0].double()
        frozen.remove()
        silenced.remove()
    eps = model.hf.config.rms_norm_eps
    scale, other_scale = ((residual[0].square().mean(-1) + eps).sqrt()[:, None] for residual in residuals)
    targets = torch.tensor(IDS[1:])
    wanted = (before - after * other_scale / scale).gather(1, targets[:, None])[:, 0]

    directions = LogitDirections(model)
    with model.record(torch.arange(N - 1)[None], HeadOutputs()) as recording, directions.watching_scales() as scales:
        model.extend(model.rows(1), [IDS[:-1]], logits="none")
    share = directions.to_head(last, directions.frozen(targets[None]), through_norm=True)
    found = (recording["head_output"][last] * share).double().sum(dim=(1, -1))[0]
    found = found / scales.after_attention[last][0] if last in scales.after_attention else found
    torch.testing.assert_close(found / scales.final[0][0], wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 1e-3


def test_a_final_norm_that_is_used_twice_is_refused():
    with pytest.raises(
        UserError, match=r"^Logit contributions cannot be computed for tiny-nanochat .*used in other places"
    ):
        LogitDirections(tiny("nanochat", **FAMILIES["llama"]))


def test_watching_the_way_to_the_logits_neither_sees_nor_disturbs_what_is_open_here_or_in_another_thread():
    model = tiny("gemma2")
    with model.edit_heads([(0, 1)]):
        wanted = model.extend(model.prefix(), [IDS], logits="all")

    untouched = LogitDirections(tiny("gemma2"))
    entered, read = threading.Event(), threading.Event()

    def hold() -> None:
        with model.hooks.closed():
            entered.set()
            read.wait(30)

    with model.edit_heads([(0, 1)]), model.record(torch.arange(N)[None], HeadOutputs()) as recording:
        directions = LogitDirections(model)  # watched through what is open
        with pytest.raises(KeyError, match="nothing yet"):
            recording["head_output"]
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert entered.wait(30)
            found = model.extend(model.prefix(), [IDS], logits="all")
        finally:
            read.set()
            thread.join()
        assert recording["head_output"].shape[3] == N
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert directions.output_scale == untouched.output_scale
    assert directions.attention_norms.keys() == untouched.attention_norms.keys()
