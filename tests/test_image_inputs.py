"""What people give pipelines beside one prompt, by our own means: clip_skip, a prompt for each encoder, weights by step and head."""

import pytest
import torch

from interp.errors import ArgumentError
from interp.models.image.attention_weights import AttentionWeights
from interp.models.image.heat_maps import HeatMaps
from tests.pictures import OTHER, TEXT, draw, each
from tests.tiny_pipelines import N_CLIP, tiny_image


@pytest.mark.parametrize("skipped", [1, 2])
def test_a_lens_row_is_clip_skip(skipped):
    """As the pipeline has it: the states before so many last layers, under the final norm."""
    model = tiny_image("sd")
    ids = torch.tensor([[token.token_id for token in model.tokens(TEXT)]])
    with torch.no_grad():
        states = model.pipeline.text_encoder(ids, output_hidden_states=True).hidden_states
        wanted = model._text_encoders[0].final_norm(states[-1 - skipped])
    assert torch.equal(model.lens(TEXT, [3 - skipped]).sequence, wanted)


def test_a_prompt_for_each_encoder_is_put_together():
    flux, options = tiny_image("flux"), dict(max_sequence_length=256)
    with torch.no_grad():
        sequence, pooled, _ = flux.pipeline.encode_prompt(TEXT, OTHER, **options)
    both = flux.encode([OTHER]).with_pooled(flux.encode([TEXT]))
    assert torch.equal(both.sequence, sequence)
    assert torch.equal(both.pooled, pooled)
    sd3 = tiny_image("sd3")
    with torch.no_grad():
        sequence, _, pooled, _ = sd3.pipeline.encode_prompt(
            TEXT, TEXT, OTHER, do_classifier_free_guidance=False, **options
        )
    text = sd3.encode([TEXT])
    both = text.paste(range(N_CLIP, text.n_positions), sd3.encode([OTHER]))
    assert torch.equal(both.sequence, sequence)
    assert torch.equal(both.pooled, pooled)


@pytest.mark.parametrize("family", each(["qwen_image", "z_image", "hunyuan_dit"]))
def test_weights_by_step_layer_and_head_average_to_the_heat_maps(family):
    model = tiny_image(family)
    rows = model.encode([TEXT, OTHER])
    n_layers, n_steps = len(model._family.attention_modules()), 2
    weights, maps = AttentionWeights(steps=range(n_steps), layers=range(n_layers)), HeatMaps()
    pictures = [draw(model, rows, 1, 2, steps=n_steps, record=record, batch=1) for record in (weights, maps)]
    assert (pictures[0] == pictures[1]).all()
    ((size, _),) = maps.resolutions.items()
    for row in range(2):
        seen = [weights.at(row, step, layer) for step in range(n_steps) for layer in range(n_layers)]
        mean = torch.stack([one["image to text"].mean(dim=0) for one in seen]).mean(dim=0)
        (places,) = model._family.places(_of(rows.row(row)))
        torch.testing.assert_close(maps.at(size)[row, places], mean.T.unflatten(1, size))
        if model._family.joint:
            assert set(seen[0]) == {f"{a} to {b}" for a in ("text", "image") for b in ("text", "image")}
            given = seen[0]["text to text"].sum(dim=-1) + seen[0]["text to image"].sum(dim=-1)
            assert (given <= 1 + 1e-5).all()
    assert len(weights.places) == 2 * n_steps * n_layers


def _of(conditioning):
    from interp.models.image.drawing import encoded

    return encoded(conditioning)


def test_weights_that_cannot_be_recorded_are_refused():
    model, old = tiny_image("qwen_image"), tiny_image("sd")
    with pytest.raises(ArgumentError, match="Name steps and layers to record, counted from 0"):
        AttentionWeights(steps=[], layers=[0])
    with pytest.raises(ArgumentError, match="There is no layer 9 to record: layers go from 0 to 1"):
        draw(model, model.encode([TEXT]), record=AttentionWeights(steps=[0], layers=[9]))
    with pytest.raises(ArgumentError, match="Nothing was recorded for row 0, step 0 and layer 0"):
        AttentionWeights(steps=[0], layers=[0]).at(0, 0, 0)
    with pytest.raises(
        ArgumentError, match="Weights by step, layer and head cannot be recorded for tiny-sd: record HeatMaps"
    ):
        draw(old, old.encode([TEXT]), record=AttentionWeights(steps=[0], layers=[0]))
