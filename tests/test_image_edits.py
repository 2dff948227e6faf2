"""Conditionings of text-to-image models edited after the encoder, inside it and before every block, in every family."""

import dataclasses
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.image.conditioning import BlockEdit, Conditioning
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from tests.pictures import ALIKE, DROPPING, FAMILIES, JOINT, OTHER, TEXT, draw, each, furthest
from tests.tiny_pipelines import N_CLIP, tiny_image

# ---------------------------------------------------------------------- edits after the encoder


@pytest.mark.parametrize("family", each(FAMILIES))
def test_edits_that_change_nothing_draw_the_same_picture_and_others_another(family):
    model = tiny_image(family)
    text, other, clean = model.encode([TEXT]), model.encode([OTHER]), model.clean()
    plain = draw(model, text)
    everything, item = range(text.n_positions), model.spans(TEXT, "red triangle")
    same = [
        text.keep(everything, clean),
        text.replace([], clean),
        text.paste(item, text),
        text.mean(item, model.encode([TEXT, TEXT])),
        text.select([0]),
    ]
    assert all(np.array_equal(draw(model, edited), plain) for edited in same)
    changed = [
        text.keep(item, clean),
        text.replace(item, clean),
        text.paste(item, other),
        text.mean(item, model.encode([OTHER, ""])),
    ]
    if text.pooled is not None:
        changed.append(text.with_pooled(other))
    pictures = [draw(model, edited) for edited in changed]
    assert all(furthest(picture, plain) > 1e-6 for picture in pictures)
    assert np.array_equal(draw(model, text.keep([], other)), draw(model, text.replace(everything, other)))


@pytest.mark.parametrize("family", each(FAMILIES))
def test_another_texts_vectors_and_pooled_vector_are_that_text(family):
    model = tiny_image(family)
    text, other = model.encode([TEXT]), model.encode([OTHER])
    pasted = text.paste(range(text.n_positions), other)
    pasted = pasted if pasted.pooled is None else pasted.with_pooled(other)
    assert np.array_equal(draw(model, pasted), draw(model, other))


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("family", each(DROPPING))
def test_dropped_tokens_have_no_say_in_the_picture(family, guidance):
    """What stands at a masked position makes no difference; the unconditional branch keeps all of its tokens."""
    model = tiny_image(family)
    text, other = model.encode([TEXT]), model.encode([OTHER])
    red = model.spans(TEXT, "red")[0]
    hidden, source = [red, red + 3], [red + 1, red + 2]
    dropped = text.drop(hidden)
    plain, without = draw(model, text, guidance=guidance), draw(model, dropped, guidance=guidance)
    assert furthest(without, plain) > 1e-5
    assert np.array_equal(draw(model, dropped.paste(hidden, other, source), guidance=guidance), without)
    assert furthest(draw(model, dropped.paste([red + 2], other), guidance=guidance), without) > 1e-6
    assert np.array_equal(draw(model, text, guidance=guidance), plain)  # nothing is left behind
    whole = dataclasses.replace(text, mask=torch.ones(1, text.n_positions, dtype=torch.bool))
    assert furthest(draw(model, whole, guidance=guidance), plain) < 1e-5


def test_a_mask_is_of_the_branch_with_the_text_alone():
    model = tiny_image("sd")
    cross_attention = model.pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    biases = []
    handle = cross_attention.register_forward_pre_hook(
        lambda module, inputs, options: biases.append(options["attention_mask"]), with_kwargs=True
    )
    both = Conditioning.stack([model.encode([TEXT]).drop([0]), model.encode([TEXT]).drop([1])])
    draw(model, both, 1, 2, steps=1)
    handle.remove()
    (hidden,) = [bias[:, 0] < -1000 for bias in biases]
    assert hidden.nonzero().tolist() == [[2, 0], [3, 1]]  # rows 0 and 1 are the unconditional branch


@pytest.mark.parametrize("family", each([family for family in FAMILIES if family not in DROPPING]))
def test_tokens_cannot_be_dropped_where_attention_is_joint(family):
    with pytest.raises(ArgumentError, match="denoiser takes no mask over the text, so tokens cannot be dropped"):
        tiny_image(family).encode([TEXT]).drop([1])


# ---------------------------------------------------------------------- layers of the encoder


