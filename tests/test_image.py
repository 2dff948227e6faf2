"""Text-to-image models of every family encode and draw, on tiny random pipelines of unmodified diffusers."""

from contextlib import contextmanager

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import ArgumentError, RunError
from interp.models.image.conditioning import Block, BlockEdit
from interp.models.image.drawing import encoded
from interp.models.image.model import ImageModel
from tests.pictures import (
    DROPPING,
    FAMILIES,
    GUIDED,
    HIDDEN,
    JOINT,
    OTHER,
    TEXT,
    TURNS,
    as_prompt,
    draw,
    each,
    furthest,
    noise,
    pixels,
    wide,
)
from tests.tiny_pipelines import N_CLIP, tiny_image

# ---------------------------------------------------------------------- encoding


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_of_an_encoded_text_is_bit_by_bit_that_of_the_prompt(family, guidance):
    model = tiny_image(family)
    wanted = as_prompt(model, guidance)
    drawn = draw(model, model.encode([TEXT]), guidance=guidance)
    assert drawn.shape == (1, *pixels(model).values(), 3)
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn, wanted)
    assert furthest(drawn, draw(model, model.encode([OTHER]), guidance=guidance)) > 1e-4


@pytest.mark.parametrize(
    ("family", "encoders", "blocks", "pooled"),
    [
        ("sd", ("clip",), (Block("clip", 0, N_CLIP),), None),
        ("sd_t5", ("t5",), (Block("t5", 0, N_CLIP),), None),
        ("sdxl", ("clip",), (Block("clip", 0, N_CLIP),), 24),
        ("sd3", ("clip", "t5"), (Block("clip", 0, N_CLIP), Block("t5", N_CLIP, N_CLIP + 256)), 40),
        ("flux", ("t5",), (Block("t5", 0, 256),), 16),
        ("pixart_sigma", ("t5",), (Block("t5", 0, 300),), None),
        ("pixart_alpha", ("t5",), (Block("t5", 0, 120),), None),
        ("sana", ("gemma",), (Block("gemma", 0, 300),), None),
        ("qwen_image", ("qwen",), (Block("qwen", 0, 1024),), None),
        ("flux2", ("mistral",), (Block("mistral", 0, 512),), None),
        ("flux2_klein", ("qwen",), (Block("qwen", 0, 512),), None),
        ("z_image", ("qwen",), (Block("qwen", 0, 512),), None),
        ("chroma", ("t5",), (Block("t5", 0, 512),), None),
        ("lumina2", ("gemma",), (Block("gemma", 0, 256),), None),
        ("aura_flow", ("t5",), (Block("t5", 0, 256),), None),
        ("cogview4", ("glm",), (Block("glm", 0, 1024),), None),
        ("hunyuan_dit", ("bert", "t5"), (Block("bert", 0, 77), Block("t5", 77, 333)), None),
    ],
)
def test_blocks_and_the_pooled_vector_of_each_family(family, encoders, blocks, pooled):
    model = tiny_image(family)
    texts = model.encode([TEXT, OTHER])
    assert (model.family, model.encoders, texts.blocks) == (family.removesuffix("_t5"), encoders, blocks)
    assert texts.n_positions == blocks[-1].stop == len(model.tokens(TEXT))
    assert [token.position for token in model.tokens(TEXT)] == list(range(texts.n_positions))
    assert (None if texts.pooled is None else texts.pooled.shape[1]) == pooled
    assert texts.maskable == (family in (*DROPPING, "pixart_alpha"))
    padding = torch.tensor([[token.role == "pad" for token in model.tokens(text)] for text in (TEXT, OTHER)])
    if family == "chroma":  # whose first padding is shown
        padding = padding & padding.roll(1, dims=1)
    if family == "cogview4":  # whose texts are filled up in front
        padding = torch.arange(1024) >= torch.tensor([[16], [16]])
    assert texts.shown is None or torch.equal(texts.shown, ~padding)
    assert (texts.shown is None) == (family not in (*HIDDEN, "pixart_alpha", "chroma", "cogview4", "hunyuan_dit"))


