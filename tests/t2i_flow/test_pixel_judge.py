"""The pixel judge: it reads every rendered picture right, and names what is wrong with the others."""

import itertools

import numpy as np

from probes.t2i_flow.judges import PixelJudge, is_exact, pairing_wrong, read_scene
from probes.t2i_flow.scenes import COLOURS, MASKS, N_CELLS, SHAPES, Item, render, sample_scenes

RED_DISC, BLUE_CROSS = Item("red", "disc"), Item("blue", "cross")


def test_every_object_is_read_right_wherever_it_stands():
    for colour, shape, cell in itertools.product(COLOURS, SHAPES, range(N_CELLS)):
        (found,) = read_scene(render([Item(colour, shape)], [cell]))
        assert (found.colour, found.shape, found.cell, found.overlap) == (colour, shape, cell, 1.0)


def test_rendered_scenes_are_exact_in_any_placement_and_with_noise():
    rng = np.random.default_rng(2)
    for scene in sample_scenes(rng, 300):
        picture = render(scene.items, rng.permutation(N_CELLS)[: len(scene.items)].tolist())
        assert is_exact(picture, scene.items)
        noisy = np.clip(picture + rng.normal(0, 0.08, picture.shape), 0, 1).astype(np.float32)
        assert is_exact(noisy, scene.items)


def test_no_two_shapes_are_alike_for_the_judge():
    for one, other in itertools.combinations(SHAPES, 2):
        common, either = MASKS[one] & MASKS[other], MASKS[one] | MASKS[other]
        assert common.sum() / either.sum() < 0.8


def test_what_is_not_exact():
    both = [RED_DISC, BLUE_CROSS]
    assert not is_exact(render([RED_DISC], [0]), both)  # one is missing
    assert not is_exact(render([RED_DISC, RED_DISC, BLUE_CROSS], [0, 1, 2]), both)  # one too many
    swapped = render([Item("blue", "disc"), Item("red", "cross")], [3, 1])
    assert not is_exact(swapped, both)
    assert pairing_wrong(swapped, both)
    assert not pairing_wrong(render(both, [0, 1]), both)
    assert not pairing_wrong(render([RED_DISC], [0]), both)


def test_verdicts_by_hand():
    swapped = render([Item("blue", "disc"), Item("red", "cross")], [3, 1])
    verdicts = PixelJudge()(swapped, [RED_DISC, Item("blue", "disc"), Item("green", "frame")])
    assert [(one.visible, one.colour_right, one.shape_right) for one in verdicts] == [
        (False, True, True),
        (True, True, True),
        (False, False, False),
    ]


def test_a_blob_is_an_object_without_a_shape():
    picture = np.zeros((16, 16, 3), dtype=np.float32)
    picture[0:2, 0:8, 0] = 1
    (found,) = read_scene(picture)
    assert (found.colour, found.shape) == ("red", "")
    assert read_scene(np.zeros((16, 16, 3), dtype=np.float32)) == []
