"""Trajectories that the toolkit drew are read again in every type: none is refused, and p is what the draw was made with."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from probes.critical_tokens.explorer import Explorer, with_own
from probes.critical_tokens.findings import _rereading
from probes.critical_tokens.measure import spine_rows
from probes.critical_tokens.responses import Response, Setting, respond
from tests.critical_tokens.small import PROBLEM, small_setting, tokenizer
from tests.tiny_models import tiny_hf

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
POLICIES = [dict(top_p=0.95), dict(top_k=20), dict(top_p=0.95, top_k=20)]


def model_of(dtype: str) -> LanguageModel:
    """Wide enough scores that a step of bfloat16 moves tokens over the border of a policy's set."""
    hf = tiny_hf("llama").to(TYPES[dtype])
    with torch.no_grad():
        hf.lm_head.weight.mul_(4)
    return LanguageModel(hf, tokenizer(), ModelIdentity("tiny-llama", "tests", "0", dtype))


def drawn(model: LanguageModel, setting: Setting, n_draws: int = 12) -> list[Response]:
    return respond(model, PROBLEM, setting, n_draws)


def read_again(model: LanguageModel, response: Response, setting: Setting, known: bool = True) -> Explorer:
    probability = response.draw_probability if known else ()
    return Explorer(model, PROBLEM, "parity-1-1-0-0", response.token_ids, setting, probability)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_no_drawn_trajectory_is_refused(dtype: str, temperature: float, policy: dict[str, float]) -> None:
    model = model_of(dtype)
    setting = small_setting(12, temperature=temperature, **policy)
    for response in drawn(model, setting):
        explorer = read_again(model, response, setting)
        assert len(response.draw_probability) == len(response.token_ids)
        np.testing.assert_allclose(explorer.probability.sum(-1), 1, atol=1e-12)
        own = explorer.probability[range(len(explorer.p)), response.token_ids].numpy()
        np.testing.assert_allclose(own, explorer.p, rtol=1e-12)
        assert (explorer.p > 0).all()
        if dtype == "float32":
            np.testing.assert_array_equal(explorer.p, explorer.reread_p)
            np.testing.assert_allclose(explorer.p, response.draw_probability, atol=1e-4)
        else:
            np.testing.assert_array_equal(explorer.p, np.minimum(1, response.draw_probability))


def test_half_precision_is_where_a_token_falls_out_of_the_set() -> None:
    """The test above can fail: read again, tokens that were drawn have p = 0, and the report says how many."""
    model = model_of("bfloat16")
    spines = []
    for policy in (dict(top_p=0.5), dict(top_k=2)):
        setting = small_setting(20, temperature=1.0, **policy)
        explorers = [read_again(model, response, setting) for response in drawn(model, setting, 16)]
        spines.append(pd.concat(spine_rows(explorer) for explorer in explorers))
    lost = sum(int((spine["reread_probability"] == 0).sum()) for spine in spines)
    assert lost > 0
    (finding,) = _rereading(pd.concat(spines))
    assert f"and {lost} tokens fall outside" in finding.text
    assert finding.kind == "warning"


def test_the_rest_is_shared_in_proportion_or_drawn_with_the_token_forbidden() -> None:
    setting = small_setting(top_k=2)
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    shares = setting.policy.distribution(logits).probability
    torch.testing.assert_close(
        with_own(shares, logits, setting.policy, 1, 0.65), torch.tensor([0, 0.65, 0, 0.35], dtype=torch.float64)
    )
    expected = torch.tensor([0.2, 0.8 * 4 / 7, 0, 0.8 * 3 / 7], dtype=torch.float64)
    torch.testing.assert_close(with_own(shares, logits, setting.policy, 0, 0.2), expected, atol=1e-6, rtol=0)
    sharp = small_setting(top_k=1).policy
    alone = with_own(sharp.distribution(logits).probability, logits, sharp, 1, 0.9)
    torch.testing.assert_close(alone, torch.tensor([0, 0.9, 0, 0.1], dtype=torch.float64), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_the_probability_of_a_draw_is_the_policys_on_the_text_before_it() -> None:
    """Against the plainest pass, in float32."""
    model, setting = model_of("float32"), small_setting(8, temperature=0.7, top_p=0.9)
    prompt = [3, 4, 5, 6]
    for response in drawn(model, setting, 6):
        for kept, token in enumerate(response.token_ids):
            logits = model.hf(torch.tensor([[*prompt, *response.token_ids[:kept]]])).logits[0, -1]
            expected = setting.policy.distribution(logits).probability[token]
            assert response.draw_probability[kept] == pytest.approx(float(expected), abs=1e-5)