@pytest.mark.parametrize("family", each(FAMILIES))
def test_a_text_that_a_pipeline_rewrites_on_its_way_is_refused(family, monkeypatch):
    model, text = tiny_image(family), "a red circle apart"
    monkeypatch.setattr(model._family, "encode", lambda text: type(model._family).encode(model._family, f"{text} red"))
    with pytest.raises(
        RunError, match=f"of tiny-{family} reads other tokens of 'a red circle apart' than its tokenizer"
    ):
        model.encode([text])
    assert text not in model._encoded


def test_every_distinct_text_is_encoded_once_and_alone(monkeypatch):
    model = ImageModel(tiny_image("sd")._family, tiny_image("sd").identity, {})
    read = []
    encode = model._family.encode
    monkeypatch.setattr(model._family, "encode", lambda text: read.append(text) or encode(text))
    both = model.encode([TEXT, OTHER, TEXT])
    again = model.encode([OTHER])
    assert read == [TEXT, OTHER]
    assert torch.equal(both.sequence[1:2], again.sequence)
    assert torch.equal(both.sequence[0], both.sequence[2])
    with pytest.raises(TypeError, match="list of texts"):
        model.encode(TEXT)


def test_the_cache_of_encoded_texts_is_bounded(monkeypatch):
    model = ImageModel(tiny_image("sd")._family, tiny_image("sd").identity, {})
    monkeypatch.setattr("interp.models.image.text._CACHED_ELEMENTS", 3 * N_CLIP * 16)
    model.encode([f"red {word}" for word in "abcdefg"])
    assert list(model._encoded) == ["red e", "red f", "red g"]


TAKES = {
    "sd_t5": ("t5", N_CLIP, 1),  # an end and no beginning
    "pixart_sigma": ("t5", 300, 1),
    "sana": ("gemma", 298, -1),  # its instruction ends in a blank, which the first word's token takes in
    "flux2": ("mistral", 455, 1),
    "flux2_klein": ("qwen", 489, 1),
    "z_image": ("qwen", 504, 1),
    "chroma": ("t5", 512, 1),
    "cogview4": ("glm", 1024, 3),
    "hunyuan_dit": ("bert", 77, 2),
    "lumina2": ("gemma", 95, 0),
    "aura_flow": ("t5", 256, 1),
    "qwen_image": ("qwen", 1019, 1),  # five positions are the model's turn; the last blank is a token
}
"""What the encoder with the least room is called, how many tokens it takes, and how many are no words of `red red red `."""


@pytest.mark.parametrize("family", each(FAMILIES))
def test_a_text_longer_than_an_encoder_takes_is_refused(family):
    model = tiny_image(family)
    encoder, n, around = TAKES.get(family, ("clip", N_CLIP, 2))
    model.encode(["red " * (n - around)])
    with pytest.raises(ArgumentError, match=f"{n + 1} tokens long for the encoder {encoder}, which takes {n}"):
        model.encode(["red " * (n - around + 1)])


def test_spans_are_found_in_every_block():
    model = tiny_image("sd3")
    assert model.spans(TEXT, "triangle") == (3, 4, 5, N_CLIP + 2)
    assert model.spans(TEXT, "circle") == (10, N_CLIP + 6, N_CLIP + 7)
    assert model.spans("red and red", "red", 1) == (4, N_CLIP + 2)
    assert tiny_image("sd_t5").spans(TEXT, "blue circle") == (5, 6, 7)
    with pytest.raises(ArgumentError, match="Did you mean triangle"):
        model.spans(TEXT, "triangel")


def mask_of(text):
    """What an encoder that sees no padding is given."""
    return None if text.shown is None else text.shown.long()


@pytest.mark.parametrize("family", each(FAMILIES))
def test_clean_texts_are_the_empty_one_and_one_of_nothing_but_pads(family):
    model = tiny_image(family)
    empty, pads = model.clean(), model.clean("pads")
    assert torch.equal(empty.sequence, model.encode([""]).sequence)
    assert not torch.equal(empty.sequence, pads.sequence)
    for encoder in model._text_encoders:
        if encoder.block and encoder.kept is None and not encoder.zeroed and family != "chroma":
            id = encoder.tokenizer.pad_token_id
            ids = torch.full((1, encoder.n_positions), id)
            with torch.no_grad():
                mask = mask_of(empty)
                mask = None if mask is None else mask[:, encoder.block.start : encoder.block.stop]
                states = encoder.module(ids, attention_mask=mask, output_hidden_states=True)
            wanted = states.hidden_states[-1 - encoder.layers_unused] if encoder.layers_unused else states[0]
            block, width = encoder.block, wanted.shape[-1]
            channels = slice(encoder.channel, encoder.channel + width)
            assert torch.equal(pads.sequence[:, block.start : block.stop, channels], wanted)
    afresh = ImageModel(model._family, model.identity, {})  # the encoders read what they are given again
    assert torch.equal(afresh.encode([""]).sequence, empty.sequence)


