"""Where sentences, words and characters begin, in the scripts that Unicode knows."""

import re
from itertools import pairwise

import regex

# What a stop closes, all of it: quotes and brackets („Ja.“), emphasis (**Bold.**), notes (left.[1], left.¹); « is one in »Ja.«.
_NOTE = r"\[(?:\d[\d\s,–-]*|[a-z]|[a-z]+ needed)\]"
_CLOSING = rf"(?:[\"'”’“‘»«›‹)*_~†‡¹²³⁰⁴-⁹]|\s?{_NOTE}|\s[»›](?!\w))*"
# What a sentence may begin with, before its first letter; a dash in dialogue, or a bullet at the beginning of a line.
_OPENING = r"(?:[\"'“‘„‚¿¡(*_»›]|[«‹]\s?|[—―–]\s?|(?<=\n)[-*•·]\s+)*"
_LATIN_END = regex.compile(rf"[.!?]{_CLOSING}\s+(?={_OPENING}([\w\u2600-\u27bf\U0001f000-\U0001faff]))")
_LONGEST_ABBREVIATION = 40
# An abbreviation, or an initial in any script that has capitals.
_NO_END = regex.compile(
    r"^\W*(?:\p{Lu}\p{M}*|Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Lt|Col|Sgt|Capt|Rev|St|Jr|Sr|No|vs|Inc|Corp|Co|Ltd|Jan|Feb|Mar|Apr|"
    r"Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|\p{L}{1,2}(?:\.-?\p{L})+|[DR]-\w+|"
    r"Mme|Mlle|Mgr|Sra|Srta|Dra|Sig|Dott|Ing|Avv|Hr|Nr|Str|bzw|ca|ул|им|св|проф|акад|тов|ul|św)\.$"
)
_SMALL_LETTER = regex.compile(r"^\W*\p{Ll}\.$")  # of "z. B.", where a letter with a stop follows
_LETTER_AND_STOP = regex.compile(r"\p{Lu}\.")
# Ordinals are written with a stop in German, and what follows is a noun: "am 3. Mai", "im 19. Jahrhundert", "Ludwig der XIV. Herr".
_ORDINAL = regex.compile(r"^\W*(?:\d{1,2}|[IVXL]+)\.$")
_BEFORE_ORDINAL = frozenset("am im der die das den dem des vom zum zur beim bis ab seit jeder jeden jedem".split())
_MONTH = regex.compile(r"(?:Januar|Jänner|Februar|Feber|März|Mai|Juni|Juli|Oktober|Dezember)\b")
# What ends a sentence in other scripts (Unicode's Sentence_Terminal) ends it with or without a space behind; so do the strokes of
# Tibetan and the stops of Hebrew verses, Sinhala, Thai and Khmer chapters, which Unicode does not count, but not Burmese ၊, a comma. The
# Greek question mark is written as a semicolon, the Armenian stop often as a colon.
_STROKES = r"[\u0f0d-\u0f12\u0f14](?:\s?[\u0f0d-\u0f12\u0f14])*"
_STOPS = r"[[\p{Sentence_Terminal}\u05c3\u0df4\u0e5a\u0e5b\u17da]--[\u104a]]"
_OF_ONE_SCRIPT = r"(?<=\p{Greek}\p{M}*)[;\u037e]|(?<=\p{Armenian}\p{M}*):(?!\d)"
_OTHER_END = regex.compile(
    rf"""(?:{_STROKES}|[{_STOPS}--[.!?]]|{_OF_ONE_SCRIPT}|(?<=[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}\p{{Thai}}\p{{Lao}}\p{{Khmer}}])…+)
    [{_STOPS}…]*(?:[\p{{Pf}}\p{{Pe}}"'«‹]|\[\d[\d\s,–-]*\]|[¹²³⁰⁴-⁹])*\s*""",
    regex.V1 | regex.VERBOSE,
)
# Behind a quotation a sentence goes on with a comma, or in Japanese with a particle: 「はい。」と言った.
_GOES_ON = regex.compile(
    r"""[、，,;；:：]|って|を|など|という|との|と(?=[\p{Han}\p{Katakana}、のかい]|さけ|つぶや|こた|たず|ささや|きい|き[かく])
    |[のにはがもでへ](?=[\p{Han}\p{Katakana}、])|だ(?=[とけ])|か(?=[らと])""",
    regex.V1 | regex.VERBOSE,
)
_CLOSES = regex.compile(r"[\p{Pf}\p{Pe}\"']\s*$")
_GRAPHEME = regex.compile(r"\X")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_LETTER = regex.compile(r"[\p{L}\p{N}]")


def sentence_starts(text: str) -> list[int]:
    """Returns the character positions at which sentences begin, the first included."""
    latin = (
        match.end()
        for match in _LATIN_END.finditer(text)
        if not _is_small(match[1]) and _ends_a_sentence(text, match.start(), match.end())
    )
    other = (
        match.end()
        for match in _OTHER_END.finditer(text)
        if match.end() < len(text) and not (_CLOSES.search(match[0]) and _GOES_ON.match(text, match.end()))
    )
    return sorted({0, *latin, *other})


def _is_small(letter: str) -> bool:
    """Whether a letter is the small one of a pair: Georgian ones say that they are, and begin sentences."""
    return letter.islower() and letter.title() != letter


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, in order, each with its stop and without surrounding blanks; no word is lost."""
    starts = [*sentence_starts(text), len(text)]
    return [sentence for a, b in pairwise(starts) if (sentence := text[a:b].strip())]


_STOP = regex.compile(
    rf"(?:{_STROKES}|[{_STOPS}…‽]|{_OF_ONE_SCRIPT})(?:[{_STOPS}…‽\p{{Pf}}\p{{Pe}}]|{_CLOSING[:-1]})*$", regex.V1
)


def without_stop(sentence: str) -> tuple[str, str]:
    """Returns a sentence without its stop, and the stop with any closing quotes or brackets; "" if it has none."""
    stop = _STOP.search(sentence)
    return (sentence[: stop.start()], stop[0]) if stop else (sentence, "")


def _ends_a_sentence(text: str, stop: int, end: int) -> bool:
    """Whether the . ! or ? at `stop` ends a sentence that another one follows at `end`.

    It does not behind a blank (French puts one before ! and ?), an abbreviation, an initial or an ordinal.
    """
    if text[stop] == "." and (stop == 0 or text[stop - 1].isspace()):
        return False
    first = max(0, stop - _LONGEST_ABBREVIATION)
    before = text[first : stop + 1].split()
    if first > 0 and len(before) == 1:
        return True
    if _SMALL_LETTER.match(before[-1]) and _LETTER_AND_STOP.match(text, end):
        return False
    return not _NO_END.match(before[-1]) and not _is_ordinal(before, text, end)


def _is_ordinal(before: list[str], text: str, end: int) -> bool:
    if not _ORDINAL.match(before[-1]):
        return False
    return (before[-2:-1] != [] and before[-2].lower() in _BEFORE_ORDINAL) or _MONTH.match(text, end) is not None


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
