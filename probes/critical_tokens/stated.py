r"""Where the answer stands in a response: the last one stated.

Places: \boxed{…}, "the answer is" and its like (would be, equals, "Answer:", "Final Answer:"), "####" before a number. A later
statement takes the place of an earlier one. Passed over: a statement that is asked ("Is the answer 18?"), denied or doubted
("I cannot say that the answer is 18"). Whoever takes the last one back ("Wait, that is wrong") has given no answer, and what
follows a problem that the model goes on to write itself is not read.
"""

import re
from typing import NamedTuple

from probes.critical_tokens.numbers import read_number

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