def test_sd3_without_its_t5_has_zeros_there_and_no_block():
    whole = tiny_image("sd3")
    parts = {**whole.pipeline.components, "text_encoder_3": None, "tokenizer_3": None}
    family = type(whole._family)(diffusers.StableDiffusion3Pipeline(**parts))
    model = ImageModel(family, whole.identity, {"steps": 2})
    text = model.encode([TEXT])
    assert (model.encoders, text.n_positions) == (("clip",), N_CLIP + 256)
    assert not text.sequence[:, N_CLIP:].any()
    assert model.spans(TEXT, "triangle") == (3, 4, 5)
    assert furthest(draw(model, text), draw(model, text.keep([2], model.clean("pads")))) > 1e-6


# ---------------------------------------------------------------------- noise and batches


@pytest.mark.parametrize("family", each(FAMILIES))
def test_a_seeds_noise_and_picture_do_not_depend_on_the_batch(family):
    model = tiny_image(family)
    assert torch.equal(noise(model, 5, 9, 5)[[0, 1]], noise(model, 5, 9))
    assert torch.equal(noise(model, 9), noise(model, 5, 9)[1:])
    texts = model.encode([TEXT, OTHER, "", TEXT])
    together = draw(model, texts, 5, 9, 5, 7)
    for row, seed in enumerate((5, 9, 5, 7)):
        assert furthest(draw(model, texts.row(row), seed)[0], together[row]) < 1e-5
    assert furthest(draw(model, texts, 5, 9, 5, 7, batch=3), together) < 1e-5


def test_a_single_row_of_either_serves_all_rows_of_the_other():
    model = tiny_image("sd")
    texts = model.encode([TEXT, OTHER])
    one_noise = draw(model, texts, 5)
    assert furthest(one_noise, draw(model, texts, 5, 5)) < 1e-6
    one_text = draw(model, texts.row(0), 5, 6)
    assert furthest(one_text, draw(model, texts.select([0, 0]), 5, 6)) < 1e-6
    for unequal in (lambda: draw(model, texts, 1, 2, 3), lambda: draw(model, model.encode([TEXT] * 3), 1, 2)):
        with pytest.raises(ValueError, match="give one, or as many"):
            unequal()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the sampler itself
def test_a_sampler_that_draws_noise_on_its_way_draws_it_for_each_row_alone(monkeypatch):
    model = tiny_image("sd")
    ancestral = diffusers.EulerAncestralDiscreteScheduler.from_config(model.pipeline.scheduler.config)
    monkeypatch.setattr(model.pipeline, "scheduler", ancestral)
    text = model.encode([TEXT])
    together = draw(model, text, 5, 9)
    assert furthest(draw(model, text, 9)[0], together[1]) < 1e-5
    torch.manual_seed(1)
    assert np.array_equal(draw(model, text, 5, 9), together)


