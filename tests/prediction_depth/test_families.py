"""Skipped layers, reweaving and drafts on tiny models of many families, in float32 and bfloat16: what they must be equal to."""

import pytest
import torch

from interp.models.language.residuals import skipped_layers
from interp.models.lens.lens import LogitLens
from probes.prediction_depth.recycling import write_plain, write_recycled
from probes.prediction_depth.skipping import rewoven
from tests.tiny_models import random_ids, tiny

IDS = random_ids(24)
FAMILIES = ("llama", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "falcon", "cohere", "lfm2", "mamba")
MAMBA = dict(hidden_size=32, num_hidden_layers=3, vocab_size=97)


def logits_of(model, n_rows=1):
    with torch.no_grad():
        return model.hf(torch.tensor([IDS] * n_rows), use_cache=False).logits.float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_skipped_and_states_added_as_they_say(family, dtype):
    model = tiny(family, **(MAMBA if family == "mamba" else {}))
    model.hf.to(dtype)
    near = dict(atol=1e-4, rtol=0) if dtype == torch.float32 else dict(atol=0.06, rtol=0.02)
    n = model.n_layers
    plain = logits_of(model)[0]
    runs = torch.ones((3, n, len(IDS)), dtype=torch.bool)
    runs[1, 1:] = False  # the first layer alone
    runs[2, 1, -1] = False  # the last token skips a layer: no token before it can see that
    with skipped_layers(model, runs):
        whole, first, late = logits_of(model, 3)
    torch.testing.assert_close(whole, plain, **near)
    torch.testing.assert_close(first, LogitLens(model).each_depth(IDS)[1], **near)
    torch.testing.assert_close(late[:-1], plain[:-1], **near)
    assert (late[-1] - plain[-1]).abs().max() > 1e-3
    with rewoven(model, [n - 1], 0.0, at_random=False):
        torch.testing.assert_close(logits_of(model)[0], plain, **near)
    lens = LogitLens(model)
    states = lens.states(torch.tensor([IDS]))[:, 0]
    with rewoven(model, [n - 1], 0.5, at_random=False):
        added = logits_of(model)[0]
    by_hand = states[-1].float() + 0.5 * states[1:-1].float().mean(0)
    torch.testing.assert_close(added, lens.logits(by_hand.to(dtype), n), **near)


@pytest.mark.parametrize("family", FAMILIES)
def test_text_written_with_drafts_is_the_greedy_one(family):
    """Random models soon write in circles, so that drafts are right, and wrong before that."""
    model = tiny(family, **(MAMBA if family == "mamba" else {}))
    plain = write_plain(model, IDS[:8], 16)
    recycled, n_passes = write_recycled(model, IDS[:8], 16)
    assert recycled == plain
    assert n_passes <= 15
