"""English prose to read and to hide things in: cleaned news articles of 2017 from the prose asset, or a user's own folder."""

import codecs
import io
import os
import re
import unicodedata
import zipfile
from functools import cache, lru_cache
from pathlib import Path

from interp.assets import ASSETS, fetch_asset
from interp.errors import ArgumentError
from interp.kept import Stamp, stamps_of

# What lossy encoding left behind: a replacement sign, an umlaut turned into "?", a pound sign turned into " ?2bn".
_LOST_LETTER = re.compile(r"\ufffd|\w\?\w| \?\d|[^\x00-\u024f\u2010-\u203a™°]")


@cache
def news_articles() -> tuple[str, ...]:
    """Returns the cleaned articles of the prose asset (about 3,100, 10 million characters), one string each, in file order.

    Articles with letters lost beyond repair are left out; curly quotes and dashes that became `"?` are restored as plain
    quotes, apostrophes and dashes.
    """
    import pandas as pd

    with zipfile.ZipFile(fetch_asset(ASSETS["news-prose"])) as archive:
        table = pd.read_csv(io.BytesIO(archive.read("NewsArticles.csv")))
    texts = table["text"].dropna().drop_duplicates()
    return tuple(clean_article(text) for text in texts if not _LOST_LETTER.search(text) and len(text) > 400)


def clean_article(text: str) -> str:
    """Returns the text with encoding errors repaired, as one paragraph.

    The scars: `word,"?he` was a closing curly quote and a space, `teachers"?unions` an apostrophe, `word "?and` a dash,
    `don"t` an apostrophe, `end.-Next` a paragraph break.
    """
    text = re.sub(r'([.,;:!?])"\?(?=\w|")', r'\1" ', text)
    text = re.sub(r' "\?(?=[\w"])', " - ", text)
    text = _close_quotes_or_apostrophes(text)
    text = re.sub(r'"\?', '"', text)
    text = re.sub(r"""(?<=\w)"(?=(?:t|s|re|ve|ll|d|m)\b)""", "'", text)
    text = re.sub(r'([.,:;!?]"?)-+(?=["A-Za-z])', r"\1 ", text)
    return re.sub(r"\s+", " ", text).strip()


def _close_quotes_or_apostrophes(text: str) -> str:
    """Inside an open quotation `word"?` closed it; elsewhere it was the apostrophe of a plural possessive."""
    quotation_open = False

    def mend(match: re.Match[str]) -> str:
        nonlocal quotation_open
        before, scar = match["before"], match["scar"]
        if not scar:
            quotation_open = not before or before.isspace()
            return match[0]
        closes, quotation_open = quotation_open, False
        return before + ('" ' if closes else "' ")

    return re.sub(r'(?P<before>^|.)"(?P<scar>\?(?=[\w"]))?', mend, text, flags=re.DOTALL)


TEXT_FILES = (".txt", ".text", ".md")
"""Names of text files end so, in capitals or not."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
_MARKS_16 = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # the one of UTF-32 begins with one of these
# U+FFFE is a byte-order mark read the wrong way round; half of a surrogate pair, which escapes may spell, is no character.
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


def read_folder(folder: Path) -> tuple[str, ...]:
    """Returns the texts of a folder's .txt, .text and .md files, those in folders within it too, in the order of their paths.

    They are UTF-8, or UTF-16 or UTF-32 with a byte-order mark, and come with composed characters (NFC) and one sign at the
    ends of lines. What begins with a dot is left out. The same files are read once.
    Raises ArgumentError when there is no text, or anything that would not be read: another kind of file, a link to a folder or
    to nothing, what is no text.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is not a folder: name a folder that holds .txt files.")
    files = tuple(_text_files(folder))
    texts = _texts_of(files, stamps_of(files))
    if not any(text.strip() for text in texts):
        raise ArgumentError(f"{folder} holds no text: put at least one non-empty .txt file there.")
    return texts


def _text_files(folder: Path) -> list[Path]:
    """The files of a folder and the folders within it, in order, once it is sure that each can be read."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise ArgumentError(f"{error.filename} cannot be read ({error.strerror}): change its permissions.") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (path := Path(place, name)).is_symlink():
                raise ArgumentError(f"{path} is a link to a folder: put the files themselves there.")
        found += [Path(place, name) for name in files if not name.startswith(".")]
    for path in found:
        if not path.exists():
            raise ArgumentError(f"{path} is a link to nothing: delete it, or put the file itself there.")
        if not path.is_file() or path.suffix.lower() not in TEXT_FILES:
            raise ArgumentError(
                f"{path} is no text file, and all of {folder} is read: move it elsewhere, or save its text as .txt."
            )
    return sorted(found)


@lru_cache(maxsize=2)
def _texts_of(files: tuple[Path, ...], _stamps: tuple[Stamp, ...]) -> tuple[str, ...]:
    return tuple(read_text(path) for path in files)


def read_text(path: Path) -> str:
    """Returns a file's text: composed characters, one kind of line break, no byte-order marks (concatenated files have several).

    Raises ArgumentError for what cannot be read or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror}): change its permissions.") from error
    encoding = next((name for mark, name in (*_MARKS, *_MARKS_16) if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        named = "UTF-8" if encoding.startswith("utf-8") else f"the {encoding.upper()} that it begins as"
        raise ArgumentError(f"{path} is not {named} (byte {error.start}): save it as UTF-8.") from error
    if no_text := _NO_TEXT.search(text):
        raise ArgumentError(
            f"{path} is not text (character {no_text.start()} is U+{ord(no_text[0]):04X}): save its text as UTF-8, or move it "
            "elsewhere."
        )
    return one_spelling(text)


def one_spelling(text: str) -> str:
    """Returns a text with composed characters (NFC), one kind of line break, and no byte-order marks."""
    return unicodedata.normalize("NFC", text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n"))


def sign_of_no_text(text: str) -> str | None:
    """Returns the first character that no text has, such as NUL or half of a surrogate pair; None if there is none."""
    found = _NO_TEXT.search(text)
    return found[0] if found else None
