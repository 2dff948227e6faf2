"""Where sentences end, in any script: no text is lost, and nothing is cut inside a number, an ellipsis or an abbreviation."""

import re

_STOPS = ".!?…‽．"
"""End a sentence where a blank follows: also written inside numbers, names and code."""
_SURE_STOPS = "。！？｡।॥؟۔։።፧།༎။។៕᙮᠃"
"""End a sentence whatever follows: Chinese, Japanese, Devanagari, Arabic, Urdu, Armenian, Ethiopic, Tibetan, Burmese, Khmer …"""
_CLOSERS = "\"'”’»›)]}）」』】〉》"
_OPENERS = "\"'“‘„«‹([{¿¡—–-"
_GREEK_QUESTION = r"(?<=[\u0370-\u03ff\u1f00-\u1fff]);"
_STOP = re.compile(rf"(?:[{_STOPS}{_SURE_STOPS}]|{_GREEK_QUESTION})[{_STOPS}{_SURE_STOPS}{re.escape(_CLOSERS)}]*")
_ENDING = re.compile(rf"{_STOP.pattern}$")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘.])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Sen|Rep|Gov|St|Mt|vs|etc|approx|Fig|fig|No|pp|cf)$"
)
_LOOK_BACK = 20
"""Characters before a stop that are searched for an abbreviation: more than the longest has."""


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, in order, each with its stop and without the blanks around it.

    A stop such as "." ends one where blanks and then no lower-case letter follow, unless an initial or a common English
    abbreviation stands before it; a stop such as "。" or "।" always does. What follows the last stop is a sentence too.
    """
    found, start = [], 0
    for match in _STOP.finditer(text):
        if _ends(text, match):
            found.append(text[start : match.end()].strip())
            start = match.end()
    return [sentence for sentence in [*found, text[start:].strip()] if sentence]


def _ends(text: str, stop: re.Match[str]) -> bool:
    rest = text[stop.end() :]
    after = rest.lstrip().lstrip(_OPENERS)[:1]
    if not any(sign.isalnum() for sign in rest):  # what is left holds no word: it belongs to this sentence
        return False
    if any(sign in _SURE_STOPS for sign in stop[0]):
        return True
    if not rest[0].isspace() or after in _STOPS or after.islower():
        return False
    return stop[0] != "." or not _ABBREVIATION.search(text[max(0, stop.start() - _LOOK_BACK) : stop.start()])


def without_stop(sentence: str) -> tuple[str, str]:
    """Returns a sentence before its stop, and the stop with the quotes or brackets that it closes; "" where it has none."""
    stop = _ENDING.search(sentence)
    return (sentence[: stop.start()], stop[0]) if stop else (sentence, "")
