"""Each variant is the edit it says, on vectors written by hand; variants are drawn together from the same noise."""

import numpy as np
import pytest
import torch

from interp.models.image.conditioning import Block, Conditioning
from probes.t2i_flow.pictures import Cell, Sampling, draw
from probes.t2i_flow.prompts import Prompt, PromptItem
from probes.t2i_flow.variants import Encoded, Variant, floor_variants, some_of, subset_variants
from tests.tiny_pipelines import tiny_image

BLOCKS = (Block("clip", 0, 4),)


def row(*values: float, pooled: float | None = None) -> Conditioning:
    vector = None if pooled is None else torch.tensor([[pooled]])
    return Conditioning(torch.tensor(values)[None, :, None], vector, BLOCKS)


def values(conditioning: Conditioning) -> list[float]:
    return conditioning.sequence[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant("full", "full"), [1, 2, 3, 4]),
        (Variant("clean", "keep"), [0, 0, 0, 0]),
        (Variant("tokens", "keep", (1, 2)), [0, 2, 3, 0]),
        (Variant("word_without", "without", (1, 2)), [1, 0, 0, 4]),
        (Variant("alone", "alone", (2, 3), item_id="cat", source_positions=(0, 1)), [0, 0, 10, 20]),
        (Variant("paste", "paste", (2, 3), item_id="cat", source_positions=(0, 1)), [1, 2, 10, 20]),
    ],
)
def test_a_variant_is_the_edit_it_says(variant, expected):
    encoded = Encoded(row(1.0, 2.0, 3.0, 4.0), row(0.0, 0.0, 0.0, 0.0), {"cat": row(10.0, 20.0, 30.0, 40.0)}, "clean")
    assert values(encoded.conditioning(variant)) == expected


@pytest.mark.parametrize(("pooled", "kept", "rest"), [("clean", 0.0, 1.0), ("prompt", 1.0, 1.0)])
def test_the_pooled_vector_is_the_one_that_was_chosen(pooled, kept, rest):
    text, clean = row(1.0, 2.0, 3.0, 4.0, pooled=1.0), row(0.0, 0.0, 0.0, 0.0, pooled=0.0)
    encoded = Encoded(text, clean, {"cat": row(9.0, 9.0, 9.0, 9.0, pooled=9.0)}, pooled)

    def drawn_with(variant: Variant) -> float:
        vector = encoded.conditioning(variant).pooled
        assert vector is not None
        return vector.item()

    assert drawn_with(Variant("tokens", "keep", (1,))) == kept
    assert drawn_with(Variant("alone", "alone", (1,), item_id="cat", source_positions=(0,))) == kept
    assert drawn_with(Variant("paste", "paste", (1,), item_id="cat", source_positions=(0,))) == rest
    assert drawn_with(Variant("word_without", "without", (1,))) == rest


def test_every_subset_of_a_size_and_every_role():
    kinds = {3: "first_words", 4: "last_word", 6: "last_token"}
    assert [(one.positions, one.role) for one in subset_variants((3, 4, 6), kinds, 1)] == [
        ((3,), "first_words"),
        ((4,), "last_word"),
        ((6,), "last_token"),
    ]
    assert [one.positions for one in subset_variants((3, 4, 6), kinds, 2)] == [(3, 4), (3, 6), (4, 6)]
    assert [(one.name, one.edit, one.positions) for one in floor_variants({"bos": (0,), "pad": (7, 8)})] == [
        ("full", "full", ()),
        ("clean", "keep", ()),
        ("bos", "keep", (0,)),
        ("pad", "keep", (7, 8)),
    ]


def test_too_many_subsets_become_a_random_choice_in_order():
    many = subset_variants(tuple(range(10)), dict.fromkeys(range(10), "last_word"), 3)
    some = some_of(many, 20, np.random.default_rng(0))
    places = [many.index(one) for one in some]
    assert len(set(places)) == 20
    assert places == sorted(places)
    assert some != some_of(many, 20, np.random.default_rng(1))
    assert some_of(many, 120, np.random.default_rng(0)) == many


# ---------------------------------------------------------------------- drawn together


PROMPT = Prompt("p", "a red circle", (PromptItem("red circle"),))


def cells() -> list[Cell]:
    model = tiny_image("sd")
    alone = {"red circle": model.encode(["red circle"])}
    encoded = Encoded(model.encode([PROMPT.text]), model.clean(), alone, "clean")
    paste = Variant("paste", "paste", (2, 3), item_id="red circle", source_positions=(1, 2))
    scaled = Variant("attention", "full", (1,), scaled=(1,))
    variants = [Variant("full", "full"), scaled, Variant("tokens", "keep", (3,)), paste]
    return [Cell(PROMPT, encoded, variant) for variant in variants]


def test_variants_share_noise_and_are_the_pictures_drawn_one_by_one():
    model, sampling = tiny_image("sd"), Sampling((3, 8, 11), batch=4)
    together = draw(model, cells(), sampling)
    assert together.shape == (4, 3, 16, 16, 3)
    for place, cell in enumerate(cells()):
        if cell.variant.scaled:
            continue
        for number, seed in enumerate(sampling.seeds):
            alone = model.generate(cell.encoded.conditioning(cell.variant), model.noise([seed]))[0]
            assert np.abs(together[place, number] - alone).max() < 1e-5
    assert np.abs(together[0, 0] - together[0, 1]).max() > 0.01
    assert np.abs(together[0] - together[2]).max() > 1e-4
    assert np.abs(together[0] - together[3]).max() > 1e-4


def test_hidden_by_attention_is_dropped_and_a_scale_of_one_changes_nothing():
    model = tiny_image("sd")
    noise = model.noise([3, 8])
    full = draw(model, cells()[:1], Sampling((3, 8)))[0]
    hidden = draw(model, cells()[1:2], Sampling((3, 8), attention_scale=0.0))[0]
    same = draw(model, cells()[1:2], Sampling((3, 8), attention_scale=1.0))[0]
    dropped = model.generate(model.encode([PROMPT.text]).drop([1]), noise)
    assert np.abs(hidden - dropped).max() < 1e-5
    assert np.abs(same - full).max() < 1e-5
    assert np.abs(hidden - full).max() > 1e-4
