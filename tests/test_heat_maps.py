"""Attention maps against weights that diffusers' own modules and an attention of our own give, and what they leave behind."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from interp.errors import RunError
from interp.models.image.conditioning import Conditioning
from interp.models.image.family import Layout
from interp.models.image.heat_maps import HeatMaps, attention_weights, joint_attention_weights, resolution
from interp.models.image.model import ImageModel
from tests.pictures import FAMILIES, HIDDEN, JOINT, each, wide
from tests.tiny_pipelines import N_CLIP, tiny_image

TEXT = "a red triangle and a blue circle"
OTHER = "a blue circle"


def texts(model: ImageModel) -> Conditioning:
    return model.encode([TEXT, OTHER, ""])


def draw(model: ImageModel, rows: Conditioning, record: HeatMaps | None = None, **options: Any) -> np.ndarray:
    return model.generate(rows, model.noise([1, 2, 3], **wide(model)), record=record, **options)


class Keeping(AttnProcessor):
    """Diffusers' eager processor, keeping the weights it computes: row × head, pixel, position."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scores = attn.get_attention_scores
        attn.get_attention_scores = lambda *given: self.kept.append(scores(*given)) or self.kept[-1]
        try:
            return super().__call__(attn, hidden_states, *args, **kwargs)
        finally:
            del attn.get_attention_scores


@pytest.mark.parametrize("dropped", [(), (2, 3)], ids=["whole", "masked"])
@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart_sigma"])
def test_maps_are_the_mean_of_diffusers_own_weights_over_steps_heads_and_layers(family, guidance, dropped):
    model, maps = tiny_image(family), HeatMaps()
    rows = texts(model).drop(dropped) if dropped else texts(model)
    draw(model, rows, maps, guidance=guidance, batch=2)
    unet = model._family.denoiser
    before = dict(unet.attn_processors)
    keeping = {name: Keeping() for name in before if name.endswith("attn2.processor")}
    unet.set_attn_processor({**before, **keeping})
    draw(model, rows, guidance=guidance)
    unet.set_attn_processor(before)
    by_size: dict[int, list[Tensor]] = {}
    for processor in keeping.values():
        assert len(processor.kept) == model.default_steps
        for weights in processor.kept:
            by_row = weights.unflatten(0, (6 if guidance > 1 else 3, -1))[-3:]
            by_size.setdefault(weights.shape[1], []).append(by_row.mean(dim=1))
    assert maps.resolutions == ({(4, 6): 2} if family == "pixart_sigma" else {(8, 12): 3, (4, 6): 1})
    for size in maps.resolutions:
        kept = by_size.pop(size[0] * size[1])
        wanted = torch.stack(kept).mean(dim=0).transpose(1, 2).unflatten(2, size)
        torch.testing.assert_close(maps.at(size), wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(maps.at(size).sum(dim=1), torch.ones(3, *size))
        assert not maps.at(size)[:, list(dropped)].any()
        assert rows.shown is None or not maps.at(size)[~rows.shown].any()
    assert not by_size


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("family", each(FAMILIES))
def test_recording_changes_no_picture_and_leaves_nothing_behind(family, guidance):
    model, maps = tiny_image(family), HeatMaps()
    denoiser, rows = model._family.denoiser, texts(model)
    before = {name: module.processor for name, module in denoiser.named_modules() if hasattr(module, "processor")}
    hooks = [len(module._forward_hooks) for module in denoiser.modules()]
    plain = draw(model, rows, guidance=guidance)
    assert np.array_equal(draw(model, rows, maps, guidance=guidance), plain)
    assert all(denoiser.get_submodule(name).processor is processor for name, processor in before.items())
    assert [len(module._forward_hooks) for module in denoiser.modules()] == hooks
    assert maps.mass().shape == (3, rows.n_positions)
    assert maps.overlay([1, 2], 16, 24).shape == (3, 16, 24)


@pytest.mark.parametrize("family", each(FAMILIES))
def test_a_row_has_the_maps_it_has_alone(family):
    model, together, alone = tiny_image(family), HeatMaps(), HeatMaps()
    rows = texts(model)
    draw(model, rows, together)
    for row, seed in enumerate((1, 2, 3)):
        model.generate(rows.row(row), model.noise([seed], **wide(model)), record=alone)
    assert alone.resolutions == together.resolutions
    for size in together.resolutions:
        torch.testing.assert_close(alone.at(size), together.at(size), atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.mass(), together.mass(), atol=1e-5, rtol=0)


def test_a_drawing_that_fails_adds_nothing_and_restores_the_processors(monkeypatch):
    model, maps = tiny_image("sd"), HeatMaps()
    unet = model.pipeline.unet
    before = dict(unet.attn_processors)
    monkeypatch.setattr(model.pipeline.scheduler, "step", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(model, texts(model), maps)
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())
    with pytest.raises(ValueError, match="nothing is recorded yet: pass this to generate as record"):
        maps.mass()


def test_mass_and_overlay_weigh_every_layer_alike():
    model, maps = tiny_image("sd"), HeatMaps()
    draw(model, texts(model), maps)
    large, small = maps.at((8, 12)), maps.at((4, 6))
    wanted = (3 * large.mean(dim=(2, 3)) + small.mean(dim=(2, 3))) / 4
    torch.testing.assert_close(maps.mass(), wanted)
    torch.testing.assert_close(maps.mass().sum(dim=1), torch.ones(3))
    overlay = maps.overlay([2, 5], 8, 12)
    grown = torch.nn.functional.interpolate(small[:, [2, 5]].mean(1, keepdim=True), (8, 12), mode="bicubic")[:, 0]
    torch.testing.assert_close(overlay, (3 * large[:, [2, 5]].mean(dim=1) + grown) / 4)
    everything = maps.overlay(range(N_CLIP), 32, 48)
    torch.testing.assert_close(everything, torch.full((3, 32, 48), 1 / N_CLIP))


def test_weights_of_a_module_made_by_hand():
    """One head of width 1: scores are the product of the pixel's and the token's number."""
    from diffusers.models.attention_processor import Attention

    attn = Attention(query_dim=1, cross_attention_dim=1, heads=1, dim_head=1)
    with torch.no_grad():
        attn.to_q.weight.fill_(1.0)
        attn.to_k.weight.fill_(1.0)
    image, text = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0], [np.log(3.0)]]], dtype=torch.float32)
    with torch.no_grad():
        plain = attention_weights(attn, image, text, None)
        masked = attention_weights(attn, image, text, torch.tensor([[[0.0, -10000.0]]]))
    torch.testing.assert_close(plain, torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]))
    torch.testing.assert_close(masked, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))