@pytest.mark.parametrize("family", each(FAMILIES))
def test_pictures_need_not_be_square_and_sizes_that_cannot_be_are_refused(family):
    model = tiny_image(family)
    drawn = model.generate(model.encode([TEXT]), model.noise([1], **wide(model)))
    assert drawn.shape == (1, *wide(model).values(), 3)
    multiple = {"sd3": 2, "sana": 32, "lumina2": 16, "cogview4": 16, "hunyuan_dit": 16}.get(
        family, 4 if family in JOINT else 8
    )
    model.noise([1], height=multiple, width=multiple)
    side = max(16, multiple)
    for height, width in ((side + multiple // 2, side), (side, 15), (-side, side), (0, side), (side, 0)):
        with pytest.raises(ArgumentError, match=f"multiples of {multiple}"):
            model.noise([1], height=height, width=width)
    assert model.noise([1]).shape[-2:] == tuple(side // model.pipeline.vae_scale_factor for side in model.size)


# ---------------------------------------------------------------------- guidance and settings


@pytest.mark.parametrize("family", each(FAMILIES))
def test_guidance_runs_a_second_branch_only_above_1_and_the_models_own(family):
    model = tiny_image(family)
    rows = []
    handle = model._family.denoiser.register_forward_pre_hook(
        lambda module, inputs, options: rows.append(
            inputs[2] if family == "z_image" else options["encoder_hidden_states"]
        ),
        with_kwargs=True,
    )
    text = model.encode([TEXT])
    draw(model, text, guidance=model._family.unguided, steps=1)
    draw(model, text, guidance=3.0, steps=1)
    handle.remove()
    branches = [1, 1] if family in TURNS else [2] if family in GUIDED else [1]
    assert [len(sequence) for sequence in rows] == [1, *branches]
    if family in GUIDED:
        other = model._family.unconditional(model._empty)
        first = family in (*TURNS, "z_image")
        shown = [encoded(text), other] if first else [other, encoded(text)]
        given = [model._family.text_options("prompt", one)["prompt_embeds"][0] for one in shown]
        seen = [row for call in rows[1:] for row in call]
        assert all(torch.equal(*pair) for pair in zip(seen, given, strict=True))


@pytest.mark.parametrize("family", each(GUIDED))
def test_the_other_branch_is_that_of_the_pipelines_authors(family):
    model = tiny_image(family)
    unconditional = {
        "sdxl": lambda: torch.zeros_like(model.encode([""]).sequence),
        "sana": lambda: model.pipeline.encode_prompt("", False)[0],  # without the instruction before every text
        "qwen_image": lambda: model.encode([" "]).sequence,
        "lumina2": lambda: model._family.negative("").sequence,
    }.get(family, lambda: model.encode([""]).sequence)
    assert torch.equal(model._family.unconditional(model._empty).sequence, unconditional())


def test_default_steps_and_guidance_are_those_of_the_model_or_of_its_pipeline():
    assert (tiny_image("sd").default_steps, tiny_image("sd").default_guidance) == (3, 2.0)
    own = {family: tiny_image(family)._family.defaults() for family in FAMILIES}
    later = {"qwen_image": (50, 4.0), "flux2": (50, 4.0), "flux2_klein": (50, 4.0), "z_image": (50, 5.0)}
    later |= {
        "chroma": (35, 5.0),
        "lumina2": (30, 4.0),
        "aura_flow": (50, 3.5),
        "cogview4": (50, 5.0),
        "hunyuan_dit": (50, 5.0),
    }
    pipelines = {"sd": (50, 7.5), "sd_t5": (50, 7.5), "sdxl": (50, 5.0), "sd3": (28, 7.0), "flux": (4, 0.0)}
    assert own == {**pipelines, "pixart_sigma": (20, 4.5), "sana": (20, 4.5), **later}
    model = tiny_image("sd")
    text = model.encode([TEXT])
    assert np.array_equal(draw(model, text), draw(model, text, steps=3, guidance=2.0))


@pytest.mark.parametrize("options", [dict(steps=0), dict(batch=0), dict(guidance=-1.0)])
def test_settings_that_cannot_be_are_refused(options):
    model = tiny_image("sd")
    with pytest.raises(ArgumentError, match="steps and batch must be 1 or more, and guidance 0 or more"):
        draw(model, model.encode([TEXT]), **options)


@contextmanager
def spoiled(parameter: Tensor):
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(float("nan"))
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("family", each(FAMILIES))
def test_latents_and_pictures_that_are_not_finite_are_refused(family):
    model = tiny_image(family)
    text = model.encode([TEXT])
    denoiser = model._family.denoiser
    last = next(
        getattr(denoiser, name)
        for name in ("conv_out", "proj_out", "all_final_layer", "norm_out")
        if hasattr(denoiser, name)
    )
    last = next(last.parameters())
    with (
        spoiled(last),
        pytest.raises(RunError, match="latents of 2 of 2 pictures are not finite after step 1: try --dtype float32"),
    ):
        draw(model, text, 1, 2)
    with (
        spoiled(model.pipeline.vae.decoder.conv_out.bias),
        pytest.raises(RunError, match="pictures that were decoded are not finite"),
    ):
        draw(model, text)
    with (
        spoiled(last),
        pytest.raises(RunError, match="are not finite after step 1")
        if family in JOINT
        else pytest.raises(ArgumentError),
    ):
        draw(model, text, edit=BlockEdit((1,), text))
