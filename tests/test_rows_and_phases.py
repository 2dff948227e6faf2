"""Rows and phases of what is open: passes that reach the decoder past the base model, rows selected twice, sampled texts."""

import pytest
import torch

import interp.models.language.sampling as sampling
from interp.errors import UserError
from interp.models.language.recording import Weights
from tests.tiny_models import random_ids, tiny

ALL = [(layer, head) for layer in range(3) for head in range(4)]
IDS = torch.tensor([random_ids(12), random_ids(12, 1)])


def generated(model, use_cache: bool) -> torch.Tensor:
    options = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0, use_cache=use_cache)
    output = model.hf.generate(
        IDS, attention_mask=torch.ones_like(IDS), output_logits=True, return_dict_in_generate=True, **options
    )
    return torch.stack(output.logits)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2"])
def test_phases_are_known_in_generate_or_refused(family):
    model = tiny(family)
    plain = generated(model, use_cache=True)
    for phase, first_step_changes in (("both", True), ("prefill", True), ("decode", False)):
        with model.edit_heads(ALL, "zero", phase=phase):
            change = (generated(model, use_cache=True) - plain).abs().amax(dim=(1, 2))
        assert bool(change[0] > 1e-3) is first_step_changes
        assert change[1] > 1e-3
    for phase in ("prefill", "decode"):
        with model.edit_heads(ALL, "zero", phase=phase), pytest.raises(UserError, match="phase"):
            generated(model, use_cache=False)


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_edits_and_recordings_of_another_number_of_rows_are_refused(family):
    model = tiny(family)
    with model.edit_heads(torch.zeros(5, 3, 4).bool().fill_(True), "zero"), pytest.raises(UserError, match="5 rows"):
        model.hf(IDS)
    with model.record(torch.zeros(5, 1, dtype=torch.long), Weights(12)), pytest.raises(UserError, match="5 rows"):
        model.hf(IDS)


def test_copies_of_one_row_are_a_batch_of_their_own():
    model, ids = tiny("llama"), random_ids(20)
    with model.record(torch.tensor([[20]]), Weights(21)) as together:
        model.extend(model.prefix(ids).select([0, 0, 0]), [[5], [6], [7]])
    for row, token in enumerate((5, 6, 7)):
        with model.record(torch.tensor([[20]]), Weights(21)) as alone:
            model.extend(model.prefix(ids), [[token]])
        torch.testing.assert_close(together["weights"][:, row], alone["weights"][:, 0])
    grid = torch.zeros(3, 3, 4).bool()
    grid[1] = True
    plain = model.extend(model.prefix(ids).select([0, 0, 0]), [[5]] * 3)
    rows = model.prefix(ids).select([0, 0, 0])
    with model.edit_heads(grid, "zero"):
        edited = model.extend(rows, [[5]] * 3)
    assert (edited - plain).abs().amax(dim=(1, 2)).gt(1e-3).tolist() == [False, True, False]


def test_a_recording_of_rows_that_were_selected_twice_is_refused():
    model = tiny("llama")
    with model.record(torch.tensor([[0]]), Weights(1)), pytest.raises(UserError, match="more than once"):
        model.extend(model.rows(2).select([0, 0, 1]), [[5], [6], [7]])


def sampled(model, spine=None, n_jobs: int = 4, batch_rows: int = 32):
    ids = random_ids(20)
    jobs = [sampling.Job(19, (ids[-1],), 6, ("k", number)) for number in range(n_jobs)]
    spine = spine or model.prefix(ids[:-1]).fork(1)
    return sampling.sample(model, spine, jobs, sampling.Policy(), sampling.StopRule([]), batch_rows=batch_rows)


@pytest.mark.parametrize("phase", ["both", "prefill", "decode"])
def test_draws_near_a_border_are_decided_under_the_same_edits(monkeypatch, phase):
    model = tiny("llama")
    texts = []
    for near in (-1.0, 2.0):  # no draw is decided on a text read alone; every one is
        monkeypatch.setattr(sampling, "NEAR_TIE", near)
        with model.edit_heads(ALL, "zero", phase=phase):
            texts.append([one.token_ids for one in sampled(model)])
    assert texts[0] == texts[1]


def test_what_goes_by_rows_is_refused_where_rows_write_one_text_after_the_other():
    model = tiny("llama")
    with model.record(torch.tensor([[19]]), Weights(30)), pytest.raises(UserError, match="sampled"):
        sampled(model)
    spine = model.prefix(random_ids(20)[:-1])
    with model.edit_heads(torch.zeros(2, 3, 4).bool().fill_(True), "zero"), pytest.raises(UserError, match="sampled"):
        sampled(model, spine, n_jobs=4, batch_rows=2)
