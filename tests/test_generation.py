"""Greedy generation, ragged and batched, equals transformers' of each row alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import UserError
from interp.models.language.prefix import Prefix, stack
from interp.models.language.recording import TopKeys, Weights
from tests.reading import IDS, ROWS, close, count_reads, plain
from tests.tiny_models import FAMILIES, random_ids, tiny


def transformers_greedy(hf: Any, ids: list[int], n_tokens: int) -> list[int]:
    tokens = torch.tensor([ids])
    options: Any = dict(max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
    return hf.generate(tokens, attention_mask=torch.ones_like(tokens), **options)[0, len(ids) :].tolist()


def until(tokens: list[int], stop: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
    return tokens[: end + 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_writes_what_transformers_writes_for_each_row_alone(family):
    model = tiny(family)
    expected = [transformers_greedy(plain(family), row, 12) for row in ROWS]
    written = model.generate(Prefix.empty(3, 3), ROWS, max_new_tokens=12)
    assert written == expected

    trunk = model.prefix(IDS[:20])
    expected = [transformers_greedy(plain(family), IDS[:20] + row, 8) for row in ROWS]
    stop = {expected[0][2], expected[1][5]}
    written = model.generate(trunk.fork(3), ROWS, max_new_tokens=8, stop_ids=sorted(stop))
    assert written == [until(tokens, stop) for tokens in expected]


STARTS = [random_ids(4 + seed, seed=seed) for seed in range(5)]


def test_leaving_ended_rows_behind_changes_neither_tokens_edits_nor_recordings():
    """Five rows, each with a head of its own set to zero, end one by one; each equals the same row alone. All that
    generation reads is the decode phase, so an edit of that phase does there what an edit of both does.
    """
    model = tiny("llama")
    grid = torch.zeros(5, 3, 4, dtype=torch.bool)
    for row in range(5):
        grid[row, row % 3, row % 4] = True
    queries = torch.stack([torch.arange(len(row) - 1, len(row) + 9) for row in STARTS])

    def alone(row: int, stop: list[int]) -> tuple[list[int], Tensor]:
        heads = model.edit_heads(grid[row : row + 1], "zero")
        with heads, model.record(queries[row : row + 1], Weights(20)) as recording:
            written = model.generate(model.prefix(), [STARTS[row]], max_new_tokens=10, stop_ids=stop)[0]
        return written, recording["weights"][:, 0]

    unstopped = [alone(row, [])[0] for row in range(5)]
    stop = [unstopped[3][0], unstopped[1][3], unstopped[4][6]]
    singles = [alone(row, stop) for row in range(5)]
    passes = count_reads(model)
    with model.edit_heads(grid, "zero", phase="decode"), model.record(queries, Weights(20)) as recording:
        written = model.generate(Prefix.empty(3, 5), STARTS, max_new_tokens=10, stop_ids=stop)
    assert len({len(row) for row in written}) >= 3
    assert passes[0][0] == 5 > passes[-1][0]
    for row, (tokens, weights) in enumerate(singles):
        assert written[row] == tokens
        steps = len(tokens)
        close(recording["weights"][:, row, :, :steps], weights[:, :, :steps], 2e-5)


def test_equal_logits_go_to_the_lowest_token():
    model = tiny("llama")
    model.hf.lm_head.weight.zero_()
    assert model.generate(model.prefix(), [IDS[:6]], max_new_tokens=2) == [[0, 0]]
    model.hf.lm_head.weight[[11, 40, 80]] = 1.0  # one score for the three, either side of the others' zero
    assert model.generate(model.prefix(), [IDS[:6]], max_new_tokens=1)[0][0] in (0, 11)


def test_a_prefix_can_be_used_again_after_it_was_cropped():
    model = tiny("llama")
    prefix = model.prefix(IDS[:20])
    first = model.generate(prefix, [IDS[20:25]], max_new_tokens=6)
    assert prefix.ids == [IDS[:25] + first[0][:-1]]  # the last token was written, not read
    prefix.crop(20)
    assert model.generate(prefix, [IDS[20:25]], max_new_tokens=6) == first


def test_a_row_that_has_ended_may_stand_at_the_end_of_the_window():
    """Two rows go on writing far inside the window; the third filled it and has ended."""
    model = tiny("llama", max_position_embeddings=40)
    rows = [IDS[:39], IDS[1:9], IDS[2:12]]
    stop = model.generate(model.prefix(), [rows[0]], max_new_tokens=1)[0]
    alone = [model.generate(model.prefix(), [row], max_new_tokens=8, stop_ids=stop)[0] for row in rows]
    assert [len(row) for row in alone] == [1, 8, 8]
    assert model.generate(Prefix.empty(3, 3), rows, max_new_tokens=8, stop_ids=stop) == alone


def test_a_recording_can_be_opened_on_chosen_rows():
    """Rows keep the number they had in the batch they were chosen from: queries and results go by it."""
    model = tiny("llama")
    chosen = stack([model.prefix(row[:8]) for row in ROWS]).select([2, 1])
    with model.record(torch.tensor([[9]]), TopKeys(1)) as recording:
        model.extend(chosen, [IDS[:4], IDS[:4]])
    with model.record(torch.tensor([[9]]), TopKeys(1)) as alone:
        model.prefix(ROWS[2][:8] + IDS[:4])
    close(recording["top_logit"][:, 2], alone["top_logit"][:, 0])


def test_what_is_not_a_number_is_said():
    """float16 ends at 65504: from a token on that leads past it all is NaN, and means over tokens would leave that out."""
    model, loud = tiny("llama"), 90
    model.hf.get_input_embeddings().weight.data[loud] *= 1e7
    quiet = [token for token in random_ids(12) if token != loud]
    ids = [*quiet[:4], loud, *quiet[4:7]]
    assert model.surprisal([ids])[0, 1:].isfinite().all()
    model.hf.half()
    assert model.surprisal([quiet])[0, 1:].isfinite().all()
    with pytest.raises(
        UserError, match=r"tiny-llama in float16 predicts what is not a number on this text: use --dtype"
    ):
        model.surprisal([quiet, ids])
    with pytest.raises(UserError, match="not a number"):
        model.generate(model.prefix(ids[:3]), [ids[3:5]], max_new_tokens=2)
