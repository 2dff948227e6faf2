"""What a pipeline is said to take is what its parts take once they are loaded."""

import json
import logging

import pytest
import torch

from interp.models.loading import footprint
from interp.models.loading.footprint import image_weights_bytes
from interp.models.loading.image import load_image
from tests.tiny_pipelines import BUILDERS


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")  # of Chroma's own denoiser
@pytest.mark.parametrize("family", BUILDERS)
def test_the_bytes_said_before_are_those_of_the_loaded_parts(family, tmp_path):
    pipeline = BUILDERS[family]()
    pipeline.save_pretrained(tmp_path)
    held = sum(
        weight.numel()
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for weight in part.parameters()
    )
    index = json.loads((tmp_path / "model_index.json").read_text(encoding="utf-8"))
    assert image_weights_bytes(str(tmp_path), index, torch.float32, None) == 4 * held > 0
    assert image_weights_bytes(str(tmp_path), index, torch.bfloat16, None) == 2 * held


def test_a_pipeline_that_does_not_fit_is_said_before_it_is_loaded(tmp_path, monkeypatch, caplog):
    BUILDERS["sd"]().save_pretrained(tmp_path)
    monkeypatch.setattr("interp.models.loading.image.free_bytes", lambda *_: 1000)
    with caplog.at_level(logging.WARNING, footprint.__name__):
        load_image(str(tmp_path), device="cpu")
    (said,) = caplog.messages
    assert "of weights, and cpu has 1e-06 GB free: take a smaller model" in said