@pytest.mark.parametrize("family", each(FAMILIES))
def test_the_layer_that_the_pipeline_takes_is_the_conditioning_and_no_other(family):
    model = tiny_image(family)
    text = model.encode([TEXT])
    pair = {"clip_l": 2, "clip_g": 3}
    taken = {f"{name}_{layer}": layer for name, by in (("mistral", 10), ("qwen", 9)) for layer in (by, 2 * by, 3 * by)}
    later = {
        "flux2": {name: 31 for name in taken if "mistral" in name},
        "flux2_klein": {name: 28 for name in taken if "qwen" in name},
        "z_image": {"qwen": 3},
        "lumina2": {"gemma": 3},
        "cogview4": {"glm": 3},
        "hunyuan_dit": {"bert": 2, "t5": 3},
    }
    expected = {
        "sd": {"clip": 3},
        "sdxl": pair,
        "sd3": {**pair, "t5": 3},
        "sana": {"gemma": 3},
        "qwen_image": {"qwen": 3},
        **later,
    }
    assert model.encoder_layers == expected.get(family, {"t5": 3})
    for name, n_layers in model.encoder_layers.items():
        before_last = name in ("clip_l", "clip_g") or family in ("z_image", "lumina2", "cogview4")
        own = taken.get(name, n_layers - 1 if before_last else n_layers)
        layers = [0, own - 1, own, *([] if own == n_layers else [n_layers])]
        rows = model.lens(TEXT, layers, name)
        equal = [torch.equal(row, text.sequence[0]) for row in rows.sequence]
        assert equal == [layer == own for layer in layers]
        assert rows.pooled is None or torch.equal(rows.pooled[:1], text.pooled)
        assert furthest(draw(model, rows.row(0)), draw(model, text)) > 1e-6


def test_a_lens_row_is_the_hidden_state_with_the_final_norm():
    model = tiny_image("sd")
    encoder = model.pipeline.text_encoder
    ids = torch.tensor([[token.token_id for token in model.tokens(TEXT)]])
    with torch.no_grad():
        states = encoder(ids, output_hidden_states=True).hidden_states
        wanted = encoder.final_layer_norm(torch.cat([states[2], states[0], states[2]]))
    assert torch.equal(model.lens(TEXT, [2, 0, 2]).sequence, wanted)


def test_a_lens_changes_the_vectors_of_its_encoder_alone():
    model = tiny_image("sd3")
    text, rows = model.encode([TEXT]), model.lens(TEXT, [0], "clip_g")
    changed = (rows.sequence[0] != text.sequence[0]).any(dim=0), (rows.sequence[0] != text.sequence[0]).any(dim=1)
    assert changed[0].nonzero().flatten().tolist() == list(range(16, 40))
    assert set(changed[1].nonzero().flatten().tolist()) <= set(range(N_CLIP))


def test_a_layer_or_an_encoder_that_is_not_there_is_refused():
    model = tiny_image("sdxl")
    with pytest.raises(ArgumentError, match="tiny-sdxl has several text encoders: say which, clip_l or clip_g"):
        model.lens(TEXT, [1])
    with pytest.raises(ArgumentError, match="has no text encoder t5: choose clip_l or clip_g"):
        model.lens(TEXT, [1], "t5")
    with pytest.raises(ArgumentError, match="encoder clip_l has no layer 3: count from 0, the embeddings, to 2"):
        model.lens(TEXT, [0, 3], "clip_l")
    with pytest.raises(ArgumentError, match="Name a layer of the encoder clip"):
        tiny_image("sd").lens(TEXT, [])


def test_nnsight_leaves_other_objects_alone():
    tiny_image("sd").lens(TEXT, [1])
    assert not hasattr(object(), "save")


# ---------------------------------------------------------------------- edits before every block


