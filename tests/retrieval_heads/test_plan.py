"""Which needles find heads and which test them, in which cells, under which conditions."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.heads.sets import layer_matched
from interp.models.identity import HeadGeometry
from probes.retrieval_heads.conditions import default_ks, plan_conditions
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.needles import read_needles
from probes.retrieval_heads.plan import deal_cells, split_needles

EVERY = RetrievalHeads(finding_needles=None, held_out_share=0.3)


@pytest.mark.parametrize("seed", [0, 1])
def test_needles_are_split_into_disjoint_halves_the_same_way_every_time(seed):
    settings = replace(EVERY, seed=seed)
    finding, held_out = split_needles(settings)
    assert len(held_out) == round(0.3 * len(read_needles()))
    assert sum(not needle.literal for needle in held_out) == len(held_out) // 2
    ids = [needle.id for needle in finding + held_out]
    assert sorted(ids) == sorted(needle.id for needle in read_needles())
    assert (finding, held_out) == split_needles(settings)
    assert held_out != split_needles(replace(settings, seed=seed + 1))[1]
    for few in (1, 4, len(finding), len(finding) + 1):  # fewer that find heads; the same ones are held out
        assert split_needles(replace(settings, finding_needles=few)) == (finding[:few], held_out)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(1, 12), st.integers(0, 9))
def test_every_cell_is_dealt_equally_often(n_lengths, n_depths, per_needle, n_needles, seed):
    lengths, depths = tuple(range(100, 100 + n_lengths)), tuple(n / n_depths for n in range(n_depths))
    settings = RetrievalHeads(context_tokens=lengths, depths=depths, samples_per_needle=per_needle, seed=seed)
    hands = deal_cells(settings, n_needles)
    dealt = Counter(cell for hand in hands for cell in hand)
    grid = {(length, depth) for length in lengths for depth in depths}
    assert {len(set(hand)) for hand in hands} == {min(per_needle, len(grid))}
    assert set(dealt) <= grid
    assert max(dealt.values()) - min(dealt[cell] for cell in grid) <= 1
    assert hands == deal_cells(settings, n_needles)


@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=12), st.integers(0, 99))
def test_random_heads_match_the_layers_of_the_top_and_exclude_it(top, key):
    per_layer = Counter(layer for layer, _ in top)
    if 2 * len(top) > 8 * len(per_layer):
        with pytest.raises(ValueError, match=f"{len(top)} heads leave too few others"):
            layer_matched(sorted(top), 8, (key,))
        return
    drawn = layer_matched(sorted(top), 8, (key,))
    assert len(set(drawn)) == len(drawn) == len(top)
    assert not set(drawn) & top
    assert {layer for layer, _ in drawn} <= set(per_layer)
    assert all(0 <= head < 8 for _, head in drawn)
    if max(per_layer.values()) <= 4:  # each layer has others enough
        assert Counter(layer for layer, _ in drawn) == per_layer
    assert drawn == layer_matched(sorted(top), 8, (key,))


def test_a_full_layer_borrows_from_the_nearest_and_draws_differ_by_key():
    # Of 4 heads layer 0 has one other and needs three; two come from layer 2, the nearest; layer 9 is untouched by that.
    borrowed = layer_matched([(0, 0), (0, 1), (0, 2), (2, 0), (9, 0)], 4, (0,))
    assert Counter(layer for layer, _ in borrowed) == {0: 1, 2: 3, 9: 1}
    assert len({layer_matched([(0, 0), (1, 1)], 30, (key,)) for key in range(20)}) > 10
    drawn = Counter(head for key in range(600) for _, head in layer_matched([(0, 0)], 4, (key,)))
    assert set(drawn) == {1, 2, 3}
    assert min(drawn.values()) > 150  # 200 each are expected


def test_conditions_are_no_change_the_top_and_its_controls_and_the_other_rankings():
    rankings = {"set": [(0, 0), (1, 3), (1, 2)], "echo": [(2, 2), (2, 3), (0, 1)]}
    conditions = plan_conditions(
        rankings, "set", ks=(2, 1, 2), modes=("zero", "mean"), phases=("decode", "both"), random_draws=3, other_k=2,
        n_heads=6, seed=0,
    )  # fmt: skip
    kinds = Counter((c.condition, c.ranking, c.k) for c in conditions)
    per_setting = {("top", "set", 1): 4, ("top", "set", 2): 4, ("random", "set", 1): 12, ("random", "set", 2): 12}
    assert kinds == {("none", "none", 0): 1, **per_setting, ("top", "echo", 2): 1}
    for c in conditions:
        assert len(c.heads) == c.k
        if c.condition == "top":
            assert c.heads == tuple(rankings[c.ranking][: c.k])
        if c.condition == "random":
            assert [layer for layer, _ in c.heads] == [0, 1][: c.k]
            assert not set(c.heads) & set(rankings["set"][: c.k])
    draws = {(c.draw, c.heads) for c in conditions if c.condition == "random" and c.k == 2}
    assert len(draws) == 3  # one set of heads per draw, the same in every mode and phase
    assert len({heads for _, heads in draws}) > 1


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "ks"),
    [(1, 4, (1,)), (1, 10, (2,)), (5, 5, (2, 5)), (10, 10, (2, 5, 10, 20)), (25, 10, (2, 5, 10, 20, 50))],
)
def test_the_default_numbers_of_heads_stop_at_a_fifth(n_layers, n_heads, ks):
    assert default_ks(HeadGeometry(n_layers, n_heads, 1, 8)) == ks
