"""Prose mended and read: every encoding scar by a sentence made by hand, and the real corpus held against its own raw text."""

import csv
import io
import os
import re
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.assets import ASSETS, fetch_asset
from interp.errors import ArgumentError
from interp.stimuli.prose import clean_article, news_articles, read_folder

SCARS = {
    "closing quote after a comma": ('"It is late,"?he said.', '"It is late," he said.'),
    "closing quote after a full stop": ('"We left."?Then it rained.', '"We left." Then it rained.'),
    "closing quote, then an opening one": ('He said "no."?"Why?" she asked.', 'He said "no." "Why?" she asked.'),
    "closing quote after a word": ('They called it a "massacre"?or worse.', 'They called it a "massacre" or worse.'),
    "apostrophe of a plural": ('Opposition from teachers"?unions grew.', "Opposition from teachers' unions grew."),
    "first a quotation, then a plural": ('A "sad"?day for voters"?rights.', 'A "sad" day for voters\' rights.'),
    "plural before a quotation": ('The owners"?club is "open"?now.', 'The owners\' club is "open" now.'),
    "dash before a word": ('The move "?which failed "?cost millions.', "The move - which failed - cost millions."),
    "dash before a quotation": ('One thing "?"hope" "?remained.', 'One thing - "hope" - remained.'),
    "scar at the end": ('He called it "the end"?', 'He called it "the end"'),
    "scar before a space": ('It was "worthless"? to them.', 'It was "worthless" to them.'),
    "not": ('They don"t and can"t.', "They don't and can't."),
    "the other contractions": (
        'It"s what we"re, I"ve, he"ll, she"d and I"m.',
        "It's what we're, I've, he'll, she'd and I'm.",
    ),
    "paragraph break": ("This is the end.-Next came rain.", "This is the end. Next came rain."),
    "paragraph break after a quotation": ('"It is over."-The crowd left.', '"It is over." The crowd left.'),
    "paragraph break of two strokes": ('Is it?--Yes:-"No!"', 'Is it? Yes: "No!"'),
    "line breaks and runs of spaces": ("  One\n\ntwo\t three \r\n", "One two three"),
}
WHOLE = (
    'She said "yes" and left. "Why?" he asked.',
    'A "so-called" well-known, twenty-one-year-old case (2016-17).',
    'The "word"to stays, and so does "s" alone.',
    "It isn't, they're, the teachers' own. What? No! 5.-3",
)


@pytest.mark.parametrize(("scarred", "mended"), SCARS.values(), ids=SCARS)
def test_each_encoding_scar_is_mended(scarred, mended):
    assert clean_article(scarred) == mended
    assert clean_article(mended) == mended


@pytest.mark.parametrize("text", WHOLE)
def test_text_without_scars_is_left_as_it_is(text):
    assert clean_article(text) == text


@settings(deadline=None)
@given(st.text(alphabet="abc DEF.,;:!?'0\n\té()", max_size=60))
def test_without_quotes_and_strokes_only_white_space_changes(text):
    assert clean_article(text) == " ".join(text.split())


@settings(deadline=None)
@given(st.lists(st.sampled_from(['"', '"?', "-", ". ", " ", "teachers", "t", "He", ","]), max_size=30))
def test_mending_touches_no_letter_and_leaves_no_scar(parts):
    text = "".join(parts)
    mended = clean_article(text)
    assert re.sub(r"\W", "", mended) == re.sub(r"\W", "", text)
    assert not re.search(r'\w"\?\w', mended)


# ---------------------------------------------------------------------- a folder of one's own


def test_a_folders_text_files_come_in_the_order_of_their_paths(tmp_path):
    files = {
        "b.txt": "zwei é",
        "a.txt": "eins\n",
        "c.md": "drei",
        "10.txt": "",
        "D.TXT": "vier",
        "x.txt/e.Text": "fünf",
    }
    for name, text in {**files, ".hidden.txt": "not this", ".git/f.txt": "nor this"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_folder(tmp_path) == ("", "vier", "eins\n", "zwei é", "drei", "fünf")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_text_is_the_same_however_it_was_saved(tmp_path, encoding, line_end, form):
    text = "Zoë’s café – प्रकाश\n\n河边。 각\t\n"
    content = unicodedata.normalize(form, text).replace("\n", line_end).encode(encoding)
    (tmp_path / "a.txt").write_bytes(content)
    assert read_folder(tmp_path) == (text,)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_joined_into_one_leave_no_mark_between_them(tmp_path, encoding):
    parts = ("One.\n", "e", "\u0301. Three.")
    (tmp_path / "a.txt").write_bytes(b"".join(part.encode(encoding) for part in parts))
    assert read_folder(tmp_path) == ("One.\né. Three.",)


def test_joined_files_whose_bytes_are_in_different_order_are_refused(tmp_path):
    mark = "\ufeff"
    (tmp_path / "a.txt").write_bytes(f"{mark}One.".encode("utf-16-le") + f"{mark}Two.".encode("utf-16-be"))
    with pytest.raises(ArgumentError, match=r"a\.txt is not text \(character 4 is U\+FFFE\): save its text as UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xfe\xff", "utf-16-be"), (b"\x00\x00\xfe\xff", "utf-32-be")])
