"""Characters with changing rows: what the arms share and where they differ, and that a stopped training goes on to the same weights."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from training import changing_rows
from training.changing_rows import ALPHABET, ARMS, CONTEXT, RESULT, Characters, characters, new_rows, trained

TEXTS = [
    "The cat sat on the mat, and the dog ran home. " * 8,
    "A hen is not a cat; it eats what the others leave. " * 8,
]


def test_characters_are_lower_case_and_one_stands_for_all_others() -> None:
    assert "".join(ALPHABET[number] for number in characters("Ab 9é.")) == "ab \0\0."


def test_rows_of_a_text_are_what_is_read_and_what_is_written() -> None:
    """Letters that change places, rows included, leave the model's logits where they were, under the letters' new names."""
    torch.manual_seed(0)
    model, ids = Characters().eval(), characters(TEXTS[0][:CONTEXT])[None]
    rows, order = new_rows(1), torch.randperm(len(ALPHABET))
    plain = model(ids, rows)
    swapped = model(order.argsort()[ids], rows[:, order])
    assert torch.allclose(swapped, plain[..., order], atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing_rows, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(changing_rows, "FORGET_EVERY", 2)
    whole = trained(arm, TEXTS, steps=5, checkpoint=tmp_path / "whole.pt")
    resumed = trained(arm, TEXTS, steps=5, checkpoint=tmp_path / "whole.pt")  # from step 4 on
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_forgetting_draws_the_rows_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing_rows, "FORGET_EVERY", 2)
    plain, active = (trained(arm, TEXTS, steps=3).rows for arm in ("vanilla", "active"))
    assert (active - plain).norm() > 0.5 * plain.norm()


def test_the_stored_table_has_every_arm_and_class_of_places() -> None:
    table = pd.read_csv(RESULT)
    model = Characters().eval()
    wanted = pd.concat([part for arm in ARMS for part in changing_rows.tested(model, arm, TEXTS)])
    columns = ["arm", "rows", "places"]
    assert set(map(tuple, table[columns].to_numpy())) == set(map(tuple, wanted[columns].to_numpy()))
    assert (table["nats_ci_low"] <= table["nats"]).all()
    assert (table["nats"] <= table["nats_ci_high"]).all()
