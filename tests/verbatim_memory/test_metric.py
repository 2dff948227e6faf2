"""Repeat surprisal by hand, and word probability against brute force on a tiny vocabulary."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from interp.models.language.word_surprisal import WordSearch
from interp.models.language.word_tokens import Spellings, boundary_log_probability, boundary_tokens
from probes.verbatim_memory.trials import drops_2024, trial_ratios

FIRST = np.array([[8.0, 4.0, 6.0], [9.0, 10.0, 10.0]])
SECOND = np.array([[4.0, 1.0, 2.0], [9.0, 1.0, 4.0]])


def test_the_ratio_is_of_means_within_a_trial_and_leaves_the_first_noun_out():
    ratios = trial_ratios(FIRST, SECOND)
    np.testing.assert_allclose(ratios.ratio, [100 * 3 / 10, 100 * 5 / 20])  # not the mean of 1/4 and 2/6
    np.testing.assert_allclose(ratios.first_noun, [50.0, 100.0])
    np.testing.assert_allclose(ratios.all_positions, [100 * 7 / 18, 100 * 14 / 29])


def test_the_2024_measure_is_a_mean_of_ratios_over_all_positions():
    # trial 1: 1 - (1/2, 1/4, 1/3) = 1/2, 3/4, 2/3; trial 2: 1 - (1, 1/10, 2/5) = 0, 9/10, 3/5
    expected = [100 * (1 / 2 + 3 / 4 + 2 / 3) / 3, 100 * (0 + 9 / 10 + 3 / 5) / 3]
    np.testing.assert_allclose(drops_2024(FIRST, SECOND), expected)


# A language of five tokens in which every next token has a probability that depends on the one before.
TEXTS = [" a", "b", " ab", ",", "ab"]
TABLE = torch.tensor(
    [
        [0.1, 0.4, 0.1, 0.3, 0.1],
        [0.1, 0.1, 0.2, 0.5, 0.1],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.3, 0.1, 0.4, 0.1, 0.1],
        [0.25, 0.25, 0.125, 0.25, 0.125],
    ]
).log()


def spelled_by_brute_force(word: str, after: int) -> float:
    """Probability that the word comes next and ends, given that a new word begins: all sequences of up to three tokens."""
    boundary = torch.tensor([text[0] in " ," for text in TEXTS])
    total = 0.0
    for n in (1, 2, 3):
        for tokens in product(range(len(TEXTS)), repeat=n):
            if "".join(TEXTS[token] for token in tokens) == word:
                path = [after, *tokens]
                p = sum(float(TABLE[a, b]) for a, b in pairwise(path))
                total += np.exp(p) * float(TABLE[tokens[-1]].exp()[boundary].sum())
    return total / float(TABLE[after].exp()[boundary].sum())


@pytest.mark.parametrize("word", [" a", " ab", " abb", " abab"])
@pytest.mark.parametrize("after", [1, 3])
def test_the_exact_search_equals_brute_force(word, after):
    boundary = boundary_tokens(TEXTS, [], len(TEXTS))
    assert boundary.tolist() == [True, False, True, True, False]
    search = WordSearch(word, Spellings(TEXTS, []), floor=-np.inf)
    open_spellings = search.branches(word, 0.0, TABLE[after])
    while open_spellings:
        token, rest, log_p = open_spellings.pop()
        if rest:
            open_spellings += search.branches(rest, log_p, TABLE[token])
        else:
            search.complete(log_p, float(boundary_log_probability(TABLE[token], boundary)))
    begins = float(boundary_log_probability(TABLE[after], boundary))
    assert np.exp(search.log_probability() - begins) == pytest.approx(spelled_by_brute_force(word, after))
    assert search.share_left_out() == 0.0


def longer_than(n: int, after: int) -> float:
    """Probability that the word that comes next has more than n characters, by following every token until it does."""
    boundary = [text[0] in " ," for text in TEXTS]
    p = TABLE.exp().double()

    def beyond(token: int, length: int) -> float:
        if length > n:
            return 1.0
        return sum(
            float(p[token, next]) * beyond(next, length + len(TEXTS[next])) for next in range(5) if not boundary[next]
        )

    begins = [float(p[after, token]) if boundary[token] else 0.0 for token in range(5)]
    return sum(begins[token] * beyond(token, len(TEXTS[token])) for token in range(5)) / sum(begins)


def test_the_probabilities_of_all_words_sum_to_one():
    """Every word of up to five characters by the exact search, and what is longer by hand."""
    boundary = boundary_tokens(TEXTS, [], len(TEXTS))
    after, total = 1, 0.0
    words = ["".join(rest) for n in range(5) for rest in product("ab", repeat=n)]
    for word in [*(f" {rest}" for rest in words), *(f",{rest}" for rest in words)]:
        search = WordSearch(word, Spellings(TEXTS, []), floor=-np.inf)
        open_spellings = search.branches(word, 0.0, TABLE[after])
        while open_spellings:
            token, rest, log_p = open_spellings.pop()
            if rest:
                open_spellings += search.branches(rest, log_p, TABLE[token])
            else:
                search.complete(log_p, float(boundary_log_probability(TABLE[token], boundary)))
        if search.total:
            total += np.exp(search.log_probability() - float(boundary_log_probability(TABLE[after], boundary)))
    assert 0.01 < longer_than(5, after) < 0.5
    assert total + longer_than(5, after) == pytest.approx(1.0, abs=1e-6)


def test_what_the_search_leaves_out_is_bounded():
    boundary = boundary_tokens(TEXTS, [], len(TEXTS))
    search = WordSearch(" ab", Spellings(TEXTS, []), floor=float(TABLE[3, 2]) + np.log(0.9))
    search.complete(float(TABLE[3, 2]), float(boundary_log_probability(TABLE[2], boundary)))
    assert search.branches(" ab", 0.0, TABLE[3], taken=2) == []
    missing = spelled_by_brute_force(" ab", 3) * 0.8 - np.exp(search.log_probability())  # 0.8 = p(B) after ","
    assert 0 < missing < search.share_left_out() * np.exp(search.log_probability())


def test_a_boundary_is_punctuation_as_well_as_space_and_unused_outputs_are_none():
    mask = boundary_tokens([" the", "ing", ",", "7", "", "</s>", "\ufffd", "-", "'s", "\n"], [5], 12)
    assert mask.nonzero().flatten().tolist() == [0, 2, 3, 5, 9]


@pytest.mark.parametrize(
    "text", ["\u0301", "ा", "्", "ّ", "ִ", "ี", "\u200d", "\u200c", "\ufe0f", "\U0001f3fd", "ж", "水", "־", "’"]
)
def test_marks_joiners_and_letters_of_any_script_go_on_a_word(text):
    assert not boundary_tokens([text, f"{text}x"], [], 2).any()
    assert boundary_tokens([f" {text}", f",{text}"], [], 2).all()