@pytest.mark.parametrize("family", each(JOINT))
def test_joint_maps_are_the_mean_of_the_weights_in_torchs_own_attention(family, monkeypatch):
    model = tiny_image(family)
    given = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def keep(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        mask = options.get("attn_mask")
        bias = mask if mask is not None and mask.is_floating_point() else 0.0
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        given.append(scores.softmax(dim=-1).mean(dim=1))
        return attention(query, key, value, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", keep)
    row, noise = texts(model).row(0), model.noise([1], **wide(model))
    model.generate(row, noise, steps=2, guidance=0.0)
    monkeypatch.undo()
    maps = HeatMaps()
    model.generate(row, noise, steps=2, guidance=0.0, record=maps)
    ((size, n_layers),) = maps.resolutions.items()
    n_pixels, n_text = size[0] * size[1], int(row.shown.sum()) if family in (*HIDDEN, "cogview4") else row.n_positions
    assert size == {"sd3": (8, 12), "lumina2": (1, 2), "cogview4": (1, 2)}.get(family, (4, 6))
    # Where the text and where the picture begin: Z-Image fills both up to 32, AuraFlow has 8 registers before them.
    at_text, at_image, n_keys = {
        "sd3": (n_pixels, 0, n_pixels + n_text),
        "z_image": (32, 0, 64),
        "aura_flow": (8, 8 + n_text, 8 + n_text + n_pixels),
    }.get(family, (0, n_text, n_pixels + n_text))
    calls = [weights for weights in given if weights.shape[-1] == n_keys]
    assert len(calls) == 2 * n_layers
    assert n_layers == (2 if family in ("z_image", "lumina2") else model.n_blocks)
    parts = [weights[:, at_image : at_image + n_pixels, at_text : at_text + n_text] for weights in calls]
    wanted = torch.stack(parts).mean(dim=0).transpose(1, 2).unflatten(2, size)
    torch.testing.assert_close(maps.at(size)[:, :n_text], wanted, atol=1e-5, rtol=0)
    assert not maps.at(size)[:, n_text:].any()
    assert 0 < maps.mass().sum() < 1


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("family", ["flux", "sana"])
def test_maps_of_the_calls_are_those_of_the_projections(family, guidance, monkeypatch):
    model, by_modules, by_calls = tiny_image(family), HeatMaps(), HeatMaps()
    draw(model, texts(model), by_modules, guidance=guidance)
    monkeypatch.setattr(type(model._family), "by_processors", False)
    if family == "sana":  # whose blocks are another's: text alone in the keys, the picture alone in the queries
        modules = [block.attn2 for block in model._family.denoiser.transformer_blocks]
        monkeypatch.setattr(model._family, "attention_modules", lambda: modules)
        whole = [Layout(torch.arange(512), torch.arange(300), torch.arange(300))] * 3
        monkeypatch.setattr(model._family, "layout", lambda text, n_pixels: whole)
    draw(model, texts(model), by_calls, guidance=guidance)
    assert by_calls.resolutions == by_modules.resolutions
    for size in by_calls.resolutions:
        torch.testing.assert_close(by_calls.at(size), by_modules.at(size), atol=1e-6, rtol=1e-4)


def test_an_attention_that_is_not_torchs_is_refused_in_one_sentence(monkeypatch):
    model = tiny_image("qwen_image")
    attn = model._family.attention_modules()[0]
    monkeypatch.setattr(
        attn.processor.__class__, "__call__", lambda self, attn, hidden_states, **more: (hidden_states, 0.0)
    )
    with pytest.raises(RunError, match=r"does not attend by torch's scaled_dot_product_attention.*at its default"):
        draw(model, texts(model), HeatMaps())


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_maps_of_normed_queries_are_the_mean_of_the_weights_in_torchs_own_attention(guidance, monkeypatch):
    model, given = tiny_image("sana"), []
    attention = torch.nn.functional.scaled_dot_product_attention

    def keep(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **options: Any) -> Tensor:
        bias = 0.0 if attn_mask is None else attn_mask
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        given.append(scores.softmax(dim=-1).mean(dim=1))
        return attention(query, key, value, attn_mask=attn_mask, **options)

    rows = texts(model)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", keep)
    draw(model, rows, guidance=guidance)
    monkeypatch.undo()
    maps = HeatMaps()
    draw(model, rows, maps, guidance=guidance)
    size = (16, 32)
    assert maps.resolutions == {size: 2}
    calls = [weights[-3:] for weights in given if weights.shape[1:] == (16 * 32, rows.n_positions)]
    assert len(calls) == 2 * model.default_steps
    wanted = torch.stack(calls).mean(dim=0).transpose(1, 2).unflatten(2, size)
    torch.testing.assert_close(maps.at(size), wanted, atol=1e-5, rtol=0)
    assert not maps.at(size)[~rows.shown].any()


def test_joint_weights_do_not_depend_on_how_many_pixels_are_computed_at_a_time(monkeypatch):
    model = tiny_image("sd3")
    attn = model.pipeline.transformer.transformer_blocks[0].attn
    image, text = torch.randn(2, 10, 16), torch.randn(2, 7, 16)
    with torch.no_grad():
        whole = joint_attention_weights(attn, image, text, None, 10)
        monkeypatch.setattr("interp.models.image.heat_maps._SCORES_AT_A_TIME", 3 * 2 * 17 * 2)
        torch.testing.assert_close(joint_attention_weights(attn, image, text, None, 10), whole)
    assert whole.shape == (2, 10, 7)


@pytest.mark.parametrize(
    ("grid", "n_pixels", "size"),
    [((64, 64), 4096, (64, 64)), ((96, 64), 384, (24, 16)), ((9, 5), 15, (5, 3)), ((9, 5), 1, (1, 1))],
)
def test_a_layers_size_is_the_grid_halved_upwards(grid, n_pixels, size):
    assert resolution(grid, n_pixels) == size
    with pytest.raises(ValueError, match="7 image positions are no halving of 9 × 5"):
        resolution((9, 5), 7)
