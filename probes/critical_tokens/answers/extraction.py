r"""Reads the answer out of a response: the last one stated. A response without a statement has no answer.

Places: \boxed{…}, "the answer is" and its like (would be, equals, "Answer:", "Final Answer:"), "####" before a number. A later
statement takes the place of an earlier one. Passed over: a statement that is asked ("Is the answer 18?"), denied or doubted
("I cannot say that the answer is 18"). Whoever takes the last one back ("Wait, that is wrong") has given no answer, and what
follows a problem that the model goes on to write itself is not read.

The number of a statement stands behind its last = sign, before its reasons, after words such as "a total of". What gives two
numbers gives none: 18 (or 19 if rounded), x = 5 or x = -5, 18 eggs and 3 hens.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from probes.critical_tokens.answers.algebra import evaluate
from probes.critical_tokens.answers.numbers import LONGEST, Number, read_number, spelled, tidy

_MARKER = re.compile(
    r"\banswer\b(?:\s+(?:to|for|of)\s+[^.\n:=?]{1,60}?|,[^,.\n:=?]{1,40},)?[\s*_]*"
    r"(?:\b(?:is|was|equals|would be|will be|should be|must be|comes to|comes out to be|becomes)\b|[:=])|####(?! *(?:final )?answer)"
    r"|^[ \t]*(?:#+|\*\*)[ \t*]*(?:final )?answer[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"[-*•] +(?=\S)")
_LED = re.compile(
    r"(?:the )?(?:point|ordered pair|pair|interval|set|vector|matrix|fraction|value|number|expression|function|equation)s? "
    r"(?=\$|\\\()",
    re.IGNORECASE,
)
_DENIED_BOX = re.compile(
    r"\b(?:not|instead of|rather than|\w+n't(?: be)?|cannot be)\s*(?:\$|\\[(\[])*\s*$", re.IGNORECASE
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
_SENTENCE_END = re.compile(r"\n|[.!?](?=[\s*_\"')]|$)|!(?=!)")


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
        bullet = _BULLET.match(response, begin) if "\n" in rest[:skipped] else _LED.match(response, begin)
        begin = bullet.end() if bullet else begin
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
        if _DENIED_BOX.search(response, max(0, box.start() - 30), box.start()):
            continue
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


# ---------------------------------------------------------------------- the number of a statement


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


# ---------------------------------------------------------------------- the answer of a response

_BECAUSE = re.compile(r",?\s+(?:because|since|which)\b", re.IGNORECASE)


def extract_number(response: str) -> str | None:
    """Returns the number that a response states last, in a form that read_number reads.

    Digits that are not one number (18 or 19, 5,6, 10:30) come back as they stand and equal no gold. None for no statement, for one
    without a number, and for one that is taken back.
    """
    response = own_part(response)
    for statement in reversed(statements(response)):
        if statement.boxed and not statement.text:  # cut off within its box
            return None
        number = number_in(statement.text)
        if number is None and not re.search(r"\d", statement.text):
            continue
        return None if taken_back(response, statement) else statement.text if number is None else str(number)
    return None


def extract_math(response: str) -> str | None:
    r"""Returns the answer that a response states last, as LaTeX: in \boxed{…}, or in a sentence such as "the answer is $…$".

    A sentence behind a box counts if what it states begins as mathematics does. None for no statement, for a box that was cut off,
    and for an answer that is taken back.
    """
    response = own_part(response)
    found = statements(response)
    boxes = [statement for statement in found if statement.boxed]
    stated = [s for s in found if not s.boxed and (not boxes or (s.end > boxes[-1].end and _mathematical(s)))]
    last = stated[-1] if stated else boxes[-1] if boxes else None
    if last is None or taken_back(response, last):
        return None
    if last.boxed:
        return last.text or None
    text = _BECAUSE.split(last.text)[0] or last.text
    text = re.sub(r"^(?:option|choice) (?=\(?[A-Z]\)?$)", "", text.strip("* "), flags=re.IGNORECASE)
    number = number_in(text) if re.search(r"\d", text) and " " in text and "\\" not in text else None
    return text if number is None else str(number)


def _mathematical(statement: Statement) -> bool:
    return (
        re.match(r"[-+$\\\d({\[]|[A-Za-z]\s*[-+*/^=_(]", statement.text) is not None
        or re.fullmatch(r"[A-Z]", statement.text) is not None
    )
