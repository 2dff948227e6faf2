"""Where sentences, words and characters begin, in the scripts that Unicode knows."""

import re
from itertools import pairwise

import regex

# A sentence ends at . ! or ? with its closing quotes, unless the word before is an abbreviation or an initial.
_CLOSING, _OPENING = r"(?:[\"'”’»)]|\s»)*", r"(?:[\"'“‘„‚¿¡(]|«\s?)*"
_LATIN_END = re.compile(rf"[.!?]{_CLOSING}\s+(?={_OPENING}([\w\u2600-\u27bf\U0001f000-\U0001faff]))")
_LONGEST_ABBREVIATION = 40
_NO_END = re.compile(
    r"^\W*(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Lt|Col|Sgt|Capt|Rev|St|Jr|Sr|No|vs|Inc|Corp|Co|Ltd|Jan|Feb|Mar|Apr|Jun|Jul|"
    r"Aug|Sep|Sept|Oct|Nov|Dec|[A-Za-z]{1,2}(?:\.[A-Za-z])+|[DR]-\w+)\.$"
)
# What ends a sentence in other scripts (Unicode's Sentence_Terminal) ends it with or without a space behind; so does the
# Greek question mark, which is written as a semicolon.
_OTHER_END = regex.compile(
    r"""(?:[\p{Sentence_Terminal}--[.!?]]|(?<=\p{Greek}\p{M}*);|(?<=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}])…+)
    [\p{Sentence_Terminal}…]*[\p{Pf}\p{Pe}"']*\s*""",
    regex.V1 | regex.VERBOSE,
)
_GRAPHEME = regex.compile(r"\X")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_LETTER = regex.compile(r"[\p{L}\p{N}]")


def sentence_starts(text: str) -> list[int]:
    """Returns the character positions at which sentences begin, the first included."""
    latin = (
        match.end()
        for match in _LATIN_END.finditer(text)
        if not match[1].islower() and _ends_a_sentence(text, match.start(), match.end())
    )
    other = (match.end() for match in _OTHER_END.finditer(text) if match.end() < len(text))
    return sorted({0, *latin, *other})


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, in order, each with its stop and without the blanks around it: no word is lost."""
    starts = [*sentence_starts(text), len(text)]
    return [sentence for a, b in pairwise(starts) if (sentence := text[a:b].strip())]


_STOP = regex.compile(
    r"""(?:[\p{Sentence_Terminal}…‽]|(?<=\p{Greek}\p{M}*);)[\p{Sentence_Terminal}…‽\p{Pf}\p{Pe}"']*$"""
)


def without_stop(sentence: str) -> tuple[str, str]:
    """Returns a sentence before its stop, and the stop with the quotes or brackets that it closes; "" where it has none."""
    stop = _STOP.search(sentence)
    return (sentence[: stop.start()], stop[0]) if stop else (sentence, "")


def _ends_a_sentence(text: str, stop: int, end: int) -> bool:
    """Whether the . ! or ? at `stop` ends a sentence: it follows no blank (French puts one before ! and ?), no abbreviation."""
    if text[stop] == "." and (stop == 0 or text[stop - 1].isspace()):
        return False
    first = max(0, stop - _LONGEST_ABBREVIATION)
    before = text[first:end].split()
    if first > 0 and len(before) == 1:
        return True
    return not _NO_END.match(before[-1].rstrip("\"'”’»)"))


def word_starts(text: str) -> list[int]:
    """Returns the character positions behind blanks, the first included."""
    return sorted({0, *(match.end() for match in re.finditer(r"\s+(?=\S)", text))})


def grapheme_starts(text: str) -> list[int]:
    """Returns the positions at which a new character begins as a reader sees it: no mark, no joined emoji."""
    return [match.start() for match in _GRAPHEME.finditer(text)]


def follows_without_a_space(sentence: str) -> bool:
    """Returns whether a sentence is in a script that puts no space between sentences (Chinese, Japanese)."""
    letter = _LETTER.search(sentence)
    return letter is not None and _UNSPACED.match(letter[0]) is not None
