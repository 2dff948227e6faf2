"""One reader of numbers for golds and responses alike, exact: signs, currency, percent, thousands, fractions, powers of ten, units;
and numbers in words: below a million, plain fractions, "two and a half", a dozen.

A text is a number only as a whole. What would need a guess is none: `18 or 19`, `5,6`, `10:30`, `5x`, `18/0`, `at least 18`.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from probes.critical_tokens.answers.places import MONEY_BEFORE, decimal_point
from probes.critical_tokens.answers.signs import even_signs
from probes.critical_tokens.answers.units import UNIT_OF, behind, units_agree

LONGEST = 300
"""Characters of the longest text that is looked at."""
_SPACES = re.compile(
    r"(?<!\\)\\[,;:! ]|\\q?quad(?![a-zA-Z])|~(?!\s*\d)|(?<!\d)(?<!\d\s)~|[\u00a0\u2000-\u200d\u202f\u2060\u3000\ufeff]"
)
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_RAISED = re.compile("(?<=[\\d)])[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|textrm|operatorname)\s*\{([^{}]*)\}")
_ASCII = dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-") | {
    "\uffe5": "¥", "\uffe1": "£", "\u066a": "%", "\u3002": ".", "\u066b": ".",
}  # fmt: skip
"""Signs of other scripts that are written as ASCII here."""
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_PART = rf"(?:\{{\s*-?\s*{_DIGITS}\s*\}}|\d)"
_BODY = re.compile(
    rf"(?P<whole>{_DIGITS})?\s*(?:\\frac\s*(?P<top>{_PART})\s*(?P<bottom>{_PART}))"
    rf"|(?P<mixed>\d+)(?: (?P<part>\d+)\s*/\s*(?P<of>\d+)|-(?P<joined>\d+)/(?P<by>\d+))"
    rf"|(?P<number>{_DIGITS})(?:\s*/\s*(?P<over>-?{_DIGITS})"
    r"|[eE](?P<e>[+-]?\d{1,3})(?![\w.])"
    r"|\s*(?:\\times|\\cdot|×|·|\*|x)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*)?(?P<power>[+-]?\d{1,3})\}?)?"
)
_COMPOUND = {
    ("dollar", "cent"): 100, ("euro", "cent"): 100, ("hour", "minute"): 60, ("minute", "second"): 60, ("foot", "inch"): 12,
    ("pound", "ounce"): 16, ("m", "cm"): 100, ("kg", "g"): 1000, ("year", "month"): 12, ("week", "day"): 7, ("day", "hour"): 24,
}  # fmt: skip
"""How many of a smaller unit make a larger one, where the two are named together: 12 dollars and 50 cents."""


@dataclass(frozen=True)
class Number:
    """An exact number as it was written: its value without the percent sign, whether there was one, and its unit if known."""

    value: Fraction
    percent: bool = False
    unit: str = ""
    smaller: str = ""
    """The second unit that it was given in: the minutes of 1 hour 30 minutes."""

    def __str__(self) -> str:
        """The number in a form that read_number reads back."""
        if self.smaller:
            part = (self.value % 1) * _COMPOUND[self.unit, self.smaller]
            return f"{int(self.value)} {self.unit} {part} {self.smaller}"
        return f"{self.value}{'%' if self.percent else ''}{f' {self.unit}' if self.unit else ''}"

    def same(self, other: "Number") -> bool:
        """Whether two numbers are the same: a percent sign may be left out or worked out, units that both are given must agree."""
        for one, another in ((self, other), (other, self)):
            if one.smaller and not another.smaller:
                fine = Number(one.value * _COMPOUND[one.unit, one.smaller], unit=one.smaller)
                return fine.same(another) or Number(one.value, unit=one.unit).same(another)
        if not units_agree(self.unit, other.unit):
            return False
        if (self.percent and other.unit) or (other.percent and self.unit):
            return False
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        with_sign, bare = (self, other) if self.percent else (other, self)
        return with_sign.value == 100 * bare.value


def tidy(text: str, *, lists: bool = False) -> str:
    r"""Returns a text with its marks evened out: minus signs, spaces, bold, \text{}, 9{,}500 and 9,\!500.

    With `lists`, the comma of 1 234,5 parts two numbers and is not taken for a decimal one.
    """
    text = "".join(_ASCII.get(sign, sign) for sign in even_signs(text))
    text = re.sub(r"(?<=\d)\u066c(?=\d)", ",", text)
    text = _VULGAR.sub(_vulgar, _RAISED.sub(_raised, text))
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", "", text)
    text = _TEXT.sub(r" \1 ", _SPACES.sub(" ", text)).strip()
    text = text if lists else decimal_point(text)
    text = re.sub(
        r"(?<![\d.,/^ ])(?<![\d/^] )([1-9]\d{0,2})((?: \d{3})+)(?![\d/]| ?\d)", lambda m: m[0].replace(" ", ""), text
    )
    text = re.sub(r"\\(?:left|right|displaystyle)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = text.replace(r"\%", "%").replace(r"\$", "$").replace("^{\\circ}", "°").replace("^\\circ", "°")
    return re.sub(r"\s+", " ", without_bold(text).replace("`", "")).strip()


def without_bold(text: str) -> str:
    """Returns a text without the marks of bold print: in pairs, or at its ends; between digits ** is a power."""
    text = re.sub(r"(?<![\w)*])(\*{2,3})(?=[^\s*])([^*]+)(?<=\S)\1(?![\w(*])", r"\2", text)
    return re.sub(r"^\s*\*{2,3}|(?<=[^\s*])\*{2,3}(?=\s|[.,;]|$)", "", text)


def _raised(power: re.Match[str]) -> str:
    return f"^{{{unicodedata.normalize('NFKC', power[0]).replace(chr(0x2212), '-')}}}"


def _vulgar(fraction: re.Match[str]) -> str:
    """A fraction of one character as 1/2, behind a digit with a space before it."""
    spelled = unicodedata.normalize("NFKC", fraction[0]).replace(chr(0x2044), "/")
    return (" " if fraction.string[fraction.start() - 1 : fraction.start()].isdigit() else "") + spelled


def read_number(text: str, *, thousands: bool = True) -> Number | None:  # noqa: PLR0911
    """Returns the number that a text is, None where it is none; without `thousands` 1,234 is a list, not a number."""
    if len(text) > LONGEST:
        return None
    text = tidy(text, lists=not thousands)
    while text.startswith("$") and text.endswith("$") and len(text) > 2:
        text = text[1:-1].strip()
    text = re.sub(r"^\\[(\[](.*)\\[)\]]$", r"\1", text).strip()
    if re.search(r"\.\d+\.{2,}$", text):  # 0.333... goes on
        return None
    text = text.rstrip(".,;।॥۔።။។։").strip()
    head = re.match(rf"(?P<sign>[+-]?)\s*(?P<currency>{MONEY_BEFORE})?\s*(?P<inner>[+-]?)\s*", text)
    assert head is not None
    if head["sign"] and head["inner"]:
        return None
    body = _BODY.match(text, head.end())
    if body is None or (not thousands and "," in body[0]):
        return None
    compound = _compound(text)
    if compound is not None:
        return compound
    value = _value(body)
    if value is None:
        return None
    tail = behind(text[body.end() :], head["currency"] or "", one=abs(value) <= 1)
    if tail is None:
        return None
    scale, percent, unit = tail
    return Number(value * scale * (-1 if "-" in (head["sign"], head["inner"]) else 1), percent, unit)


def _compound(text: str) -> Number | None:
    """A quantity in two units, in the larger: 12 dollars and 50 cents, 1 hour 30 minutes."""
    text = re.sub(r"^\$(\d+)(?: dollars?)?(?= )", r"\1 dollars", text)
    found = re.fullmatch(r"(\d{1,9}) ([a-z]+)(?:,? and|,)? (\d{1,3}) ([a-z]+)", text, re.IGNORECASE)
    if found is None:
        return None
    larger, smaller = UNIT_OF.get(found[2].lower()), UNIT_OF.get(found[4].lower())
    parts = _COMPOUND.get((larger or "", smaller or ""))
    if parts is None or larger is None or int(found[3]) >= parts:
        return None
    return Number(int(found[1]) + Fraction(int(found[3]), parts), unit=larger, smaller=smaller or "")


def _value(body: re.Match[str]) -> Fraction | None:
    def number(part: str) -> Fraction:
        return Fraction(re.sub(r"[{}\s,]", "", part).rstrip("."))

    try:
        if body["top"]:
            fraction = number(body["top"]) / number(body["bottom"])
            if body["whole"] is None:
                return fraction
            return number(body["whole"]) + fraction if fraction > 0 and "." not in body["whole"] else None
        if body["mixed"]:
            part = Fraction(int(body["part"] or body["joined"]), int(body["of"] or body["by"]))
            return int(body["mixed"]) + part if part < 1 else None
        value = number(body["number"])
        if body["over"]:
            return value / number(body["over"])
        return value * Fraction(10) ** int(body["e"] or body["power"] or 0)
    except (ZeroDivisionError, ValueError):
        return None


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
    if "dozen" in words:
        return _dozens(words[: words.index("dozen")], words[words.index("dozen") + 1 :])
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


def _dozens(count: Sequence[str], behind: Sequence[str]) -> Number | None:
    """A dozen, half a dozen, two dozen eggs."""
    one = {("a",): Fraction(1), ("half", "a"): Fraction(1, 2)}.get(tuple(count))
    told = spelled(" ".join(count)) if one is None and count else None
    many = one if one is not None else told.value if told and not told.unit else None
    return None if many is None else read_number(" ".join([str(12 * many), *behind]))


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


# ---------------------------------------------------------------------- two numbers that go together

_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))? ?([ap])\.?m\.?", re.IGNORECASE)


def same_time(a: str, b: str) -> bool | None:
    """Returns whether two times of day are the same, of which one may leave out a.m. or p.m.; None where neither names it."""
    a, b = (re.sub(r"\\text\{([^{}]*)\}", r" \1", text).replace("  ", " ").strip() for text in (a, b))
    first, second = _TIME.fullmatch(a), _TIME.fullmatch(b)
    if first is None and second is None:
        return None
    if first and second:
        return (int(first[1]), first[2] or "00", first[3].lower()) == (
            int(second[1]),
            second[2] or "00",
            second[3].lower(),
        )
    time, other = (first, b) if first else (second, a)
    hours, part = (int(time[1]), time[3].lower()) if time else (0, "")
    if re.fullmatch(
        rf"{hours % 12 + 12 * (part == 'p'):02}:{(time and time[2]) or '00'}", other.rjust(5, "0")
    ):  # 15:00
        return True
    return (
        time is not None
        and re.fullmatch(rf"0?{int(time[1])}:{time[2] or '00'}" if time[2] else rf"{int(time[1])}(?::00)?", other)
        is not None
    )


_RATIO = re.compile(r"\d+(?:\.\d+)?(?: ?(?::|\\text\{ ?to ?\}) ?\d+(?:\.\d+)?)+")


def same_ratio(a: str, b: str) -> bool | None:
    """Returns whether two ratios are the same, 3:4 and 6:8; None unless both are ratios and neither is a time."""
    if not all(_RATIO.fullmatch(text) and not re.fullmatch(r"\d{1,2}:\d{2}", text) for text in (a, b)):
        return None
    (first, *rest), (other, *others) = ([Fraction(term) for term in re.findall(r"[\d.]+", text)] for text in (a, b))
    return len(rest) == len(others) and all(x * other == y * first for x, y in zip(rest, others, strict=True))
