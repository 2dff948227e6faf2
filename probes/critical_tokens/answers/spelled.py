"""Numbers in words: below a million, plain fractions, "two and a half", a dozen."""

import re
from collections.abc import Sequence
from fractions import Fraction

from probes.critical_tokens.answers.numbers import Number, read_number

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SPELLED = {word: number for number, word in enumerate(_ONES.split())} | {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_TENS = set("twenty thirty forty fifty sixty seventy eighty ninety".split())
_PARTS = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10,
    "thirds": 3, "quarters": 4, "fourths": 4, "fifths": 5, "sixths": 6, "eighths": 8, "tenths": 10,
}  # fmt: skip
_MANY = {part for part in _PARTS if part.endswith("s")}


def spelled(text: str) -> Number | None:  # noqa: PLR0911
    """Returns the number that words spell: below a million, at most with a noun behind it, or a fraction such as two thirds."""
    text = re.sub("[\u2010\u2011]", "-", text.strip())
    sign = re.match(r"(?:minus|negative) (?=[a-z])", text, re.IGNORECASE)
    if sign:
        found = spelled(text[sign.end() :])
        return found and Number(-found.value, found.percent, found.unit)
    words = re.findall(r"[a-z]+", text.lower()) if re.fullmatch(r"[A-Za-z -]+\.?", text) else []
    if words in (["none"], ["nothing"]):
        return Number(Fraction(0))
    if words[:2] in (["a", "dozen"], ["one", "dozen"]):
        return read_number(" ".join(["12", *words[2:]]))
    if words and len(words) <= 2 and words[-1] in _PARTS and words[0] in {**_SPELLED, "a": 1, "half": 1}:
        top = 1 if len(words) == 1 else {**_SPELLED, "a": 1}.get(words[0], 0)
        if (len(words) == 2) == (words[0] != "half") and top and (top > 1) == (words[-1] in _MANY):
            return Number(Fraction(top, _PARTS[words[-1]]))
    value, used = _counted(words)
    if value is not None and words[used:] == ["and", "a", "half"]:
        return Number(value + Fraction(1, 2))
    if value is None or len(words) - used > 1:
        return None
    if used < len(words) and words[used] in ("s", "point"):
        return None
    return Number(Fraction(value)) if used == len(words) else read_number(f"{value} {words[used]}")


def _counted(words: Sequence[str]) -> tuple[int | None, int]:
    """The number that the first words count, and how many of them it takes."""
    if words[:1] == ["a"] and words[1:2] and words[1] in ("hundred", "thousand"):
        words = ["one", *words[1:]]
    total, part, used, last = 0, None, 0, ""
    for at, word in enumerate(words):
        if word in _SPELLED:
            value = _SPELLED[word]
            joins = last in ("hundred", "thousand", "and") or (last in _TENS and 0 < value < 10)
            if last and not joins:
                return None, 0
            part = (part or 0) + value
        elif word == "hundred" and part is not None and 0 < part < 10:
            part *= 100
        elif word == "thousand" and part is not None and total == 0 and part > 0:
            total, part = 1000 * part, 0
        elif word == "and" and last in ("hundred", "thousand") and at + 1 < len(words) and words[at + 1] in _SPELLED:
            pass
        else:
            break
        used, last = at + 1, word
    return (None, 0) if part is None else (total + part, used)
