"""The residual stream of families whose layers hand it on in other shapes: read as it is, or refused in a sentence."""

from typing import Any

import pytest
import torch

from benchmarks.census.one import random_model
from benchmarks.census.shrink import tiny_config
from interp.errors import UserError
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import changed_residuals, layer_modules, read_residuals, skipped_layers
from tests.tiny_models import random_ids

IDS = torch.tensor([random_ids(12)])


def small(family: str) -> LanguageModel:
    return LanguageModel(
        random_model(tiny_config(family)), None, ModelIdentity(f"tiny-{family}", "tests", "0", "float32")
    )


def logits_of(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(input_ids=IDS, use_cache=False).logits


def test_a_stream_in_a_list_is_read_and_changed() -> None:
    """OpenAI GPT's layers return lists."""
    model = small("openai-gpt")
    with torch.no_grad():
        wanted = model.hf(input_ids=IDS, use_cache=False, output_hidden_states=True).hidden_states
    found = read_residuals(model, IDS, range(model.n_layers))
    for layer, stream in found.items():
        torch.testing.assert_close(stream, wanted[layer + 1])
    plain = logits_of(model)
    with changed_residuals(model, 1, lambda stream: 0 * stream + found[1]):
        torch.testing.assert_close(logits_of(model), plain)
    with changed_residuals(model, 1, lambda stream: stream + 1):
        assert not torch.allclose(logits_of(model), plain, atol=1e-2)
    runs = torch.ones((1, model.n_layers, IDS.shape[1]), dtype=torch.bool)
    runs[:, -1] = False
    with skipped_layers(model, runs):
        seen: list[Any] = []
        last = layer_modules(model)[-1].register_forward_hook(lambda _, __, output: seen.append(output[0]))
        logits_of(model)
        last.remove()
    torch.testing.assert_close(seen[0], found[model.n_layers - 2])


@pytest.mark.parametrize("family", ["gemma3n_text", "deepseek_v4", "hy_v4"])
def test_several_streams_are_no_stream(family: str) -> None:
    """Their layers hand on several vectors for each token; on the first axis they would be taken for texts."""
    model = small(family)
    one_vector = r"hand on something other than one vector for each token.*name another model"
    with pytest.raises(UserError, match=one_vector):
        read_residuals(model, IDS, [0])
    runs = torch.ones((1, model.n_layers, IDS.shape[1]), dtype=torch.bool)
    with pytest.raises(UserError, match=one_vector), skipped_layers(model, runs):
        logits_of(model)
    with pytest.raises(UserError, match=one_vector), changed_residuals(model, 0, lambda stream: stream):
        logits_of(model)
    logits_of(model)  # nothing is left behind


def test_a_layer_that_reads_no_text_has_no_stream() -> None:
    """Mllama's layers that look at pictures are left out where there is none."""
    model = small("mllama")
    pictures = model.hf.config.get_text_config().cross_attention_layers
    with pytest.raises(UserError, match=rf"Layer {pictures[0]} of tiny-mllama .* takes no part in reading a text"):
        read_residuals(model, IDS, range(model.n_layers))
    others = [layer for layer in range(model.n_layers) if layer not in pictures]
    assert read_residuals(model, IDS, others).keys() == set(others)
