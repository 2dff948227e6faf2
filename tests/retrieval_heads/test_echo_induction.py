"""Echo and induction scores: the few diagonals that are read give what the whole attention matrix gives."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.heads.finding import earlier_positions, repeated_tokens
from interp.models.language.model import LanguageModel
from probes.retrieval_heads.echo import measure_echo_induction, razor_selection
from tests.planted import COPY_HEAD, IDS, NEEDLE_WORDS, copy_model, copying_head
from tests.tiny_models import random_ids, tiny, tiny_hf

ECHO_HEAD = (0, 0)


def grid(table: pd.DataFrame, column: str) -> np.ndarray:
    return table.pivot(index="layer", columns="head", values=column).to_numpy()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2", "mixtral", "falcon"])
@pytest.mark.parametrize(("n_prefix", "block", "repeats"), [(1, 12, 4), (0, 20, 2), (2, 3, 3)])
def test_diagonals_give_what_the_whole_attention_matrix_gives(family, n_prefix, block, repeats):
    ids = random_ids(n_prefix, seed=2) + random_ids(block, seed=1) * repeats
    found = measure_echo_induction(tiny(family), ids, block_tokens=block, repeats=repeats, draw=0)
    with torch.no_grad():
        output = tiny_hf(family, attention="eager")(torch.tensor([ids]), output_attentions=True)
    attention = torch.stack(output.attentions)[:, 0].double().numpy()  # layer, head, query, key

    # Word for word: rows of the second and later copies; the weight on each earlier copy, and on the token after it.
    echo, induction = np.zeros(attention.shape[:2]), np.zeros(attention.shape[:2])
    rows = range(n_prefix + block, len(ids))
    for i in rows:
        for j in range(i - block, n_prefix - 1, -block):
            assert ids[j] == ids[i]
            echo += attention[:, :, i, j] / len(rows)
            induction += attention[:, :, i, j + 1] / len(rows)
    np.testing.assert_allclose(grid(found, "echo"), echo, atol=1e-5)
    np.testing.assert_allclose(grid(found, "induction"), induction, atol=1e-5)
    assert echo.std() > 1e-4  # heads differ, so a mix-up of heads would show
    assert abs(echo - induction).max() > 1e-3


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    """Both mechanisms on a block of 20 different words, four times, behind a beginning-of-sequence token."""
    model: LanguageModel = copy_model({ECHO_HEAD: copying_head(looks_after=False, writes=False)})
    block = [IDS[f" {word}"] for word in NEEDLE_WORDS[:20]]
    return measure_echo_induction(model, [IDS["<s>"], *block * 4], block_tokens=20, repeats=4, draw=3)


def test_a_head_that_looks_at_the_same_token_echoes_and_one_that_looks_at_the_next_inducts(planted):
    echo, induction = grid(planted, "echo"), grid(planted, "induction")
    # The induction head has all its weight on the places after the earlier copies.
    assert induction[COPY_HEAD] == pytest.approx(1, abs=1e-3)
    assert echo[COPY_HEAD] == pytest.approx(0, abs=1e-3)
    # The echo head shares its weight between the earlier copies and the token itself: 1/2, 2/3 and 3/4 in copies 2, 3, 4.
    assert echo[ECHO_HEAD] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3, abs=1e-3)
    assert induction[ECHO_HEAD] == pytest.approx(0, abs=1e-3)
    others = np.ones(echo.shape, dtype=bool)
    others[COPY_HEAD] = others[ECHO_HEAD] = False
    assert max(echo[others].max(), induction[others].max()) < 0.15
    assert set(planted["draw"]) == {3}


def test_the_selection_keeps_what_was_planted(planted):
    # Of 12 heads: 14% are 1.68, so two by induction; 1% are 0.12, so none by echo, and 10% one.
    kept = razor_selection(planted)
    assert len(kept) == 2
    assert COPY_HEAD in kept
    assert ECHO_HEAD not in kept
    assert razor_selection(planted, induction_share=0.08, echo_share=0.1) == {COPY_HEAD, ECHO_HEAD}


def hundred_groups() -> pd.DataFrame:
    """25 layers of 4 key-value heads with 2 query heads each; group g's better head has induction g / 100."""
    rows = []
    for g in range(100):
        layer, kv_head = divmod(g, 4)
        rows += [
            {"layer": layer, "kv_head": kv_head, "head": 2 * kv_head, "echo": 0.1, "induction": 0.0},
            {"layer": layer, "kv_head": kv_head, "head": 2 * kv_head + 1, "echo": 0.1, "induction": g / 100},
        ]
    return pd.DataFrame(rows)


def test_a_group_has_its_best_heads_score_and_14_and_1_per_cent_are_united():
    scores = hundred_groups()
    own = (scores["layer"] == 0) & (scores["kv_head"] == 0)
    scores.loc[own, "induction"] = 0.8  # on average above group 86 with 0 and 0.86, but its best head is not
    scores.loc[(scores["layer"] == 1) & (scores["head"] == 3), "echo"] = 0.9  # group 5
    scores.loc[scores["layer"] == 2, "echo"] = 0.5  # on average above group 5
    best = {divmod(g, 4) for g in range(86, 100)}
    assert razor_selection(scores) == best | {(1, 1)}
    assert razor_selection(scores, echo_share=0.0) == best
    assert razor_selection(scores, induction_share=0.0, echo_share=0.05) == {(1, 1), (2, 0), (2, 1), (2, 2), (2, 3)}


def test_a_group_that_is_best_by_both_scores_is_kept_once():
    scores = hundred_groups()
    scores.loc[(scores["layer"] == 24) & (scores["head"] == 6), "echo"] = 0.9  # group 99, by its other head
    assert razor_selection(scores) == {divmod(g, 4) for g in range(86, 100)}


def test_earlier_positions_by_hand():
    # Positions: 0 is the prefix, copies begin at 1, 4 and 7.
    queries, keys = earlier_positions(block_tokens=3, repeats=3, n_prefix=1)
    assert queries.tolist() == [[4, 5, 6, 7, 8, 9]]
    assert keys.tolist() == [[[1, -1, 2, -1], [2, -1, 3, -1], [3, -1, 4, -1], [4, 1, 5, 2], [5, 2, 6, 3], [6, 3, 7, 4]]]


def test_repeated_tokens_are_one_block_of_the_vocabulary_after_the_prefix():
    def draw(seed: int) -> list[int]:
        generator = np.random.default_rng(seed)
        return repeated_tokens(range(10, 30), block_tokens=50, repeats=3, prefix=[1], generator=generator)

    ids = draw(0)
    assert ids[0] == 1
    assert ids[1:51] == ids[51:101] == ids[101:]
    assert set(ids[1:]) <= set(range(10, 30))
    assert len(set(ids[1:51])) < 50  # drawn with replacement
    assert draw(0) == ids != draw(1)
