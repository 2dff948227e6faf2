"""Logit contribution against copy score, on heads planted so that the two must disagree."""

from math import log
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2LMHeadModel

from interp.stimuli.haystack import build_haystack
from probes.retrieval_heads.measure import measure_samples
from probes.retrieval_heads.needles import Needle
from probes.retrieval_heads.stimuli import Sample, build_control, build_frame, build_samples
from tests.planted import (
    COPY_HEAD,
    COPY_LOGIT,
    GOLD_TOKENS,
    IDS,
    MATCH,
    NEEDLE_TOKENS,
    copy_hf,
    copy_model,
    copying_head,
    needle_line,
    plant,
    prose,
    word_tokenizer,
)

SINK_WRITER, LOOKER, OPPONENT = (1, 0), (1, 3), (2, 1)
SINK_WEIGHT = 0.8
_COPY = copying_head()
PLANTED = {
    # Rests on the first token with 80% of its weight; the other 20% are on the answer, and it writes what it sees there.
    SINK_WRITER: copying_head(rest=1 + log(SINK_WEIGHT / (1 - SINK_WEIGHT)) / MATCH),
    # Looks where the copy head looks and writes nothing.
    LOOKER: copying_head(writes=False),
    # Looks there too, and pushes what it sees down with a quarter of the copy head's strength.
    OPPONENT: _COPY._replace(output=-_COPY.output / 4),
}
GOLD = GOLD_TOKENS + 1
SET_SCORE = (NEEDLE_TOKENS - 1) / NEEDLE_TOKENS


def samples_of(index: int, *, answerable: bool = True) -> list[Sample]:
    line: dict[str, Any] = dict(needle_line(index, answerable=answerable))
    line["real_needle"] += "."  # so that the needle's last token is part of the answer
    needle = Needle(answer=line["needle"], form="", **line)
    frame = build_frame(word_tokenizer(), needle, "plain", "auto", "planted")
    haystack = build_haystack(word_tokenizer(), (prose(30),), 150, seed=0, key=needle.id)
    found = build_samples(word_tokenizer(), needle, haystack, frame, [(64, 0.0), (120, 0.7)])
    return [*found, build_control(word_tokenizer(), needle, haystack, frame, context_tokens=64)]


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    """Two needles that are answered and one that is not, on the planted model with three more heads."""
    samples = [*samples_of(0), *samples_of(1), *samples_of(2, answerable=False)]
    return measure_samples(copy_model(PLANTED), samples, max_new_tokens=16, stop_ids=[IDS["\n"]], sharing=True)


def answered(frames: dict[str, pd.DataFrame], name: str) -> pd.DataFrame:
    samples = frames["samples"]
    return frames[name][frames[name]["sample_id"].isin(samples.loc[samples["passed"], "sample_id"])]


def contributions(frames: dict[str, pd.DataFrame], definition: str) -> pd.DataFrame:
    """Score by head (rows) and sample (columns)."""
    table = answered(frames, "logit_contribution").query("definition == @definition")
    return table.pivot(index=["layer", "head"], columns="sample_id", values="score")


def test_the_model_still_answers_with_the_other_heads_in_it(frames):
    samples = frames["samples"]
    expected = samples["has_needle"] & (samples["needle_id"] != "needle-2")
    assert samples["passed"].tolist() == expected.tolist()
    assert expected.sum() == 4


@pytest.mark.parametrize("definition", ["locos", "direct"])
def test_contribution_ranks_heads_by_what_they_write_from_the_needle(frames, definition):
    scores = contributions(frames, definition)
    for _, sample in scores.items():
        ranked = list(sample.sort_values(ascending=False).index)
        assert ranked[:2] == [COPY_HEAD, SINK_WRITER]
        assert ranked[-1] == OPPONENT
    # All of the attention, times the logit of a token copied so; over the steps that write the answer and no others.
    np.testing.assert_allclose(scores.loc[COPY_HEAD], COPY_LOGIT, rtol=0.02)
    np.testing.assert_allclose(scores.loc[OPPONENT], -COPY_LOGIT / 4, rtol=0.02)
    assert scores.loc[LOOKER].abs().max() < 1e-3
    others = scores.drop([COPY_HEAD, SINK_WRITER, OPPONENT])
    assert others.abs().to_numpy().max() < 0.01 * COPY_LOGIT


def test_a_head_that_writes_from_the_needle_but_looks_elsewhere_first_is_found_by_contribution_alone(frames):
    copies = answered(frames, "sample_head_scores").set_index(["layer", "head"])
    assert (copies.loc[[SINK_WRITER], ["set_score", "count_score", "hits"]] == 0).all(axis=None)
    # Independent of the probe: its weight on the token it copies, by eager attention, times the logit of a copy.
    weights = weights_on_the_copied_token(frames, SINK_WRITER)
    assert weights.mean() == pytest.approx(1 - SINK_WEIGHT, abs=0.02)
    scores = contributions(frames, "locos").loc[SINK_WRITER]
    np.testing.assert_allclose(scores, COPY_LOGIT * weights[scores.index], rtol=0.02)


def weights_on_the_copied_token(frames: dict[str, pd.DataFrame], head: tuple[int, int]) -> pd.Series:
    """Per answered sample, the head's mean attention over the answer's steps on the needle token that each writes."""
    hf: GPT2LMHeadModel = copy_hf()
    for place, planted in PLANTED.items():
        plant(hf, place, planted)
    hf.set_attn_implementation("eager")
    means = {}
    for sample in frames["samples"].query("passed").itertuples():
        prompt, answer = list(sample.prompt_token_ids), list(sample.answer_token_ids)
        with torch.no_grad():
            attention = hf(torch.tensor([prompt + answer]), output_attentions=True).attentions[head[0]][0, head[1]]
        steps = range(GOLD)
        assert answer[:GOLD] == prompt[sample.gold_start : sample.gold_end]
        found = [attention[len(prompt) - 1 + t, sample.gold_start + t].item() for t in steps]
        means[sample.sample_id] = np.mean(found)
    return pd.Series(means)


@pytest.mark.parametrize("head", [LOOKER, OPPONENT])
def test_a_head_that_only_looks_at_the_needle_is_found_by_the_copy_score_alone(frames, head):
    copies = answered(frames, "sample_head_scores").set_index(["layer", "head"])
    for column, expected in (("set_score", SET_SCORE), ("count_score", 1.0)):
        np.testing.assert_allclose(copies.loc[[head], column], expected)
        np.testing.assert_allclose(copies.loc[[COPY_HEAD], column], expected)
    assert contributions(frames, "locos").loc[head].max() < 1e-3


def test_contribution_is_taken_over_the_steps_that_write_the_answer_and_is_missing_without_any(frames):
    table = frames["logit_contribution"]
    assert set(answered(frames, "logit_contribution")["n_steps"]) == {GOLD}
    unanswered = table[table["needle_id"] == "needle-2"]
    assert len(unanswered) == 2 * 2 * 12  # two prompts, two definitions, twelve heads
    assert (unanswered["n_steps"] == 0).all()
    assert unanswered["score"].isna().all()
    controls = set(frames["samples"].query("not has_needle")["sample_id"])
    assert len(controls) == 3
    assert not controls & set(table["sample_id"])
