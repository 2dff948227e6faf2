"""Needle files: what they need, what is said when they are wrong, and the toolkit's own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from interp.errors import ArgumentError
from probes.retrieval_heads.needles import Needle, read_needles, shared_content_words

GOOD = {
    "needle": "The safe in the pharmacy opens with 48-17-93.",
    "question": "What opens the safe?",
    "real_needle": "48-17-93",
}


@pytest.fixture
def written(tmp_path: Path) -> Iterator:
    """Writes a needle file, one line per object (text is written as it is), and reads it."""

    def write(*lines: object, newline: str = "\n") -> tuple[Needle, ...]:
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path = tmp_path / "needles.jsonl"
        path.write_bytes(newline.join(texts).encode())
        return read_needles(path)

    return write


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "this is not JSON"),
        ('{"needle": "cut', "this is not JSON"),
        ("[1, 2]", "a JSON object is needed, with needle, question, real_needle."),
        ('"needle"', "a JSON object is needed"),
        *[({k: v for k, v in GOOD.items() if k != name}, f"the field {name} is missing or empty.") for name in GOOD],
        *[({**GOOD, name: " \t"}, f"the field {name} is missing or empty.") for name in GOOD],
        ({**GOOD, "question": 7}, "the field question is missing or empty."),
        ({**GOOD, "real_needle": None}, "the field real_needle is missing or empty."),
        ({**GOOD, "real_needle": "48-17-94"}, "real_needle must be words of the needle, and '48-17-94' is not in it."),
        ({**GOOD, "id": "Safe!"}, "safe twice"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_what_it_lacks(written, line, complaint):
    with pytest.raises(ArgumentError) as told:
        written({**GOOD, "id": "safe"}, "", line, {**GOOD, "id": "last"})
    assert complaint in str(told.value)
    assert "needles.jsonl, line 3" in str(told.value)  # blank lines count, as an editor counts them


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"nowhere\.jsonl cannot be read \(No such file or directory\)\."),
        (b"", "is empty: write one JSON object per line with needle, question, real_needle"),
        (b"\n  \n", "is empty"),
        (b'{"needle": "caf\xe9"}', r"is not UTF-8 \(byte 15\): save it as UTF-8\."),
    ],
)
def test_a_file_without_a_readable_line_is_told_by_its_name(tmp_path, content, complaint):
    path = tmp_path / "nowhere.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArgumentError, match=complaint) as told:
        read_needles(path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("mark", "newline"), [("", "\n"), ("", "\r\n"), pytest.param("\ufeff", "\r\n", id="as Windows saves UTF-8")]
)
def test_the_field_names_of_the_public_file_suffice(written, mark, newline):
    lines = (mark + json.dumps(GOOD), {**GOOD, "id": "The Safe, again", "unknown": 1})
    first, second = written(*lines, newline=newline)
    assert (first.needle, first.question, first.real_needle) == tuple(GOOD.values())
    assert [first.id, second.id] == ["needle-1", "the-safe-again"]
    assert first.literal


@pytest.mark.parametrize(
    ("needle", "real_needle", "found"),
    [
        ("Because it Rains, he left.", "because it rains", "Because it Rains"),
        (" The king sleeps. ", "\tking ", "king"),
        pytest.param("The rose garden belongs to Rose.", "Rose", "Rose", id="the spelling asked for, if there"),
        pytest.param("İzmir hides it in a red boat.", "a red boat", "a red boat", id="letters that grow when lowered"),
        pytest.param("A line\u2028break hides a cat.", "a cat", "a cat", id="separators that JSON allows in a string"),
    ],
)
def test_the_gold_words_are_spelt_as_in_the_needle(written, needle, real_needle, found):
    (read,) = written({"needle": needle, "question": "What?", "real_needle": real_needle})
    assert read.real_needle == found


def test_ids_in_any_script_stay_apart(written):
    assert len({needle.id for needle in written({**GOOD, "id": "猫"}, {**GOOD, "id": "犬"})}) == 2


@pytest.mark.parametrize(
    ("needle", "question", "shared"),
    [
        ("The monarch resides on Corvo.", "Where does the king live?", set()),
        ("The keeper hides his savings.", "Where is the money of the keepers hidden?", {"keeper"}),
        ("He counted 2849 books.", "How many books did he count?", {"book", "count"}),
        ("She will be there with you.", "Where will she be with you?", set()),  # function words do not link them
    ],
)
def test_a_needle_is_literal_when_its_question_shares_a_content_stem(written, needle, question, shared):
    assert shared_content_words(needle, question) == shared
    fields = {"needle": needle, "question": question, "real_needle": needle.split()[-1].strip(".")}
    assert written(fields)[0].literal is bool(shared)
    assert written({**fields, "literal": not shared})[0].literal is (not shared)  # the file's own word counts more


def test_the_toolkit_has_needles_enough_of_several_forms():
    needles = read_needles()
    assert len(needles) >= 12
    assert len({needle.id for needle in needles}) == len({needle.needle for needle in needles}) == len(needles)
    assert sum(not needle.literal for needle in needles) >= 4
    assert {needle.form for needle in needles} >= {"name", "number", "place", "instruction", "list"}


# Words too common to link a question to one sentence of a haystack: written down apart from the source's own list.
COMMON = frozenset(
    "a and by can did do does for from his how in is of on s the to was were what where who why with".split()
)


@pytest.mark.parametrize("needle", read_needles(), ids=lambda needle: needle.id)
def test_the_toolkits_needles_are_what_they_say(needle):
    stems = DefaultTokenizer(use_stemmer=True).tokenize
    shared = set(stems(needle.needle)) & set(stems(needle.question)) - COMMON
    assert bool(shared) is needle.literal
    assert needle.real_needle in needle.answer
    assert needle.needle.count(needle.real_needle) == 1
    assert needle.real_needle not in needle.question
    assert needle.needle.endswith(".")
    assert needle.question.endswith("?")
