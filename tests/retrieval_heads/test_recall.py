"""Recall in any script: equal answers 1, answers that share no word 0; on English the reference's measure exactly."""

import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interp.errors import ArgumentError
from probes.retrieval_heads.needles import find_words, read_needles, shared_content_words
from probes.retrieval_heads.scores import answer_recall, reference_reads
from tests.script_texts import SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_equal_answer_recalls_all_and_another_nothing(script):
    text = SCRIPTS[script]
    assert answer_recall(text.gold, text.gold) == 1
    assert answer_recall(text.gold, f"{text.needle} {text.wrong}") == 1
    assert answer_recall(text.gold, text.wrong) == 0
    assert answer_recall(text.wrong, text.gold) == 0
    for form in ("NFC", "NFD", "NFKC"):
        assert answer_recall(unicodedata.normalize(form, text.gold), text.gold.upper()) == 1


@pytest.mark.parametrize(
    ("wanted", "text", "recall"),
    [
        ("Łódź", "d", 0.0),
        ("d", "Łódź", 0.0),
        ("β-7", "α-7", 0.0),
        ("β-7", "It is β-7.", 1.0),
        ("Пётр Ёжиков", "ПЁТР", 0.5),
        ("Straße", "STRASSE", 1.0),
        ("欧阳沧海", "欧阳", 0.5),
        ("٣٤", "34", 1.0),
        ("می‌روم", "میروم", 1.0),  # a joiner that no one sees
        ("कि", "की", 0.0),
        ("?!", "?!", 1.0),
        ("?!", "no", 0.0),
        ("🇳🇴", "🇸🇪", 0.0),
        ("❤️", "❤", 1.0),
        ("👩‍🚀👩", "👩", 0.5),
        ("48-17-93", "48 17 39", 2 / 3),
        ("β-7", "β‑7", 1.0),  # other hyphens
        ("Ту-154", "самолёт Ту–154.", 1.0),
        ("Ту-154", "Ту 154", 1.0),
        ("Ту-154", "Ту 134", 0.0),
        ("été 2024", "été-2024", 1.0),
        ("2024", "в год 2024", 1.0),
        ("10²", "102", 0.0),  # one sign for several
        ("2½", "21/2", 1 / 3),
        ("2½", "2 1/2", 1.0),
        ("№5", "№ 5", 1.0),
        ("Coke™", "Coke", 1.0),
        ("5㎏", "5 kg", 1.0),
        ("İstanbul", "istanbul", 1.0),
        ("ISPARTA", "ısparta", 1.0),
        ("مكتبـــة", "مكتبة", 1.0),
        ("شَمْس", "شمس", 1.0),  # points that may be left out
        ("כָּתַב", "כתב", 1.0),
        ("Hawaiʻi", "Hawai'i", 1.0),
        ("C++", "C#", 1 / 3),  # signs that make it another answer
        ("C++", "C++ it is", 1.0),
        ("-5", "5", 0.5),
        ("−5", "-5", 1.0),
        ("+5", "-5", 0.5),
        ("🔑 key", "🔒 key", 0.5),
        ("…", "...", 1.0),
        ("H₂O", "H2O", 1.0),
        ("H2O", "It is H₂O.", 1.0),
        ("CO₂", "CO₃", 0.0),
        ("10₂", "102", 0.0),
        ("C♯", "C♭", 0.5),
        ("C♯", "C", 0.5),
        ("A→B", "A←B", 2 / 3),
        ("ŉ boom", "'n boom", 1.0),
        ("Երևան", "ԵՐԵՎԱՆ", 1.0),
        ("Երևան", "Երեւան", 1.0),
        ("！", "!", 1.0),
    ],
)
def test_words_are_whole_in_every_script(wanted, text, recall):
    assert answer_recall(wanted, text) == pytest.approx(recall)


ENGLISH = st.lists(
    st.sampled_from(
        "the The running horses' well-known don't A.B. 3.50 $14 boat, boat? x_y Mr. 'no' U.S. 7:45 Quills".split()
    ),
    max_size=12,
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(ENGLISH, ENGLISH | st.text(st.characters(max_codepoint=126), max_size=40))
def test_on_english_it_is_the_reference(wanted, text):
    # Not a filter of the strategy: beartype looks at a random item of a list, and hypothesis lets no strategy draw at random.
    assume(reference_reads(wanted))
    assert answer_recall(wanted, text) == answer_recall(wanted, text, "reference")


def test_on_the_toolkits_needles_it_is_the_reference():
    needles = read_needles()
    for needle in needles:
        assert reference_reads(needle.real_needle)
        for text in (needle.needle, needle.answer, needle.question, needles[0].needle):
            assert answer_recall(needle.real_needle, text) == answer_recall(needle.real_needle, text, "reference")


def test_the_reference_says_what_it_does_not_read():
    assert not any(reference_reads(text) for text in ("Łódź", "欧阳", "Пётр", "café", "?!", "β-7"))


def test_needles_share_words_with_their_questions_in_every_script():
    for script in set(SCRIPTS) - {"code", "logs", "emoji"}:
        assert shared_content_words(SCRIPTS[script].needle, SCRIPTS[script].question), script
        assert not shared_content_words(SCRIPTS[script].needle, SCRIPTS["code"].question)


def test_an_answer_is_found_as_a_whole_word_with_its_marks():
    assert find_words("कि की क", "क") == (6, 7)
    assert find_words("צְבִי צ", "צ") == (6, 7)


@pytest.mark.parametrize(
    ("text", "part", "place"),
    [
        ("The 👨‍👩‍👧 sign means 👨.", "👨", 1),
        ("A 👨‍👩‍👧 and 👨", "👨", -1),
        ("Go 👍🏽 or 👍.", "👍", -1),
        ("🇩🇪🇫🇷 and 🇪🇫", "🇪🇫", -1),
        ("Pi is 3.14 and Bob has 14.", "14", -1),
        ("In 14,5 of 14 cases", "14", -1),
        ("C++ or C? He chose C.", "C", 1),
        ("don't and don", "don", -1),
        ("Anna's boat", "Anna", 0),
        ("redish red", "red", -1),
        ("Red and red", "red", -1),
    ],
)
def test_a_part_is_found_where_it_stands_alone(text, part, place):
    places = [index for index in range(len(text)) if text.startswith(part, index)]
    start = places[min(place, len(places) - 1)]
    assert find_words(text, part) == (start, start + len(part))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('"literal": "false"', "literal must be true or false"),
        ('"answer": null', "answer must be a text, not null"),
        ('"form": 3', "form must be a text, not 3"),
        ('"question": "Which?"', "comes twice"),
        ('"id": "\\ud800"', "not JSON"),
        ('"answer": "a\\u0000b"', r"the field answer holds U\+0000"),
    ],
)
def test_fields_that_are_not_what_they_should_be_are_refused_by_line(tmp_path, more, said):
    path = tmp_path / "needles.jsonl"
    path.write_text(f'{{"needle": "The key is red.", "question": "What?", "real_needle": "red", {more}}}\n')
    with pytest.raises(ArgumentError, match=f"line 1.*{said}"):
        read_needles(path)
