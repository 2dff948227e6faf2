"""What a run leaves beside tables and figures: grids as PNG files, and a rule that can be used without drawing."""

import dataclasses
import io
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figures.t2i_flow_grids import Grid, Shown, grid_png
from interp.errors import ArgumentError
from interp.models.image.conditioning import Conditioning
from probes.t2i_flow.predictor import (
    fit_rule,
    fitted_rules,
    labelled_tokens,
    predict_representative,
    predictor_document,
    read_rules,
    write_rules,
)
from tests.t2i_flow.planted import PlantedImages

RED = np.zeros((16, 16, 3), dtype=np.uint8) + np.array([255, 0, 0], dtype=np.uint8)


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def n_red(picture: np.ndarray) -> int:
    return int((picture == [255, 0, 0]).all(axis=-1).sum())


def test_a_grid_has_every_picture_sharp_and_its_words_in_ink():
    grid = Grid(
        "A title",
        "A caption.",
        [("first row", [Shown("one", RED), Shown("two", RED)]), ("second", [Shown("three", RED)])],
    )
    picture = opened(grid_png(grid))
    assert n_red(picture) == 3 * 96 * 96  # 16 pixels, each a sharp square of 6
    without = opened(grid_png(Grid("A title", "A caption.", [(" ", row) for _, row in grid.rows])))
    assert picture.shape == without.shape
    assert (picture < 128).all(axis=-1).sum() > (without < 128).all(axis=-1).sum()


def test_a_grid_is_no_higher_than_it_may_be_and_says_what_is_left_out():
    grid = Grid("A title", "A caption.", [(f"row {number}", [Shown("one", RED)]) for number in range(50)])
    whole, part = opened(grid_png(grid, highest=100_000)), opened(grid_png(grid, highest=1000))
    assert n_red(whole) == 50 * 96 * 96
    assert part.shape[0] <= 1000
    assert n_red(part) % (96 * 96) == 0
    assert 0 < n_red(part) < n_red(whole)
    assert n_red(opened(grid_png(grid, highest=1))) == 96 * 96


# ---------------------------------------------------------------------- the saved rule


def test_a_rule_that_is_written_and_read_says_exactly_the_same(tmp_path):
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(40, 5)), rng.random(40) < 0.5
    rule = fit_rule(vectors, labels)
    path = tmp_path / "rule.json"
    path.write_text(write_rules({"any": rule}, "model"))
    model, rules, _ = read_rules(path)
    assert model == "model"
    assert np.array_equal(rules["any"].log_odds(vectors), rule.log_odds(vectors))
    by_hand = ((vectors - rule.mean) / rule.scale * rule.weights).sum(axis=1) + rule.bias
    np.testing.assert_allclose(rule.log_odds(vectors), by_hand)


@pytest.mark.parametrize("text", ["", "[]", '{"model": "any"}', '{"model": "a", "encoders": {"t5": {"weights": [1]}}}'])
def test_what_is_no_rule_is_refused(text, tmp_path):
    (tmp_path / "rule.json").write_text(text)
    with pytest.raises(ArgumentError, match="holds no predictor: name the redundancy_predictor"):
        read_rules(tmp_path / "rule.json")


def planted_tables() -> dict[str, pd.DataFrame]:
    """Items alone and their tokens' vectors, the last token of each being the one that shows it."""
    model = PlantedImages()
    vectors, subsets = [], []
    for phrase in ("red triangle", "blue triangle", "red circle", "blue square"):
        text = f"a {phrase}"
        positions = model.spans(text, phrase)
        for position in positions:
            shared = {"model": "planted", "prompt_id": f"alone {text}", "item_id": phrase}
            vector = model.encode([text]).sequence[0, position].tolist()
            vectors.append({**shared, "encoder": "clip", "position": position, "vector": vector})
            subsets.append(
                {
                    "prompt_id": shared["prompt_id"],
                    "kept_positions": str(position),
                    "n_kept": 1,
                    "n_item_tokens": len(positions),
                    "shows": position == positions[-1],
                }
            )
    return {"token_vectors": pd.DataFrame(vectors), "in_item": pd.DataFrame(subsets)}


def test_the_saved_rule_says_of_a_new_text_what_the_fitted_one_does(tmp_path):
    tables, model = planted_tables(), PlantedImages()
    path = tmp_path / "redundancy_predictor.json"
    path.write_text(predictor_document(tables)[path.name])
    text = "and a blue circle"
    found = predict_representative(model, text, "blue circle", path)
    positions = model.spans(text, "blue circle")
    assert found["position"].tolist() == list(positions)
    assert found["representative"].tolist() == [False] * (len(positions) - 1) + [True]
    fitted = fitted_rules(labelled_tokens(tables["token_vectors"], tables["in_item"]))["clip"]
    vectors = model.encode([text]).sequence[0, list(positions)].numpy().astype(float)
    np.testing.assert_allclose(found["log_odds"], fitted.log_odds(vectors), rtol=1e-12)


def test_a_rule_of_another_model_is_refused_and_none_is_saved_where_none_can_be_fitted(tmp_path):
    tables, path = planted_tables(), tmp_path / "rule.json"
    document = json.loads(predictor_document(tables)["redundancy_predictor.json"])
    path.write_text(json.dumps(document | {"model": "another"}))
    with pytest.raises(ArgumentError, match="was fitted on another and cannot be used on planted"):
        predict_representative(PlantedImages(), "a red circle", "red circle", path)

    class Retrained(PlantedImages):
        """Of the same name, with other weights."""

        def encode(self, texts: Sequence[str]) -> Conditioning:
            read = super().encode(texts)
            return dataclasses.replace(read, sequence=1.2 * read.sequence)

    path.write_text(json.dumps(document))
    assert len(predict_representative(PlantedImages(), "a red circle", "red circle", path))
    with pytest.raises(ArgumentError, match="was fitted on other weights than those of planted"):
        predict_representative(Retrained(), "a red circle", "red circle", path)
    path.write_text(json.dumps({name: value for name, value in document.items() if name != "sample"}))
    with pytest.raises(ArgumentError, match=r"does not say of which weights.*--fresh"):
        predict_representative(PlantedImages(), "a red circle", "red circle", path)
    tables["in_item"]["shows"] = True
    assert predictor_document(tables) == {}
