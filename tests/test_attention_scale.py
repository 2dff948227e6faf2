"""Attention to some positions of the text is multiplied, in the rows and the branch that are meant, and nothing stays behind."""

import math

import numpy as np
import pytest
import torch

from interp.errors import ArgumentError
from interp.models.image.drawing import scale_bias, scaled_attention, takes_scaled_attention
from tests.tiny_pipelines import tiny_image

TEXT = "a red circle"


def test_the_bias_multiplies_weights_before_they_are_normalised():
    scores = torch.tensor([0.3, -1.0, 0.7])
    weights = scores.softmax(dim=0)
    biased = (scores + scale_bias([[1, 2]], 0.25, 3)[0, 0]).softmax(dim=0)
    by_hand = weights * torch.tensor([1.0, 0.25, 0.25])
    torch.testing.assert_close(biased, by_hand / by_hand.sum())
    assert scale_bias([[], [2]], 0.0, 3).tolist() == [[[0, 0, 0]], [[0, 0, -math.inf]]]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart_sigma", "sana"])
def test_only_the_rows_that_are_meant_change(family, guidance):
    model = tiny_image(family)
    texts, noise = model.encode([TEXT, TEXT]), model.noise([1, 2])
    plain = model.generate(texts, noise, guidance=guidance)
    with scaled_attention(model._family.denoiser, [[], [2, 3]], 0.0, texts.n_positions):
        scaled = model.generate(texts, noise, guidance=guidance)
    dropped = model.generate(texts.row(1).drop([2, 3]), noise[1:], guidance=guidance)
    assert np.abs(scaled[0] - plain[0]).max() < 1e-5
    assert np.abs(scaled[1] - dropped[0]).max() < 1e-5
    assert np.abs(scaled[1] - plain[1]).max() > 1e-4
    assert np.array_equal(model.generate(texts, noise, guidance=guidance), plain)  # nothing stays behind


def test_what_cannot_be_scaled_is_refused_and_an_error_leaves_the_processors():
    unet = tiny_image("sd").pipeline.unet
    before = unet.attn_processors
    with pytest.raises(ArgumentError, match="An attention scale is 0 or more"), scaled_attention(unet, [[1]], -1.0, 12):
        pass
    with pytest.raises(ZeroDivisionError), scaled_attention(unet, [[1]], 0.5, 12):
        raise ZeroDivisionError
    assert unet.attn_processors == before
    joint = tiny_image("flux").pipeline.transformer
    assert not takes_scaled_attention(joint)
    with (
        pytest.raises(ArgumentError, match="joint attention, which is not scaled"),
        scaled_attention(joint, [[1]], 0.5, 12),
    ):
        pass
