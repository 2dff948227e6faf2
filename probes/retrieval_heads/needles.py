"""Needles: sentences to hide in a haystack, each with its question and the words an answer must contain.

The toolkit's own (needles.jsonl) or a user's file, in the field names of the public reference (needle, question,
real_needle; Wu et al. 2024, arXiv:2404.15574, and its code).
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from interp.errors import ArgumentError

OWN_NEEDLES = Path(__file__).with_name("needles.jsonl")
_REQUIRED = ("needle", "question", "real_needle")


@dataclass(frozen=True)
class Needle:
    """A sentence to hide and ask for.

    `real_needle` is the part of the needle that an answer must recall, word for word in it; `answer` is a whole answer.
    A needle is `literal` when its question shares a content word with it; otherwise only meaning links the two.
    """

    id: str
    needle: str
    question: str
    real_needle: str
    answer: str
    form: str
    literal: bool


def read_needles(path: Path | None = None) -> tuple[Needle, ...]:
    """Returns the needles of a JSON-lines file, or the toolkit's own.

    Raises ArgumentError, with the line number, for a file that cannot be read, a missing or empty field, an id that comes
    twice, or a real_needle that is not in its needle.
    """
    path = path or OWN_NEEDLES
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ArgumentError(f"The needle file {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"The needle file {path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from error
    numbered = {number: _parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()}
    needles = tuple(numbered.values())
    if not needles:
        raise ArgumentError(
            f"The needle file {path} is empty: write one JSON object per line with {', '.join(_REQUIRED)}."
        )
    first: dict[str, int] = {}
    for number, needle in numbered.items():
        if first.setdefault(needle.id, number) != number:
            raise ArgumentError(
                f"{path}, line {number}: this is the id {needle.id} twice (line {first[needle.id]} has it too): give every "
                "needle its own."
            )
    return needles


def read_needle(path: Path | None, needle_id: str) -> Needle:
    """Returns one needle of a file, by its id."""
    return next(needle for needle in read_needles(path) if needle.id == needle_id)


def _parse(line: str, path: Path, number: int) -> Needle:
    where = f"{path}, line {number}"
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{where}: this is not JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise ArgumentError(f"{where}: a JSON object is needed, with {', '.join(_REQUIRED)}.")
    for name in _REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ArgumentError(f"{where}: the field {name} is missing or empty.")
    # One spelling of accents, whatever the file's: an answer is looked for in its needle letter by letter.
    needle, question, real_needle = (unicodedata.normalize("NFC", fields[name]).strip() for name in _REQUIRED)
    found = find_words(needle, real_needle)
    if found is None:
        raise ArgumentError(f"{where}: real_needle must be words of the needle, and {real_needle!r} is not in it.")
    return Needle(
        id=_as_id(str(fields.get("id", ""))) or f"needle-{number}",
        needle=needle,
        question=question,
        real_needle=needle[slice(*found)],
        answer=str(fields.get("answer", needle)),
        form=str(fields.get("form", "")),
        literal=bool(fields.get("literal", shared_content_words(needle, question))),
    )


def _as_id(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def find_words(text: str, part: str) -> tuple[int, int] | None:
    """Returns where a part of a text is, [start, end): best as whole words in its own spelling, else as can be found."""
    exact = regex.escape(part)
    for flags in (0, regex.IGNORECASE):
        match = regex.search(rf"(?<!\w){exact}(?!\w)", text, flags)  # marks are \w here, unlike in re
        if match:
            return match.span()
    match = regex.search(exact, text, regex.IGNORECASE)
    return match.span() if match else None


_FUNCTION_WORDS = frozenset(
    """a about above after all along also am an and any are as at away be because been before being below beneath beside
    between but by can could did do does doing done down during each every few first for from get gets go goes got had has
    have having he her hers him his how i if in inside into is it its itself just like make made many may me might more
    most much must my near next no not of off on once one only onto or other our out over own s she should so some such
    than that the their them then there these they this those through to together too under until up upon us use used
    very was we were what when where which while who whom whose why will with without would you your""".split()
)


def shared_content_words(needle: str, question: str) -> frozenset[str]:
    """Returns the stems of the content words that a question and its needle share (Porter stemmer).

    Where a script has no spaces, pairs of neighbouring characters count.
    """
    return _content_stems(needle) & _content_stems(question)


@cache
def _content_stems(text: str) -> frozenset[str]:
    words = words_of(text)
    pairs = {"".join(pair) for pair in pairwise(words) if all(len(word) == 1 and not word.isascii() for word in pair)}
    return frozenset(
        {stem(word) for word in words if word not in _FUNCTION_WORDS and (word.isascii() or len(word) > 1)} | pairs
    )


# ---------------------------------------------------------------------- words of a text

# Scripts that write no space between words, or glue particles to them (Korean): each letter, with its marks, counts as a word.
_UNSPACED = r"[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]"
_WORD = regex.compile(
    rf"""(?P<run>{_UNSPACED})\p{{M}}*
    |(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*)+(?:-(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*)+)*""",
    regex.VERBOSE,
)
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe0e\ufe0f]")


def words_of(text: str) -> list[str]:
    """Returns a text's words in lower case: as Unicode normalises them (NFKC), digits of all scripts alike.

    Parts joined by a hyphen are words of their own, but in a name such as β-7: letters outside ASCII with a number.
    """
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).casefold())
    folded = "".join(str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in folded)
    words: list[str] = []
    for match in _WORD.finditer(folded):
        word = match[0]
        joined = not word.isascii() and any(c.isdecimal() for c in word)
        words += [word] if joined else word.split("-")
    return words


@cache
def _stemmer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


def stem(word: str) -> str:
    """Returns the Porter stem of an English word of more than three letters; any other word as it is."""
    return _stemmer().tokenize(word)[0] if word.isascii() else word