def test_the_mark_at_the_beginning_tells_the_order_of_bytes(tmp_path, mark, encoding):
    (tmp_path / "a.txt").write_bytes(mark + "Ein Text.".encode(encoding))
    assert read_folder(tmp_path) == ("Ein Text.",)


def test_a_folder_is_read_once_until_it_changes(tmp_path):
    (tmp_path / "a.txt").write_text("eins")
    first = read_folder(tmp_path)
    assert read_folder(tmp_path) is first
    (tmp_path / "a.txt").write_text("anders")
    assert read_folder(tmp_path) == ("anders",)
    (tmp_path / "b.txt").write_text("mehr")
    assert read_folder(tmp_path) == ("anders", "mehr")


def put_link_to_nothing(folder: Path) -> None:
    (folder / "odd.txt").symlink_to(folder / "nowhere.txt")


def put_link_to_a_folder(folder: Path) -> None:
    (folder / "odd").symlink_to(folder)


def put_pipe(folder: Path) -> None:
    os.mkfifo(folder / "odd.txt")


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (put_link_to_nothing, r"odd\.txt is a link to nothing: delete it, or put the file itself there\.$"),
        (put_link_to_a_folder, r"odd is a link to a folder: put the files themselves there\.$"),
        (put_pipe, r"odd\.txt is no text file, and all of .* is read: move it elsewhere, or save its text as \.txt\.$"),
        (lambda folder: (folder / "odd.pdf").write_bytes(b"%PDF"), r"odd\.pdf is no text file, and all of"),
        (lambda folder: (folder / "odd").write_text("a name without an ending"), r"odd is no text file, and all of"),
        (
            lambda folder: (folder / "odd.txt").write_bytes(b"PK\x03\x04"),
            r"odd\.txt is not text \(character 2 is U\+0003\)",
        ),
        (
            lambda folder: (folder / "odd.txt").write_bytes("cat".encode("utf-16-le")),
            r"character 1 is U\+0000\): save its",
        ),
    ],
)
def test_what_would_not_be_read_is_refused(tmp_path, put, words):
    (tmp_path / "a.txt").write_text("good")
    put(tmp_path)
    with pytest.raises(ArgumentError, match=words):
        read_folder(tmp_path)


def test_a_folder_that_gives_no_text_is_refused_with_the_fix(tmp_path):
    with pytest.raises(ArgumentError, match=r"nowhere is not a folder: name a folder that holds \.txt files\.$"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=r"holds no text: put at least one non-empty \.txt file there\.$"):
        read_folder(tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\t")
    with pytest.raises(ArgumentError, match="holds no text"):
        read_folder(tmp_path)
    with pytest.raises(ArgumentError, match=r"blank\.txt is not a folder"):
        read_folder(tmp_path / "blank.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("café".encode("latin-1"), r"odd\.txt is not UTF-8 \(byte 3\): save it as UTF-8\.$"),
        ("cat".encode("utf-16")[:-1], r"odd\.txt is not the UTF-16 that it begins as \(byte 6\): save it as UTF-8\.$"),
    ],
)
def test_a_file_that_is_not_its_encoding_is_named_with_the_byte(tmp_path, content, words):
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "odd.txt").write_bytes(content)
    with pytest.raises(ArgumentError, match=words):
        read_folder(tmp_path)


# ---------------------------------------------------------------------- the real corpus


def letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", text)


@pytest.mark.real
def test_the_corpus_is_ten_million_clean_characters_and_every_letter_is_the_newspapers():
    articles = news_articles()
    assert len(articles) == pytest.approx(3100, rel=0.03)
    assert sum(map(len, articles)) == pytest.approx(10_000_000, rel=0.01)
    assert len(set(articles)) == len(articles)
    assert min(map(len, articles)) > 400
    together = "\n".join(articles)
    assert '"?' not in together
    assert "\ufffd" not in together
    assert not re.search(r"\w\?\w", together)
    assert not re.search(r"\s\s|\t", together)

    csv.field_size_limit(sys.maxsize)
    with zipfile.ZipFile(fetch_asset(ASSETS["news-prose"])) as archive:
        rows = csv.DictReader(io.StringIO(archive.read("NewsArticles.csv").decode("utf-8")))
        order = {letters(row["text"]): number for number, row in reversed(list(enumerate(rows)))}
    places = [order[letters(article)] for article in articles]  # a KeyError here is a letter changed or lost
    assert places == sorted(places)
