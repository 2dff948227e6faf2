"""The theorem where it lives: what a causal mask hides stays hidden, whatever is learned; the committed table says the rest."""

import pandas as pd
import pytest
import torch

from training.permutation import ARMS, ITEMS, RESULT, SEEDS, Permuter, draw, is_visible


@pytest.mark.parametrize("arm", ARMS)
def test_bits_of_rows_that_cannot_be_seen_change_nothing(arm):
    torch.manual_seed(0)
    model = Permuter(arm).eval()
    rows, _, source = draw(50, torch.Generator().manual_seed(0))
    for item in range(ITEMS):
        flipped = rows.clone()
        flipped[:, item, -1] = 1 - flipped[:, item, -1]
        changed = (model(flipped) - model(rows)).abs() > 1e-6
        blind = torch.arange(ITEMS) < item if arm == ARMS[0] else torch.zeros(ITEMS, dtype=torch.bool)
        assert not changed[:, blind].any()
        assert changed[:, ~blind].any(dim=0).all()
    assert bool(is_visible(arm, source).all()) == (arm != ARMS[0])


def test_slots_hold_the_bits_that_belong_there():
    rows, wanted, source = draw(20, torch.Generator().manual_seed(1))
    for text in range(20):
        for slot in range(ITEMS):
            row = int(source[text, slot])
            assert int(rows[text, row, :-1].argmax()) == slot
            assert rows[text, row, -1] == wanted[text, slot]


def test_the_committed_table_says_what_the_theorem_does():
    table = pd.read_csv(RESULT).set_index(["arm", "source_visible"])
    assert (table["seed"].groupby(level=[0, 1]).nunique() == len(SEEDS)).all()
    hidden = table.loc[(ARMS[0], False)]
    assert (hidden["right"] - 0.5).abs().max() < 4 * (0.25 / hidden["n_slots"].min()) ** 0.5
    for arm in ARMS:
        assert table.loc[(arm, True), "right"].min() > 0.98
    assert set(table.index) == {(ARMS[0], False), *((arm, True) for arm in ARMS)}
