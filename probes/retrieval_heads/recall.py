"""How much of the wanted answer is in a text: the share of its words, in any script, or the reference script's measure."""

import unicodedata
from collections import Counter
from functools import cache
from typing import Any, Literal

import regex

RecallMeasure = Literal["words", "reference"]

PASS_RECALL = 0.5
"""An answer passes with strictly more than this recall."""

# Scripts that write no space between words, or glue particles to them (Korean): each letter, with its marks, counts as a word.
_UNSPACED = r"[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]"
_WORD = regex.compile(
    rf"""(?P<run>{_UNSPACED})\p{{M}}*
    |(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*)+(?:-(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*)+)*""",
    regex.VERBOSE,
)
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe0e\ufe0f]")


def answer_recall(wanted: str, text: str, measure: RecallMeasure = "words") -> float:
    """Returns the share of the wanted words (with multiplicity) that occur in the text, 0 to 1.

    "words": letters, marks and digits of any script, case ignored and accents kept, English words as Porter stems; where a
    script has no spaces, characters; an answer without words by its signs. On English it equals "reference": stemmed ROUGE-1
    recall, which sees a-z and 0-9 only.
    """
    if measure == "reference":
        return float(_scorer().score(wanted, text)["rouge1"].recall)
    parts_of = _stems if _stems(wanted) else _signs
    needed = Counter(parts_of(wanted))
    return (needed & Counter(parts_of(text))).total() / max(1, needed.total())


def passes(recall: float) -> bool:
    """Returns whether an answer counts as retrieved."""
    return recall > PASS_RECALL


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


def reference_reads(text: str) -> bool:
    """Returns whether the reference's measure sees all words of a text."""
    return bool(words_of(text)) and all(word.isascii() for word in words_of(text))


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True)


@cache
def _stemmer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


def stem(word: str) -> str:
    """Returns the Porter stem of an English word of more than three letters; any other word as it is."""
    return _stemmer().tokenize(word)[0] if word.isascii() else word


def _stems(text: str) -> list[str]:
    return [stem(word) for word in words_of(text)]


def _signs(text: str) -> list[str]:
    """Characters as a reader sees them, blanks left out."""
    return [sign for sign in regex.findall(r"\X", text.replace("\ufe0f", "")) if not sign.isspace()]
