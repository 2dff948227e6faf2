"""English prose to read and to hide things in: cleaned news articles of 2017 from the prose asset, or a user's own folder."""

import io
import re
import zipfile
from functools import cache
from pathlib import Path

from interp.assets import ASSETS, fetch_asset
from interp.errors import ArgumentError

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
    """Returns the text with its encoding scars mended, as one paragraph.

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


def read_folder(folder: Path) -> tuple[str, ...]:
    """Returns the texts of a folder's .txt files in name order.

    Raises ArgumentError when the folder has none or one is not UTF-8.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is not a folder: name a folder that holds .txt files.")
    texts = []
    for path in sorted(folder.glob("*.txt")):
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ArgumentError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from error
    if not any(text.strip() for text in texts):
        raise ArgumentError(f"{folder} holds no text: put at least one non-empty .txt file there.")
    return tuple(texts)
