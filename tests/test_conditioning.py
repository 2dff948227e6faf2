"""Edits of a conditioning on hand-written tensors: what stands where afterwards, and every refusal."""

import pytest
import torch

from interp.errors import ArgumentError
from interp.models.image.conditioning import Block, Conditioning

BLOCKS = (Block("clip", 0, 2), Block("t5", 2, 4))


def made(*rows: list[float], pooled: list[float] | None = None, maskable: bool = True) -> Conditioning:
    """One row for each list: position p holds (value, 10 × value)."""
    values = torch.tensor(rows, dtype=torch.float32)
    given = None if pooled is None else torch.tensor(pooled, dtype=torch.float32)[:, None]
    return Conditioning(torch.stack([values, 10 * values], dim=-1), given, BLOCKS, maskable=maskable)


def values(conditioning: Conditioning) -> list[list[float]]:
    assert torch.equal(conditioning.sequence[..., 1], 10 * conditioning.sequence[..., 0])  # whole vectors are moved
    return conditioning.sequence[..., 0].tolist()


TEXT = made([1, 2, 3, 4], [5, 6, 7, 8], pooled=[0.1, 0.2])
CLEAN = made([-1, -2, -3, -4], pooled=[0.9])


def test_keeping_and_replacing_are_complements_at_the_same_position():
    assert values(TEXT.keep([1, 3], CLEAN)) == [[-1, 2, -3, 4], [-1, 6, -3, 8]]
    assert values(TEXT.replace([1, 3], CLEAN)) == [[1, -2, 3, -4], [5, -2, 7, -4]]
    assert values(TEXT.keep([], CLEAN)) == [[-1, -2, -3, -4]] * 2
    for all_or_none in (TEXT.keep(range(4), CLEAN), TEXT.replace([], CLEAN)):
        assert torch.equal(all_or_none.sequence, TEXT.sequence)


def test_each_row_takes_from_the_row_beside_it_when_there_are_as_many():
    other = made([11, 12, 13, 14], [15, 16, 17, 18], pooled=[0.3, 0.4])
    assert values(TEXT.replace([0], other)) == [[11, 2, 3, 4], [15, 6, 7, 8]]
    assert TEXT.with_pooled(other).pooled is not other.pooled
    assert torch.equal(TEXT.with_pooled(other).pooled, other.pooled)


def test_pasted_vectors_may_come_from_other_positions():
    assert values(TEXT.paste([3, 0], CLEAN, [1, 2])) == [[-3, 2, 3, -2], [-3, 6, 7, -2]]
    assert values(TEXT.paste([1], CLEAN)) == [[1, -2, 3, 4], [5, -2, 7, 8]]
    assert values(TEXT.paste([0, 1], TEXT.row(1), [3, 3])) == [[8, 8, 3, 4], [8, 8, 7, 8]]


def test_the_mean_is_over_the_rows_of_the_sample():
    sample = made([0, 0, 0, 2], [4, 0, 0, 4], [8, 0, 3, 6], pooled=[0, 0, 0])
    assert values(TEXT.mean([0, 3], sample)) == [[4, 2, 3, 4], [4, 6, 7, 4]]


def test_the_pooled_vector_changes_only_when_it_is_asked_for():
    for edited in (TEXT.keep([0], CLEAN), TEXT.replace([0], CLEAN), TEXT.paste([0], CLEAN), TEXT.mean([0], CLEAN)):
        assert torch.equal(edited.pooled, TEXT.pooled)
    assert TEXT.with_pooled(CLEAN).pooled.flatten().tolist() == pytest.approx([0.9, 0.9])
    assert values(TEXT.with_pooled(CLEAN)) == values(TEXT)


def test_dropped_positions_are_masked_and_their_vectors_stay():
    dropped = TEXT.drop([0]).drop([2])
    assert dropped.mask.tolist() == [[False, True, False, True]] * 2
    assert values(dropped) == values(TEXT)
    assert TEXT.mask is None
    assert Conditioning.stack([TEXT.row(0), dropped.row(0)]).mask.tolist() == [[True] * 4, [False, True, False, True]]
    assert dropped.replace([1], CLEAN).mask.tolist() == dropped.mask.tolist()


def test_rows_are_chosen_and_stacked():
    again = Conditioning.stack([TEXT.row(-1), TEXT.select([0, 0])])
    assert values(again) == [[5, 6, 7, 8], [1, 2, 3, 4], [1, 2, 3, 4]]
    assert again.pooled.flatten().tolist() == pytest.approx([0.2, 0.1, 0.1])
    assert (len(again), again.n_positions) == (3, 4)
    assert again.blocks == BLOCKS
    with pytest.raises(IndexError):
        TEXT.row(2)


def test_no_edit_changes_what_it_was_made_from():
    before = (TEXT.sequence.clone(), CLEAN.sequence.clone(), TEXT.pooled.clone())
    for edited in (TEXT.paste([0], CLEAN), TEXT.keep([0], CLEAN), TEXT.mean([0], CLEAN), TEXT.select([0, 1])):
        edited.sequence.zero_()
    TEXT.with_pooled(CLEAN).pooled.zero_()
    assert all(map(torch.equal, before, (TEXT.sequence, CLEAN.sequence, TEXT.pooled)))


REFUSED = {
    "past the end": (lambda: TEXT.keep([4], CLEAN), "There is no position 4: positions go from 0 to 3"),
    "before the beginning": (lambda: TEXT.drop([-1]), "There is no position -1"),
    "twice": (lambda: TEXT.replace([1, 1], CLEAN), "A position is given twice"),
    "more than there is room for": (
        lambda: TEXT.paste([1], CLEAN, [1, 2]),
        "2 vectors cannot be pasted over 1 positions",
    ),
    "everything dropped": (lambda: TEXT.drop([0, 1]).drop([2, 3]), "Every token would be dropped: leave at least one"),
    "no mask": (lambda: made([1, 2, 3, 4], maskable=False).drop([1]), "takes no mask over the text, so .* use keep or"),
    "no pooled vector": (lambda: made([1, 2, 3, 4]).with_pooled(made([1, 2, 3, 4])), "has no pooled text vector"),
}


@pytest.mark.parametrize(("edit", "words"), REFUSED.values(), ids=REFUSED)
def test_an_edit_that_cannot_be_is_refused_in_a_sentence(edit, words):
    with pytest.raises(ArgumentError, match=words):
        edit()


def test_conditionings_of_two_models_or_of_unequal_rows_do_not_mix():
    elsewhere = Conditioning(CLEAN.sequence, CLEAN.pooled, (Block("clip", 0, 4),))
    three = made([0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], pooled=[0, 0, 0])
    for mixed in (lambda: TEXT.keep([0], elsewhere), lambda: Conditioning.stack([TEXT, made([1, 2, 3, 4])])):
        with pytest.raises(ValueError, match="not of one model"):
            mixed()
    for unequal in (lambda: TEXT.keep([0], three), lambda: TEXT.paste([0], three)):
        with pytest.raises(ValueError, match="3 rows cannot be put into 2"):
            unequal()
    with pytest.raises(ValueError, match="3 pooled vectors for 2 rows"):
        TEXT.with_pooled(three)
    with pytest.raises(ValueError, match="no conditioning to stack"):
        Conditioning.stack([])
