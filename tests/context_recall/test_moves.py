"""A question that is read from further away by its positions alone: right in every family that turns keys, refused in all others."""

import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError, UserError
from interp.models.language.positions import moved
from probes.context_recall.experiment import ContextRecall
from probes.context_recall.findings import _causes as sentences_on
from probes.context_recall.measure import Reading, measure_samples
from probes.context_recall.summaries import _causes as causes_of
from probes.context_recall.summaries import controls
from tests.context_recall.test_measure import model_of, samples, sets_of
from tests.context_recall.texts import CORPUS, FRAMES, word_source
from tests.tiny_tokenizers import of_kind

TURNING = ("llama", "gemma2", "gemma3_text", "gpt_neox", "mixtral", "cohere")
AWAY = (5, 40)


@pytest.fixture
def words(tmp_path):
    from probes.context_recall.words import words_of

    return words_of(of_kind("byte-level", CORPUS), word_source(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", TURNING)
def test_a_moved_question_is_the_model_read_at_those_positions(family, dtype, words):
    model = model_of(family, dtype)
    (sample,) = samples(model.tokenizer, words, "mqar", 1, FRAMES, pairs=3)
    reading = Reading(model, sets_of((0, 1), others=((0, 0),)), (), None, AWAY)
    answers = measure_samples(reading, [sample])["answers"].set_index(["question", "condition"])
    question = sample.questions[0]
    values = [value[0] for value in (*question.right, *question.wrong)]
    ids = torch.tensor([[*sample.ids, *question.ids]])
    near = 2e-3 if dtype == torch.float32 else 0.3
    found = {}
    for away, condition in ((0, "whole"), *((away, f"moved by {away}") for away in AWAY)):
        places = torch.arange(ids.shape[1])[None].clone()
        places[:, len(sample.ids) :] += away
        with torch.inference_mode():
            logits = model.hf(ids, position_ids=places, attention_mask=torch.ones_like(ids)).logits[0, -1].float()
        found[condition] = float(logits[values[0]] - logits[values[1:]].max())
        assert answers.loc[(0, condition), "first_margin_nats"] == pytest.approx(found[condition], abs=near)
    assert abs(found["whole"] - found["moved by 40"]) > 1e-5


@pytest.mark.parametrize("family", ["gpt2", "falcon-alibi"])
def test_models_without_rotary_positions_refuse(family):
    model = model_of(family)
    with pytest.raises(UserError, match="no rotary positions"), moved(model, [1], 10):
        raise AssertionError


def test_a_move_past_the_window_is_refused():
    model = model_of("llama", max_position_embeddings=64)
    with pytest.raises(ArgumentError, match="knows 64 positions"), moved(model, [0, 60], 10):
        raise AssertionError


def test_a_moved_question_is_held_against_the_one_that_stands():
    assert controls(["whole", "moved by 40"])["moved by 40"] == "whole"


def test_a_margin_that_grows_is_told_as_a_gain():
    """A cause is a margin lost: the intact one minus the changed one, so more margin when moved is below 0, and the sentence says so."""
    rows = [
        {
            "model": "tiny", "task": "mqar", "cell": "", "is_length": False, "sample_id": f"{number}", "question": 0, "draw": 0,
            "condition": condition, "first_margin_nats": margin + number, "is_first_right": True, "is_said": False,
        }
        for number in range(12)
        for condition, margin in (("whole", 1.0), ("moved by 40", 3.0))
    ]  # fmt: skip
    causes = causes_of(ContextRecall(moved_tokens=(40,)), pd.DataFrame(rows))
    (text,) = [finding.text for finding in sentences_on(causes)]
    assert (
        text
        == "Question moved by 40 positions, text unchanged, margin lost (below 0: gained), nats: mqar -2.00 [-2.00, -2.00]."
    )
