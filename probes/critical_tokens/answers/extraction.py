r"""Reads the answer out of a response: the last one stated. A response without a statement has no answer.

Places: \boxed{…}, "the answer is" and its like (would be, equals, "Answer:", "Final Answer:"), "####" before a number. A later
statement takes the place of an earlier one. Passed over: a statement that is asked ("Is the answer 18?"), denied or doubted
("I cannot say that the answer is 18"). Whoever takes the last one back ("Wait, that is wrong") has given no answer, and what
follows a problem that the model goes on to write itself is not read.

The number of a statement stands behind its last = sign, before its reasons, after words such as "a total of". What gives two
numbers gives none: 18 (or 19 if rounded), x = 5 or x = -5, 18 eggs and 3 hens.
"""

import re

from probes.critical_tokens.answers.boxes import Statement, boxes, words_behind
from probes.critical_tokens.answers.numbers import read_number
from probes.critical_tokens.answers.prose import number_in

_MARKER = re.compile(
    r"\banswer\b(?:\s+(?:to|for|of)\s+[^.\n:=?]{1,60}?|,[^,.\n:=?]{1,40},)?[\s*_]*"
    r"(?:\b(?:is|was|equals|would be|will be|should be|must be|comes to|comes out to be|becomes)\b|[:=：＝])|####(?! *(?:final )?answer)"
    r"|^[ \t]*(?:#+|\*\*)[ \t*]*(?:final )?answer[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"[-*•] +(?=\S)")
_LED = re.compile(
    r"(?:the )?(?:point|ordered pair|pair|interval|set|vector|matrix|fraction|value|number|expression|function|equation)s? "
    r"(?=\$|\\\()",
    re.IGNORECASE,
)
_INSTEAD = re.compile(r"not (?:\$[^$\n]{1,40}\$|[^.,;:\s]{1,20}(?: [a-z]+)?),? but(?: rather| instead)? (?=[-$\d])")
_NEXT_PROBLEM = re.compile(
    r"\n[\s#*]*(?:(?:Question|Problem|Q|Example|Exercise)\s*\d*[\s*]*:|(?:Human|User)[\s*]*:|(?:Question|Problem"
    r"|Example|Exercise)\s+\d+[\s*.:]*(?:\n|$))"
)
_DOUBT = re.compile(
    r"\b(?:not|never|cannot|whether|wrong|incorrect|unsure|doubt|unlikely|might|may|could|perhaps|maybe|possibly|unless|suppose|"
    r"assume|imagine|claims?|claimed|says|said|thinks|thought|\w+n't|if|no)\b",
    re.IGNORECASE,
)
_BEGIN = r"(?:^|[.!?…)\n]|\.\.)[\s*_\"'$)}\]]*(?:(?:oh|but|hmm+|uh|ah|no|well|okay|ok|and|so)\b[,.… ]*)*"
_TAKEN_BACK = re.compile(
    rf"{_BEGIN}(?:wait\b(?=\s*[,.…!?—–:-]|\s+(?:no|that|this|i|let|a|actually|it)\b|\s*$)|actually\b|correction\b"
    rf"|sorry\b|apologies|i apologi[sz]e|i mean\b|hmm+\b|"
    r"oh,? no\b|no\b\s*[,.!:—–-]|nope\b|not quite\b|oops\b|whoops\b|scratch\b|strike\b|make that\b|or rather\b|on"
    r" (?:second thought|reflection|closer)|"
    r"hold on\b|rather,|i (?:was wrong|misread|miscounted|forgot|miscalculated|should have|take (?:that|it) back)|my"
    r" (?:mistake|bad|error)\b)"
    r"|\b(?:hold on|oops|scratch that|strike that|on second thought|correction:|made (?:a|an) (?:\w+ )?(?:mistake"
    r"|error)|let me (?:re|try again|correct|fix)"
    r"|(?:that|this|it|which|answer|result) (?:is|was|seems|looks|must be|isn't|can't be|cannot be|wasn't|can not be"
    r"|could not be|couldn't be) "
    r"(?:(?:clearly|obviously|also|actually|definitely) )?(?:wrong|incorrect|not|a mistake|an error|impossible|absurd"
    r"|false|a contradiction|mistaken)"
    r"|that's (?:wrong|incorrect|not|impossible|a mistake)|(?:is|was) (?:wrong|incorrect)|(?:doesn't|does not|didn't"
    r"|don't) (?:make (?:any )?sense|work|add up|"
    r"check out|seem right|look right|satisfy)|(?:can't|cannot|can not|couldn't|isn't) (?:be )?(?:right|correct|possible)\b"
    r"|(?:that|this|which|it) contradicts|should (?:actually|instead|have been)|no,)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,;:]\s|\b(?:so|therefore|thus|hence|then|and|but|because|since)\b", re.IGNORECASE)
_MATHS = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_JOINED = re.compile(r"\s*(?:,|;|,?\s*(?:and|or)\b)\s*")
_SENTENCE_END = re.compile(r"\n|[.?](?=[\s*_\"')”’]|$)|[。！।॥۔።။។։]|!(?!\s+[a-z])(?=[\s*_\"')”’]|$)|!(?=!)")
_IS_THE_ANSWER = re.compile(
    r"(?:^|[.!?\n,;]\s*|\b(?i:so|thus|therefore|hence)\b,?\s+)(?P<text>[$*]*-?[^\s,;:!?]{1,40}(?: [a-z]+)?) is (?:the"
    r"|my|our) (?:final |correct )?"
    r"answer\b(?=\s*(?:[.!]|\n|$|to\b|for\b|here\b))",
    re.MULTILINE,
)


def statements(response: str, *, gold: bool = False) -> list[Statement]:
    """Returns the answers that a response states, in order; an unclosed box, which was cut off, is the empty text."""
    found = [*boxes(response, gold=gold), *_marked(response), *_named_last(response)]
    return sorted(found, key=lambda one: one.end)


def own_part(response: str) -> str:
    """Returns a response up to where it goes on to a problem of its own."""
    for header in _NEXT_PROBLEM.finditer(response):
        if statements(response[: header.start()]):
            return response[: header.start()]
    return response


def taken_back(response: str, statement: Statement) -> bool:
    """Whether what follows a statement takes it back."""
    return bool(_TAKEN_BACK.search(response[statement.end :].lstrip("$)]}*_\"' ")))


def _marked(response: str) -> list[Statement]:
    found = []
    for marker in _MARKER.finditer(response):
        rest = response[marker.end() :]
        skipped = len(rest) - len(rest.lstrip(" \t\r\n:：*_"))
        begin = marker.end() + skipped
        bullet = _BULLET.match(response, begin) if "\n" in rest[:skipped] else _LED.match(response, begin)
        begin = bullet.end() if bullet else begin
        instead = _INSTEAD.match(response, begin)
        begin = instead.end() if instead else begin
        if marker[0] == "####":
            line = rest.split("\n", 1)[0].strip()
            if read_number(line) is not None or ("=" in line and number_in(line) is not None):
                found.append(Statement(line, marker.end() + len(line), boxed=False))
            continue
        text, after, maths = _stated(response, begin)
        if re.search(r"(?<!\*)\*$", response[:begin]):  # *18* eggs
            text = re.sub(r"^([^\s*]+)\*(?=\s|$)", r"\1", text)
        asked = response[after : after + 1] == "?"
        if text.strip() and not asked and not _doubted(response, marker.start()) and "\\boxed" not in text:
            found.append(Statement(text.strip(), after, boxed=False, maths=maths))
    return found


def _stated(response: str, begin: int) -> tuple[str, int, bool]:
    """What is stated from a place on, where it ends, and whether it is mathematics: with the words that belong to it, or a sentence."""
    maths = _MATHS.match(response, begin)
    priced = (
        maths is not None
        and re.search(r"[=+*x×-]\s*\$$", maths[0])
        and response[maths.end() : maths.end() + 1].isdigit()
    )
    if maths is None or priced or re.search(r"[a-z]{2,} ", re.sub(r"\\[a-zA-Z]+|\\text\{[^}]*\}", "", maths[0])):
        ending = _SENTENCE_END.search(response, begin)
        after = ending.start() if ending else len(response)
        return response[begin:after], after, False
    texts, after = [], begin
    while maths:
        texts.append(next(group for group in maths.groups() if group is not None))
        after = maths.end()
        joined = _JOINED.match(response, after)
        maths = _MATHS.match(response, joined.end()) if joined else None
    text = ", ".join(texts)
    return text + words_behind(response[after:], text), after, True


def _named_last(response: str) -> list[Statement]:
    """Answers that are named as such behind them: 18 is the final answer."""
    return [
        Statement(found["text"], found.end(), boxed=False)
        for found in _IS_THE_ANSWER.finditer(response)
        if re.search(r"\d", found["text"]) and not _doubted(response, found.start("text"))
    ]


def _doubted(response: str, at: int) -> bool:
    sentence = re.split(r"\n|[.!?]\s", response[:at])[-1]
    return bool(_DOUBT.search(_CLAUSE.split(sentence)[-1]))


# ---------------------------------------------------------------------- the answer of a response

_BECAUSE = re.compile(r",?\s+(?:because|since|which)\b", re.IGNORECASE)


def extract_number(response: str, *, gold: bool = False) -> str | None:
    """Returns the number that a response states last, in a form that read_number reads.

    Digits that are not one number (18 or 19, 5,6, 10:30) come back as they stand and equal no gold. None for no statement, for one
    without a number, and, but for golds, for one that is taken back.
    """
    response = own_part(response)
    for statement in reversed(statements(response, gold=gold)):
        if statement.boxed and not statement.text:  # cut off within its box
            return None
        number = number_in(statement.text)
        if number is None and not re.search(r"\d", statement.text):
            continue
        if not gold and taken_back(response, statement):
            return None
        return statement.text if number is None else str(number)
    return None


def extract_math(response: str, *, gold: bool = False) -> str | None:
    r"""Returns the answer that a response states last, as LaTeX: in \boxed{…}, or in a sentence such as "the answer is $…$".

    A sentence behind a box counts if what it states begins as mathematics does. None for no statement, for a box that was cut off,
    and, but for golds, for an answer that is taken back.
    """
    response = own_part(response)
    found = statements(response, gold=gold)
    boxed = [statement for statement in found if statement.boxed]
    stated = [s for s in found if not s.boxed and (not boxed or (s.end > boxed[-1].end and _mathematical(s)))]
    last = stated[-1] if stated else boxed[-1] if boxed else None
    if last is None or (not gold and taken_back(response, last)):
        return None
    if last.maths:
        return _after_a_step(last.text, response[: last.end]) or None
    text = _BECAUSE.split(last.text)[0] or last.text
    text = re.sub(r"^(?:option|choice) (?=\(?[A-Z]\)?$)", "", text.strip("* "), flags=re.IGNORECASE)
    number = number_in(text) if re.search(r"\d", text) and " " in text and "\\" not in text else None
    number = None if re.search(r"\d-\d+/\d", text) else number  # a difference here, a mixed number in prose of GSM8K
    return text if number is None else str(number)


def _after_a_step(text: str, before: str) -> str:
    """The right side of n + 1 = 5 where n = 4 stands before it, any other text as it is."""
    step = re.fullmatch(r"([a-z])\s*[-+]\s*\d+\s*=\s*(-?\d+)", text)
    known = step and re.search(rf"(?<![A-Za-z\\]){step[1]}\s*=\s*(?:\\boxed\{{)?-?\d", before)
    return step[2] if step and known else text


def _mathematical(statement: Statement) -> bool:
    return (
        re.match(r"[-+$\\\d({\[]|[A-Za-z]\s*[-+*/^=_(]", statement.text) is not None
        or re.fullmatch(r"[A-Z]", statement.text) is not None
    )
