"""Files of texts: what they hold is read the same however they spell it; what could be read two ways is refused in a sentence."""

import csv
import json
import unicodedata
from pathlib import Path

import pytest

from interp.errors import ArgumentError
from probes.sequence_representation.pairs import read_pairs
from probes.surprisal.settings import Settings
from probes.training_memory.duplicates import read_known

TEXTS = ("Tiếng Việt ở Huế", 'He said "yes", then left', "안녕하세요 세계", "Größe: 3,5 m", "e\u0301 alone")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path) -> list[str]:
    return [text.text for text in Settings(texts=path).read_texts()]


def as_csv(texts: tuple[str, ...]) -> str:
    return "text\n" + "".join('"' + text.replace('"', '""') + '"\n' for text in texts)


def as_tsv(texts: tuple[str, ...]) -> str:
    return "text\tother\n" + "".join(f"{text}\tx\n" for text in texts)


def as_jsonl(texts: tuple[str, ...], *, escaped: bool = False) -> str:
    return "".join(json.dumps({"tags": [1], "text": text}, ensure_ascii=escaped) + "\n" for text in texts)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_every_kind_of_file_spelling_and_encoding_gives_the_same_texts(tmp_path: Path, form: str) -> None:
    wanted = [unicodedata.normalize("NFC", text) for text in TEXTS]
    texts = tuple(unicodedata.normalize(form, text) for text in TEXTS)
    contents = {
        "a.csv": as_csv(texts),
        "b.tsv": as_tsv(texts),
        "c.jsonl": as_jsonl(texts),
        "d.jsonl": as_jsonl(texts, escaped=True),
        "e.TXT": "\n".join(texts),
        "f.CSV": as_csv(texts),
    }
    for name, content in contents.items():
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            for end in ("\n", "\r\n", "\r"):
                path = write(tmp_path / name, content.replace("\n", end).encode(encoding))
                assert read(path) == wanted, (name, encoding, end)


def test_numbers_are_texts_as_they_are_written(tmp_path: Path) -> None:
    digits = "1" + "0" * 5000
    path = write(tmp_path / "t.jsonl", f'{{"text": 1.50}}\n{{"text": {digits}}}\n{{"text": 1e3, "other": NaN}}\n')
    assert read(path) == ["1.50", digits, "1e3"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "id,text,text\na,One,Two\n", "two columns text"),
        ("t.tsv", "id\tid\ttext\na\tb\tOne\n", "two columns id"),
        ("t.jsonl", '{"text": "One", "text": "Two"}\n', "two columns text"),
        ("t.jsonl", '{"text": ["One", "Two"]}\n', r"line 1, is neither a text nor a number"),
        ("t.jsonl", '{"text": "a"}\n{"text": {"en": "One"}}\n', r"line 2, is neither a text nor a number"),
        ("t.jsonl", '{"text": true}\n', "neither a text nor a number"),
        ("t.jsonl", '{"text": NaN}\n', "neither a text nor a number"),
        ("t.jsonl", '{"text": "a\\ud800b"}\n', r"U\+D800, which is no character"),
        ("t.jsonl", '{"text": "a\\u0000b"}\n', r"U\+0000, which is no character"),
        ("t.jsonl", "[" * 100_000 + "\n", "line 1, is not a JSON object"),
        ("t.tsv", 'text\tid\n"He said ""hi"""\ta\n', "quotes texts as CSV does"),
        ("t.csv", 'id,text\na,"One\n', r"save it as \.jsonl"),
    ],
)
def test_what_could_be_read_otherwise_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        read(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_a_text_may_be_long(tmp_path: Path, name: str) -> None:
    text = "word " * 40_000 + "end"
    content = {".csv": f"text\n{text}\n", ".tsv": f"text\n{text}\n", ".jsonl": json.dumps({"text": text})}
    limit = csv.field_size_limit(131_072)
    assert read(write(tmp_path / name, content[Path(name).suffix])) == [text]
    csv.field_size_limit(limit)


def test_pairs_and_known_texts_are_read_by_the_same_rules(tmp_path: Path) -> None:
    columns = ("sentence1", "sentence2", "score")
    row = '{"sentence1": "cafe\\u0301", "sentence2": "b", "score": %s, "extra": [1]}\n'
    path = write(tmp_path / "pairs.jsonl", row % 1 + row % "3.5")
    assert [(pair.first, pair.grade) for pair in read_pairs(path, columns)] == [("café", 1), ("café", 3.5)]
    twice = write(tmp_path / "pairs.csv", "sentence1,sentence2,score,score\na,b,1,5\nc,d,2,4\n")
    with pytest.raises(ArgumentError, match="two columns score"):
        read_pairs(twice, columns)
    known = write(tmp_path / "known.jsonl", '{"text": "cafe\\u0301 au lait", "duplicates": 7, "meta": {}}\n')
    assert [(one.text, one.duplicates, one.foil) for one in read_known(known)] == [("café au lait", 7, "")]
    with pytest.raises(ArgumentError, match="two columns duplicates"):
        read_known(write(tmp_path / "known.csv", "text,duplicates,duplicates\na,1,2\n"))
