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
from interp.stimuli.prose import one_spelling, sign_of_no_text

OWN_NEEDLES = Path(__file__).with_name("needles.jsonl")
_REQUIRED = ("needle", "question", "real_needle")


@dataclass(frozen=True)
class Needle:
    """A sentence to hide in a haystack, with its question.

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
        fields: Any = json.loads(line, object_pairs_hook=without_doubles)
        line.encode()  # half of a surrogate pair is no character
        json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{where}: this is not JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise ArgumentError(f"{where}: a JSON object is needed, with {', '.join(_REQUIRED)}.")
    for name in _REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ArgumentError(f"{where}: the field {name} is missing or empty.")
    for name, kind, wanted in (("answer", str, "a text"), ("form", str, "a text"), ("literal", bool, "true or false")):
        if name in fields and not isinstance(fields[name], kind):
            raise ArgumentError(
                f"{where}: the field {name} must be {wanted}, not {json.dumps(fields[name])}: leave it out or fix it."
            )
    for name in (*_REQUIRED, "answer"):
        if sign := sign_of_no_text(fields.get(name, "")):
            raise ArgumentError(f"{where}: the field {name} holds U+{ord(sign):04X}, which is no character of a text.")
    # One spelling of accents, whatever the file's: an answer is looked for in its needle letter by letter.
    needle, question, real_needle = (one_spelling(fields[name]).strip() for name in _REQUIRED)
    found = find_words(needle, real_needle)
    if found is None:
        raise ArgumentError(f"{where}: real_needle must be words of the needle, and {real_needle!r} is not in it.")
    return Needle(
        id=_as_id(str(fields.get("id", ""))) or f"needle-{number}",
        needle=needle,
        question=question,
        real_needle=needle[slice(*found)],
        answer=one_spelling(fields.get("answer", needle)),
        form=fields.get("form", ""),
        literal=fields.get("literal", bool(shared_content_words(needle, question))),
    )


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the fields of a JSON object; ValueError for a name that comes twice, of which JSON would keep the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"a name comes twice among {', '.join(name for name, _ in pairs)}")
    return fields


def _as_id(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


# A part stands alone between these: not in 3.14, don't or C++; else between characters that are of no word (marks are).
_ALONE = (r"(?<!\w)(?<!\d[.,])(?<!\w['’])", r"(?!\w)(?![.,]\d)(?!['’]\w)(?![+#])")
_WHOLE = (r"(?<!\w)", r"(?!\w)")


def find_words(text: str, part: str) -> tuple[int, int] | None:
    """Returns where a part of a text is, [start, end): best standing alone in its own spelling, else as can be found."""
    borders = {0, *(match.end() for match in regex.finditer(r"\X", text))}  # of characters as a reader sees them
    for before, after in (_ALONE, _WHOLE, ("", "")):
        for flags in (0, regex.IGNORECASE):
            found = regex.finditer(f"{before}{regex.escape(part)}{after}", text, flags, overlapped=True)
            for match in found:
                if borders.issuperset(match.span()) or not before:
                    return match.span()
    return None


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
# Marks that readers of Arabic and Hebrew leave out as they like, the line that stretches Arabic words, and trade marks.
_OPTIONAL = regex.compile(r"[\u0640\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u2122\u2120]")
_FORMULA = regex.compile(r"(?<=\p{L})[\u2080-\u2089]+")  # H₂O is H2O; 10₂ is not 102
_ONE_SPELLING = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u05be", "-")
    | dict.fromkeys("‘’ʹʻʼʽ′", "'")
    | {"İ": "i", "ı": "i"}
)


def words_of(text: str) -> list[str]:
    """Returns a text's words in lower case: as Unicode normalises them (NFKC), digits of all scripts alike.

    Parts joined by a hyphen are words of their own, but in a name such as β-7: letters outside ASCII with a number.
    """
    words: list[str] = []
    for match in _WORD.finditer(_folded(text)):
        words += [match[0]] if _is_name(match[0]) else match[0].split("-")
    return words


def spellings_of(text: str) -> list[str]:
    """Returns a text's words, and names such as β-7 however they are written there: β-7, β 7, and each part by itself."""
    whole = [match[0] for match in _WORD.finditer(_folded(text))]
    parts = [part for word in whole for part in word.split("-")]
    names = [word for word in whole if _is_name(word)]
    pairs = ["-".join(pair) for pair in pairwise(parts)]
    return [*parts, *names, *(pair for pair in pairs if _is_name(pair) and pair not in names)]


def _is_name(word: str) -> bool:
    """Whether a word with a hyphen in it joins letters outside ASCII with a number."""
    return "-" in word and not word.isascii() and any(sign.isdecimal() for sign in word)


def _folded(text: str) -> str:
    """The text in one spelling of case, apostrophes, hyphens, digits and signs that stand for letters (5㎏ is 5 kg, 2½ is 2 1/2)."""
    text = _OPTIONAL.sub("", _INVISIBLE.sub("", text.translate(_ONE_SPELLING)))
    text = _FORMULA.sub(lambda digits: unicodedata.normalize("NFKC", digits[0]), text)
    apart = (f" {unicodedata.normalize('NFKC', sign)} " if _is_compact(sign) else sign for sign in text)
    folded = unicodedata.normalize("NFKC", "".join(apart).casefold()).casefold().replace("i\u0307", "i")
    folded = folded.translate(_ONE_SPELLING).replace(
        "\u0565\u0582", "\u0565\u057e"
    )  # ŉ has an apostrophe; Armenian և is եւ or եվ
    return "".join(
        str(unicodedata.decimal(sign)) if not sign.isascii() and sign.isdecimal() else sign for sign in folded
    )


def _is_compact(sign: str) -> bool:
    """Whether one sign stands for several or for a raised one: ½, ², ㎏, №."""
    return unicodedata.category(sign) in ("No", "So") and unicodedata.normalize("NFKC", sign) != sign


@cache
def _stemmer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


def stem(word: str) -> str:
    """Returns the Porter stem of an English word of more than three letters; any other word as it is."""
    return _stemmer().tokenize(word)[0] if word.isascii() else word
