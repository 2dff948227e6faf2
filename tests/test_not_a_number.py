"""Models that leave the range of float16: whatever reads them gives numbers or refuses in a sentence; a mean would skip what is none."""

import numpy as np
import pytest
import torch
from interp.models.lens.upper import read_through

from interp.errors import UserError
from interp.models.dictionary.fidelity import _loss
from interp.models.dictionary.windows import Windows
from interp.models.language.logit_directions import LogitDirections
from interp.models.language.recording import HeadOutputs, TopKeys, Weights
from interp.models.language.residuals import read_residuals
from interp.models.lens.lens import LogitLens
from probes.prediction_depth.skipping import _read
from probes.retrieval_heads.answers import answer_plainly
from tests.tiny_models import random_ids, tiny

IDS = random_ids(12)
LAST = 2


def overflowing(where):
    """A model that was sound when it was looked at first, and whose `where` overflows then."""
    model = tiny("llama", tie_word_embeddings=False)
    model.hf.half()
    LogitLens(model)
    LogitDirections(model)
    if where == "stream":  # in the first layer
        model.hf.model.layers[0].mlp.down_proj.weight.data.fill_(6e4)
        model.hf.model.layers[0].mlp.up_proj.weight.data.fill_(6e4)
    elif where == "last stream":
        model.hf.model.layers[LAST].mlp.down_proj.weight.data.fill_(6e4)
        model.hf.model.layers[LAST].mlp.up_proj.weight.data.fill_(6e4)
    else:  # one token's logit
        model.hf.lm_head.weight.data[5] = 6e4 * model.hf.lm_head.weight.data[5].sign()
        model.hf.model.norm.weight.data.fill_(100)
    return model


def recorded(model):
    """Of a pass whose logits nobody asks for."""
    with model.record(torch.arange(12)[None], Weights(12), TopKeys(1), HeadOutputs()) as seen:
        model.extend(model.prefix(), [IDS], logits="none")
    return [seen[name].float() for name in ("weights", "top_logit", "head_output")]


def plain_answer(model):
    found = answer_plainly(model, IDS, max_new_tokens=3, stop_ids=[])
    return [found.logits]


def windows():
    return Windows(torch.tensor([IDS]), torch.tensor([12]), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


def through_upper_layers(model):
    one = torch.ones(1, 64).half()
    return [read_through(LogitLens(model), one, one, 1, torch.tensor([[1, 2]]))]


READERS = {
    "logits": lambda model: [model.extend(model.prefix(), [IDS], logits="all")],
    "surprisal": lambda model: [model.surprisal([IDS])[:, 1:]],
    "generate": lambda model: [
        torch.tensor(model.generate(model.prefix(IDS[:6]), [IDS[6:]], max_new_tokens=2)).float()
    ],
    "recording": recorded,
    "residuals": lambda model: list(read_residuals(model, torch.tensor([IDS]), [0, 1, LAST]).values()),
    "lens": lambda model: [LogitLens(model).each_depth(IDS)],
    "upper layers": through_upper_layers,
    "fidelity": lambda model: [torch.tensor(_loss(model, windows().batches(1), 0))],
    "skipped layers": lambda model: [_read(model, [IDS])[0]],
    "plain answer": plain_answer,
}


@pytest.mark.parametrize("where", ["stream", "last stream", "logit"])
@pytest.mark.parametrize("reader", READERS)
def test_what_overflows_is_refused_in_a_sentence_wherever_it_is_read(reader, where):
    model = overflowing(where)
    try:
        with torch.inference_mode():
            found = READERS[reader](model)
    except UserError as error:
        said = str(error)
        assert "not a number" in said
        assert "--dtype float32" in said
        return
    assert all(bool(one.isfinite().all()) for one in found)
    assert where != "stream" or reader == "upper layers", "nothing else can be read of this model"
