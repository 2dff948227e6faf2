r"""Where the answer stands in a response: the last one stated.

Places: \boxed{…}, "the answer is" and its like (would be, equals, "Answer:", "Final Answer:"), "####" before a number. A later
statement takes the place of an earlier one. Passed over: a statement that is asked ("Is the answer 18?"), denied or doubted
("I cannot say that the answer is 18"). Whoever takes the last one back ("Wait, that is wrong") has given no answer, and what
follows a problem that the model goes on to write itself is not read.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from probes.critical_tokens.numbers import LONGEST, Number, evaluate, read_number, tidy

_MARKER = re.compile(
    r"\banswer\b(?:\s+(?:to|for|of)\s+[^.\n:=?]{1,60}?|,[^,.\n:=?]{1,40},)?[\s*_]*"
    r"(?:\b(?:is|was|equals|would be|will be|should be|must be|comes to|comes out to be|becomes)\b|[:=])|####",
    re.IGNORECASE,
)
_NEXT_PROBLEM = re.compile(r"\n\s*(?:\*\*)?(?:Question|Problem|Q)\s*\d*\s*:")
_DOUBT = re.compile(
    r"\b(?:not|never|cannot|whether|wrong|incorrect|unsure|doubt|unlikely|might|may|could|perhaps|maybe|possibly|unless|suppose|"
    r"assume|imagine|claims?|claimed|says|said|thinks|thought|\w+n't|if|no)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|hold on|oops|scratch that|on second thought|that (?:is|was|isn't|can't be) (?:wrong|incorrect|not|right|a mistake)"
    r"|that's (?:wrong|incorrect|not)|(?:is|was) (?:wrong|incorrect)|made a mistake|let me re|let me try again|no,)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,;:]\s|\b(?:so|therefore|thus|hence|then|and|but|because|since)\b", re.IGNORECASE)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_JOINED = re.compile(r"\s*(?:,|;|,?\s*(?:and|or)\b)\s*")
_SENTENCE_END = re.compile(r"\n|[.!?](?=[\s*_\"')]|$)")


class Statement(NamedTuple):
    """A stated answer: its text, where it ends, and whether it stood in a box."""

    text: str
    end: int
    boxed: bool


def statements(response: str) -> list[Statement]:
    """Returns the answers that a response states, in order; an unclosed box, which was cut off, is the empty text."""
    found = [*_boxes(response), *_marked(response)]
    return sorted(found, key=lambda one: one.end)


def own_part(response: str) -> str:
    """Returns a response up to where it goes on to a problem of its own."""
    for header in _NEXT_PROBLEM.finditer(response):
        if statements(response[: header.start()]):
            return response[: header.start()]
    return response


def taken_back(response: str, statement: Statement) -> bool:
    """Whether what follows a statement takes it back."""
    return bool(_TAKEN_BACK.search(response, statement.end))


def _marked(response: str) -> list[Statement]:
    found = []
    for marker in _MARKER.finditer(response):
        rest = response[marker.end() :]
        skipped = len(rest) - len(rest.lstrip(" \t\r\n:*_"))
        begin = marker.end() + skipped
        if marker[0] == "####":
            line = rest.split("\n", 1)[0].strip()
            if read_number(line) is not None:
                found.append(Statement(line, marker.end() + len(line), boxed=False))
            continue
        maths = _MATHS.match(response, begin)
        if maths and not re.search(r"[a-z]{2,} ", re.sub(r"\\[a-zA-Z]+|\\text\{[^}]*\}", "", maths[0])):
            texts, after = [], begin
            while maths:
                texts.append(next(group for group in maths.groups() if group is not None))
                after = maths.end()
                joined = _JOINED.match(response, after)
                maths = _MATHS.match(response, joined.end()) if joined else None
            text = ", ".join(texts)
        else:
            ending = _SENTENCE_END.search(response, begin)
            after = ending.start() if ending else len(response)
            text = response[begin:after]
        asked = response[after : after + 1] == "?"
        if text.strip() and not asked and not _doubted(response, marker.start()) and "\\boxed" not in text:
            found.append(Statement(text.strip(), after, boxed=False))
    return found


def _doubted(response: str, at: int) -> bool:
    sentence = re.split(r"\n|[.!?]\s", response[:at])[-1]
    return bool(_DOUBT.search(_CLAUSE.split(sentence)[-1]))


def _boxes(response: str) -> list[Statement]:
    found: list[Statement] = []
    for box in re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*(\{?)", response):
        if box[1]:
            end = _closing(response, box.end())
            inside = "" if end is None else response[box.end() : end].strip()
            end = len(response) if end is None else end + 1
        else:
            token = re.match(
                r"\\frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\[a-zA-Z]+|[^\s$.,]", response[box.end() :]
            )
            inside, end = (token[0], box.end() + token.end()) if token else ("", box.end())
        between = response[found[-1].end : box.start()] if found else "…"
        if found and inside and re.fullmatch(r"[\s$\\()\[\].]*(?:,|;|and|or|,\s*and|,\s*or)[\s$\\()\[\].]*", between):
            inside = f"{found.pop().text}, {inside}"
        found.append(Statement(inside, end, boxed=True))
    return found


def _closing(text: str, first: int) -> int | None:
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[first:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth < 0:
            return first + brace.start()
    return None


# ---------------------------------------------------------------------- a number in a sentence

_CUT = re.compile(
    r"\s*(?:;(?!\s*[-$.]?\d)|[(\[]|,\s+(?=[A-Za-z])|\b(?:because|since|as|so|which|where|when|after|given|who)\b)",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"=|≈|\\approx|\\implies|→|\\rightarrow")
_LEAD = re.compile(r"^(?P<words>[A-Za-z][A-Za-z',\s]*?)(?:\s+|(?=[$€£¥₹]))(?=[+-]?\s*[$€£¥₹]?\s*-?\s*(?:\.?\d|\\frac))")
_NO_LEAD = re.compile(
    r"\b(?:not|never|no|least|most|than|over|under|above|below|half|third|quarter|twice|double|triple|square|root|cube|cubed|squared|"
    r"between|from|either|neither|or|minus|plus|until|except|up to|know|maybe|perhaps|possibly|if|unless|say|option|choice|step|\w+n't)\b",
    re.IGNORECASE,
)
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SPELLED = {word: number for number, word in enumerate(_ONES.split())} | {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}


def number_in(statement: str) -> Number | None:
    """Returns the one number that a statement gives: behind its last = sign, before its reasons, after words such as "a total of"."""
    statement = _unwrapped(re.sub(r"<<[^<>]*>>", "", statement))
    if len(statement) > LONGEST or re.search(r"[<>≤≥]|\\[lg]eq?\b", statement):
        return None
    text = _EQUALS.split(tidy(statement))[-1].strip(" $")
    if (
        tidy(statement).lstrip("- ").startswith("$")
        and tidy(statement).count("$") == 1
        and not _EQUALS.search(statement)
    ):
        text = tidy(statement)
    cut = _CUT.search(text, 1)
    if cut and re.search(r"\d", text[: cut.start()]) and not _dangling(text[: cut.start()]):
        text = text[: cut.start()]
    found = read_number(text)
    if found is not None:
        return found
    lead = _LEAD.match(text)
    if lead and not _NO_LEAD.search(lead["words"]):
        rest = text[lead.end() :]
        negative = re.search(r"\bnegative$", lead["words"], re.IGNORECASE)
        found = read_number(f"-{rest}" if negative else rest)
        return found if found is not None else _worked_out(rest)
    return _worked_out(text) or _spelled(text)


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


def _spelled(text: str) -> Number | None:
    """A number in words from zero to ninety-nine, at most with a noun behind it."""
    words = re.fullmatch(r"([a-z]+)(?:[- ]([a-z]+))?(?: ([a-z]{2,}))?\.?", text.lower().strip())
    if words is None or words[1] not in _SPELLED:
        return None
    value, noun = _SPELLED[words[1]], words[2] if words[3] is None else words[3]
    if words[2] in _SPELLED:
        if value < 20 or not 0 < _SPELLED[words[2]] < 10:
            return None
        value, noun = value + _SPELLED[words[2]], words[3]
    elif words[3] is not None:
        return None
    if noun is not None and read_number(f"{value} {noun}") is None:
        return None
    return Number(Fraction(value)) if noun is None else read_number(f"{value} {noun}")