def hooked(
    model: ImageModel, text: Conditioning, source: Conditioning, positions: list[int], blocks: list[int]
) -> np.ndarray:
    """The edit by plain torch hooks: the pictures of the text's and the source's rows, drawn in one batch."""
    n_calls = dict.fromkeys(blocks, 0)

    def swap(block: int, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        n_calls[block] += 1
        if model._family.turns and n_calls[block] % 2 == 0:  # the other branch
            return inputs, options
        return model._family.edited(inputs, options, swapped)

    def swapped(vectors: Tensor) -> Tensor:
        vectors = vectors.clone()
        vectors[-4:-2, positions] = vectors[-2:, positions]
        return vectors

    handles = [
        model._family.blocks()[block].register_forward_pre_hook(
            lambda module, inputs, options, block=block: swap(block, inputs, options), with_kwargs=True
        )
        for block in blocks
    ]
    pictures = draw(model, Conditioning.stack([text, source]), 3, 4, 3, 4)
    for handle in handles:
        handle.remove()
    return pictures[:2]


@pytest.mark.parametrize("blocks", [None, (1,), (0, 1)])
@pytest.mark.parametrize(
    "family", each([family for family in JOINT if family not in ("z_image", "lumina2", "aura_flow")])
)
def test_an_edit_before_blocks_equals_plain_hooks(family, blocks):
    model = tiny_image(family)
    assert model.n_blocks == {"flux": 4, "qwen_image": 2, "cogview4": 2}.get(family, 3)
    text, source = model.encode([TEXT, TEXT]), model.encode([OTHER, ""])
    positions = [1, 2, 5]
    edited = draw(model, text, 3, 4, edit=BlockEdit(tuple(positions), source, blocks))
    wanted = hooked(model, text, source, positions, list(range(model.n_blocks)) if blocks is None else list(blocks))
    assert np.array_equal(edited, wanted)
    assert furthest(edited, draw(model, text, 3, 4)) > 1e-6


@pytest.mark.parametrize("family", each(JOINT))
def test_an_edit_before_blocks_with_a_sampler_that_draws_noise_is_the_same_twice(family, monkeypatch):
    model = tiny_image(family)
    noisy = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    monkeypatch.setattr(model.pipeline, "scheduler", noisy)
    text, edit = model.encode([TEXT]), BlockEdit((1, 2), model.encode([OTHER]))
    torch.manual_seed(0)
    first = draw(model, text, 3, edit=edit)
    torch.manual_seed(1)
    assert np.array_equal(draw(model, text, 3, edit=edit), first)
    assert furthest(draw(model, text, 3, edit=BlockEdit((1, 2), text)), draw(model, text, 3)) < 1e-5


@pytest.mark.parametrize("family", each(JOINT))
def test_edits_before_blocks_at_their_limits(family):
    model = tiny_image(family)
    text, source = model.encode([TEXT]), model.encode([ALIKE if model._family.closes_up else OTHER])
    everything = tuple(range(text.n_positions))
    plain, other = draw(model, text, 3, 4), draw(model, source, 3, 4)
    for nothing in (BlockEdit((), source), BlockEdit(everything, text)):
        assert furthest(draw(model, text, 3, 4, edit=nothing), plain) < 1e-5
    rest = text if text.pooled is None else text.with_pooled(source)
    whole = draw(model, rest, 3, 4, edit=BlockEdit(everything, source), batch=1)
    assert furthest(whole, other) < 1e-5
    first = draw(model, text, 3, 4, edit=BlockEdit((1, 2), source, (0,)))
    assert furthest(first, draw(model, text.paste((1, 2), source), 3, 4)) < 1e-5
    assert furthest(first, draw(model, text, 3, 4, edit=BlockEdit((1, 2), source))) > 1e-6
    assert np.array_equal(draw(model, text, 3, 4), plain)


def test_edits_before_blocks_that_cannot_be_are_refused():
    cross, joint = tiny_image("sd"), tiny_image("flux")
    with pytest.raises(
        ArgumentError, match="tiny-sd gives every block of its denoiser the same text vectors: edit the cond"
    ):
        draw(cross, cross.encode([TEXT]), edit=BlockEdit((1,), cross.encode([OTHER])))
    text = joint.encode([TEXT])
    with pytest.raises(ArgumentError, match="There is no block 4: blocks go from 0 to 3"):
        draw(joint, text, edit=BlockEdit((1,), text, (0, 4)))
    with pytest.raises(ArgumentError, match="No block is named: blocks go from 0 to 3"):
        draw(joint, text, edit=BlockEdit((1,), text, ()))
    with pytest.raises(ArgumentError, match="There is no position 256"):
        draw(joint, text, edit=BlockEdit((256,), text))
    closing = tiny_image("z_image")
    longer = closing.encode([TEXT, OTHER])
    with pytest.raises(
        ArgumentError, match="tiny-z_image takes hidden positions out of its sequence: edit positions that"
    ):
        draw(closing, longer.row(0), edit=BlockEdit((1, 20), longer.row(1)))
    with pytest.raises(ArgumentError, match="Heat maps cannot be recorded for a picture whose blocks are edited"):
        draw(joint, text, edit=BlockEdit((1,), text), record=HeatMaps())
