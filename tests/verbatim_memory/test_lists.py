"""Lists of nouns: every published condition, and what random permutations leak."""

import json
import re
import unicodedata

import numpy as np
import pytest

from interp.errors import ArgumentError
from probes.verbatim_memory.lists import (
    CONDITIONS,
    OWN_POOLS,
    group_rotations,
    read_pool,
    read_public_lists,
    rotate,
    second_list,
    surviving_pairs,
)
from probes.verbatim_memory.trials import read_texts, scramble

BASES = read_pool(OWN_POOLS["arbitrary"]).base_lists(23, 10, seed=0)


@pytest.mark.parametrize("pool", OWN_POOLS)
def test_base_lists_share_no_noun_and_follow_the_seed(pool):
    lists = read_pool(OWN_POOLS[pool]).base_lists(23, 10, seed=3)
    nouns = [noun for one in lists for noun in one]
    assert (len(lists), len(nouns), len(set(nouns))) == (23, 230, 230)
    assert lists == read_pool(OWN_POOLS[pool]).base_lists(23, 10, seed=3)
    assert lists != read_pool(OWN_POOLS[pool]).base_lists(23, 10, seed=4)


@pytest.mark.parametrize("length", [3, 5, 7, 10])
def test_ten_rotations_put_every_noun_at_every_position_once(length):
    firsts = rotate(BASES, length, 10)
    assert len(firsts) == 230
    for position in range(length):
        assert sorted(first.nouns[position] for first in firsts) == sorted(noun for base in BASES for noun in base)


@pytest.mark.parametrize("length", [3, 5, 10])
def test_second_lists_are_what_their_names_say(length):
    firsts = rotate(BASES, length, 10)
    for first in firsts[::7]:
        second = {condition: second_list(condition, first, firsts, 0) for condition in CONDITIONS}
        assert second["repeat"] == first.nouns
        for condition in ("permute", "permute_strict"):
            assert second[condition] != first.nouns
            assert sorted(second[condition]) == sorted(first.nouns)
        assert surviving_pairs(first.nouns, second["permute_strict"]) == 0
        assert not set(second["novel"]) & set(first.nouns)
        assert len(second["novel"]) == length
        assert second == {condition: second_list(condition, first, firsts[::-1][::-1], 0) for condition in CONDITIONS}


def test_surviving_pairs_by_hand():
    assert surviving_pairs("abcd", "abcd") == 3
    assert surviving_pairs("abcd", "cdab") == 2
    assert surviving_pairs("abcd", "dcba") == 0
    assert surviving_pairs("abcd", "dabc") == 2


def test_lists_too_short_or_alone_are_refused():
    two = rotate([("apple", "pear")], 2, 1)
    with pytest.raises(ArgumentError, match="no permutation for permute_strict"):
        second_list("permute_strict", rotate([("apple",)], 1, 1)[0], two, 0)
    with pytest.raises(ArgumentError, match="novel lists need at least two"):
        second_list("novel", two[0], two, 0)
    with pytest.raises(ArgumentError, match="lower --rotations"):
        rotate(BASES, 10, 11)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("# only a note\n", "is empty"),
        ("apple\npear\napple\n", r"line 3: apple is in line 1 already"),
        ("fruit: apple, pear\nplum\n", r"line 2: some lines have a category"),
        ("apple\nc3po\n", r"line 2: 'c3po' is not a noun"),
        ("fruit: apple,, pear\n", r"line 1: '' is not a noun"),
    ],
)
def test_a_pool_file_that_is_wrong_is_refused_with_its_line(tmp_path, content, words):
    path = tmp_path / "nouns.txt"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=words):
        read_pool(path)


def test_a_pool_too_small_says_what_it_has_and_needs(tmp_path):
    path = tmp_path / "nouns.txt"
    path.write_text("apple\npear\nplum\n")
    with pytest.raises(ArgumentError, match="has 3 nouns and 2 lists of 3 need 6"):
        read_pool(path).base_lists(2, 3, seed=0)
    path.write_text("fruit: apple, pear\nbird: owl, crow, swan\n")
    with pytest.raises(ArgumentError, match="has 1 categories of at least 3 nouns"):
        read_pool(path).base_lists(2, 3, seed=0)


def test_public_stimulus_files_are_read_and_rotations_recognised(tmp_path):
    base, other = ["a", "b", "c", "d"], ["e", "f", "g", "h"]
    longest = [base, base[1:] + base[:1], other]
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"n2": [row[:2] for row in longest], "n4": longest}))
    lists = read_public_lists(path)
    firsts = group_rotations(lists[2], lists[4])
    assert [(first.base_list, first.rotation, first.nouns) for first in firsts] == [
        (0, 0, ("a", "b")),
        (0, 1, ("b", "c")),
        (1, 0, ("e", "f")),
    ]
    for wrong in ("[1]", "{}", '{"n3": [["a", "b"]]}', '{"x": []}', '{"n1": [["a"]], "n2": []}'):
        path.write_text(wrong)
        with pytest.raises(ArgumentError, match="is needed"):
            read_public_lists(path)


def test_nouns_of_a_list_file_are_read_as_those_of_a_pool_are(tmp_path):
    path = tmp_path / "lists.json"
    path.write_text(
        '\ufeff{"n2": [["cafe\u0301 ", " हिन्दी"], ["ice  cream", "t-shirt"], ["l\'eau", "שָׁלוֹם"]]}', encoding="utf-8"
    )
    shalom = unicodedata.normalize("NFC", "שָׁלוֹם")
    assert read_public_lists(path)[2] == [("café", "हिन्दी"), ("ice cream", "t-shirt"), ("l'eau", shalom)]
    path.write_text('{"n2": [["a", "b"], ["cafe\u0301", "café"]]}', encoding="utf-8")
    with pytest.raises(ArgumentError, match='list 2 of "n2": café is there twice'):
        read_public_lists(path)
    path.write_text('{"n1": [[" "]]}')
    with pytest.raises(ArgumentError, match="'' is not a noun"):
        read_public_lists(path)
    nouns = tmp_path / "nouns.txt"
    nouns.write_text("café\ncafe\u0301\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="line 2: café is in line 1 already"):
        read_pool(nouns)


def test_the_texts_of_the_toolkit_are_scrambled_as_they_were():
    """The rule that served for texts of plain sentences, each with a full stop: cut at every stop, deal words, deal sentences."""
    text = " ".join(read_texts().paragraphs["intact"])
    generator = np.random.default_rng([7, 2])
    plain = []
    for sentence in re.findall(r"[^.!?]+[.!?]", text):
        words = sentence.rstrip(".!?").split()
        words[0] = words[0].lower()
        plain.append(" ".join(words[index] for index in generator.permutation(len(words))) + ".")
    assert scramble(text, seed=7) == " ".join(plain[index] for index in generator.permutation(len(plain)))


def test_scrambled_text_keeps_its_words_and_their_number_per_sentence():
    text = read_texts().paragraphs["intact"][1]
    mixed = scramble(text, seed=0)
    assert mixed != text
    assert mixed == scramble(text, seed=0)

    def sentences(of: str) -> list[list[str]]:
        return sorted(sorted(part.lower().split()) for part in of.split(".") if part.strip())

    assert sentences(mixed) == sentences(text)
