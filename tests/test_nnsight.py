"""nnsight around `model.hf`: its traces run through our attention, so its interventions and ours see each other."""

from typing import Any

import pytest
import torch
from torch import Tensor

from interp.models.language.architecture import output_projection
from interp.models.language.model import LanguageModel
from interp.models.language.recording import Weights
from tests.test_bridge import word_tokenizer
from tests.tiny_models import FAMILIES, random_ids, tiny, tiny_hf

N = 24
IDS = random_ids(N, seed=6)
TOKENS = torch.tensor([IDS])
WIDTH = 16  # of one head
HEADS = [(0, 1), (2, 3)]
EVERY_QUERY = torch.arange(N)[None]
EAGER_FAMILIES = [family for family in FAMILIES if family != "falcon-alibi"]  # its eager path is wrong in transformers


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a.float(), b.float(), atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def nnsight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """nnsight, told not to add `.save` to every object of this process: other tests would see it."""
    settings = tmp_path_factory.mktemp("nnsight") / "config.yaml"
    settings.write_text("APP:\n  PYMOUNT: false\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNSIGHT_CONFIG", str(settings))
        import nnsight
    return nnsight


def read(model: LanguageModel) -> Tensor:
    return model.extend(model.prefix(), [IDS], logits="all")


def projection_path(model: LanguageModel, layer: int) -> str:
    wanted = output_projection(model.attention_modules[layer])
    return next(path for path, module in model.hf.named_modules() if module is wanted)


@pytest.mark.parametrize("family", EAGER_FAMILIES)
def test_a_trace_runs_our_attention_and_a_recording_sees_it(family, nnsight):
    model = tiny(family)
    traced = nnsight.NNsight(model.hf)
    with model.record(EVERY_QUERY, Weights(N)) as recording, traced.trace(TOKENS):
        logits = nnsight.save(traced.output.logits)
    with torch.no_grad():
        eager = tiny_hf(family, attention="eager")(TOKENS, output_attentions=True)
    close(logits, eager.logits)
    close(recording["weights"][:, 0], torch.stack(eager.attentions)[:, 0], 2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_zeroing_the_input_of_the_output_projection_in_a_trace_equals_our_edit(family, nnsight):
    model = tiny(family)
    traced = nnsight.NNsight(model.hf)
    paths = {layer: projection_path(model, layer) for layer, _ in HEADS}
    before = read(model)
    with traced.trace(TOKENS):
        for layer, head in HEADS:
            traced.get(paths[layer]).input[..., head * WIDTH : (head + 1) * WIDTH] = 0
        theirs = nnsight.save(traced.output.logits)
    with model.edit_heads(HEADS, "zero"):
        with traced.trace(TOKENS):
            ours = nnsight.save(traced.output.logits)
        alone = read(model)
    close(ours, theirs, 1e-6)
    close(alone, theirs)
    assert (theirs - before).abs().max() > 1e-2
    close(read(model), before, 0)


def test_an_edit_of_ours_and_one_of_nnsight_add_up(nnsight):
    """nnsight scales a layer's output while we block a head: the same as the two done by plain torch hooks."""
    model, plain = tiny("llama"), tiny("llama")
    traced = nnsight.NNsight(model.hf)
    with model.edit_heads([(2, 0)], "zero"), model.record(EVERY_QUERY, Weights(N)) as recording, traced.trace(TOKENS):
        layer = traced.model.layers[0]
        layer.output = layer.output * 0.5
        logits = nnsight.save(traced.lm_head.output)

    def zero(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].index_fill(-1, torch.arange(WIDTH), 0.0),)

    layers = plain.hf.model.layers
    layers[0].register_forward_hook(lambda module, inputs, output: output * 0.5)
    layers[2].self_attn.o_proj.register_forward_pre_hook(zero)
    with plain.record(EVERY_QUERY, Weights(N)) as expected:
        close(logits, read(plain))
    close(recording["weights"], expected["weights"], 2e-5)


def test_our_edits_and_recordings_follow_a_generation_of_nnsight(nnsight, tmp_path):
    model = tiny("llama")
    queries = torch.arange(N - 2, N + 5)[None]
    options = dict(max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
    unedited = model.hf.generate(TOKENS, attention_mask=torch.ones_like(TOKENS), **options)
    with model.edit_heads(HEADS, "zero"), model.record(queries, Weights(N + 5)) as plain:
        expected = model.hf.generate(TOKENS, attention_mask=torch.ones_like(TOKENS), **options)
    traced = nnsight.TransformersModel(model.hf, tokenizer=word_tokenizer(tmp_path))
    recorded = model.record(queries, Weights(N + 5))
    with model.edit_heads(HEADS, "zero"), recorded as recording, traced.generate(TOKENS, **options) as tracer:
        written = nnsight.save(tracer.result)
    assert written.tolist() == expected.tolist()
    assert written.tolist() != unedited.tolist()
    close(recording["weights"], plain["weights"], 0)
    close(recording["weights"].sum(-1), torch.ones(3, 1, 4, 7))
