"""The one number that a statement gives: behind its last = sign, before its reasons, after words such as "a total of".

What gives two is none: 18 (or 19 if rounded), x = 5 or x = -5, 18 eggs and 3 hens.
"""

import re
from fractions import Fraction

from probes.critical_tokens.number_words import spelled
from probes.critical_tokens.numbers import LONGEST, Number, evaluate, read_number, tidy

_CUT = re.compile(
    r"\s*(?:;(?!\s*[-$.]?\d)|[(\[]|,\s+(?=[A-Za-z])|\b(?:because|since|as|so|which|where|when|after|given|who|and not|rather than|"
    r"instead of)\b|(?<=[a-z]) (?:for|in|at) (?:the |an? |each |every |all |\$)?\d[\d.,]*,? [a-z]+)",
    re.IGNORECASE,
)
_REASON = re.compile(
    r",?\s+(?:because|since|which|rather than|instead of|and not)\b|,\s+(?:as|so|not)\b|\s+\((?=[^()]*[A-Za-z=+*/×])[^()]*\)$"
)
_OTHER = re.compile(
    r"^[\s(\[,;]*(?:or|and(?! not\b)|but|possibly|maybe)\b(?=.*\d)|^[\s,;]*[A-Za-z]\w?\s*=", re.IGNORECASE
)
"""A second answer behind the first one: (or 19 if rounded), , y = 4."""
_EQUALS = re.compile(r"=|≈|\\approx|\\implies|→|\\rightarrow")
_LEAD = re.compile(r"^(?P<words>[A-Za-z][A-Za-z',\s]*?)(?:\s+|(?=[$€£¥₹]))(?=[+-]?\s*[$€£¥₹]?\s*-?\s*(?:\.?\d|\\frac))")
_NO_LEAD = re.compile(
    r"\b(?:not|never|no|least|most|than|over|under|above|below|half|third|quarter|twice|double|triple|square|root|cube|cubed|squared|"
    r"between|from|either|neither|or|minus|plus|until|except|up to|know|maybe|perhaps|possibly|if|unless|say|option|choice|step|"
    r"january|february|march|april|may|june|july|august|september|october|november|december|\w+day|\w+n't)\b",
    re.IGNORECASE,
)


def number_in(statement: str) -> Number | None:
    """Returns the one number that a statement gives, None where it gives none or several."""
    text = _without_reasons(_unwrapped(re.sub(r"<<[^<>]*>>", "", statement)))
    if text is None:
        return None
    twice = re.fullmatch(r"([A-Za-z][a-z -]+) \(([$\d][^()]*)\)(.*)", text)
    if twice:  # eighteen (18)
        words, found = spelled(twice[1]), read_number(twice[2] + twice[3])
        return found if words and found and words.value == found.value else None
    text, other = _cut(text)
    found = read_number(text) or _led(text)
    return found if other is None or (found and other.same(found)) else None


def _without_reasons(statement: str) -> str | None:
    """What a statement gives behind its last = sign; None where it gives more than one thing, or a bound."""
    if len(statement) > LONGEST or re.search(r"[<>≤≥]|\\[lg]eq?\b", statement):
        return None
    if _EQUALS.search(statement):
        reason = _REASON.search(statement)
        if reason and re.search(r"\d", statement[: reason.start()]) and not _dangling(statement[: reason.start()]):
            statement = statement[: reason.start()]
        if re.search(r"(?:=|≈).*(?:[,;]\s|\b(?:or|and)\b).*(?:=|≈)", statement):  # x = 5 or x = -5
            return None
    text = tidy(statement)
    if text.lstrip("- ").startswith("$") and text.count("$") == 1 and not _EQUALS.search(statement):
        return text
    return _EQUALS.split(text)[-1].strip(" $")


_NONE = Number(Fraction(0), unit="none")
"""Equal to no number."""


def _cut(text: str) -> tuple[str, Number | None]:
    """A text up to what is said about its number, and the second number if that gives one: 18%, or 0.18."""
    cut = _CUT.search(text, 1)
    if cut is None or not re.search(r"\d", text[: cut.start()]) or _dangling(text[: cut.start()]):
        return text, None
    head, rest = text[: cut.start()], text[cut.start() :]
    beside = re.match(r"\s*[(\[]([-$\d.,]+)[)\]]", rest)
    if beside:  # 18 (18), but not 2 (3)
        return head, read_number(beside[1]) or _NONE
    if not _OTHER.match(rest):
        return head, None
    again = re.fullmatch(r"[\s(,]*or (?:simply |just )?([^()]*)\)?", rest)
    return head, (read_number(again[1]) if again else None) or _NONE


def _led(text: str) -> Number | None:
    """A number behind words such as "a total of", a sum worked out, a number in words."""
    lead = _LEAD.match(text)
    if lead is None or _NO_LEAD.search(lead["words"]):
        return _worked_out(text) or spelled(text)
    rest = text[lead.end() :]
    negative = re.search(r"\bnegative$", lead["words"], re.IGNORECASE)
    found = read_number(f"-{rest}" if negative else rest)
    return found if found is not None else _worked_out(rest)


def _unwrapped(text: str) -> str:
    """A text without quotes or brackets around the whole of it."""
    inside = re.fullmatch(r"""\s*(?:"(.*)"|'(.*)'|`(.*)`|\[(.*)\]|\((.*)\)|\{(.*)\}|_*(.*?)_+)\.?\s*""", text)
    found = next((group for group in inside.groups() if group is not None), "") if inside else ""
    return found if re.fullmatch(r"[-+$€£\s]*[\d.,]+\s*[%\w]*", found) and not re.search(r",\d{3}", found) else text


def _dangling(text: str) -> bool:
    return bool(re.search(r"[+*/×·÷^=-]\s*$", text))


def _worked_out(text: str) -> Number | None:
    sum_ = re.sub(r"(?<=[\d)])\s+[A-Za-z][A-Za-z ]*$", "", text)
    value = evaluate(sum_)
    return None if value is None or read_number(f"1{text[len(sum_) :]}") is None else Number(value)
