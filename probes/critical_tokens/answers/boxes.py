r"""The answers in the boxes of a response: what touches a box belongs to it, and boxes that are joined are one list.

`$-\boxed{5}$` is -5, `$\boxed{5}\pi$` is 5\pi, `\boxed{5} million` is 5 million, `$\boxed{3}$ or $\boxed{4}$` is 3, 4. What stands
before = , and after it, is how the answer was found. A box that was cut off is the empty text.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from probes.critical_tokens.answers.latex import divided
from probes.critical_tokens.answers.units import UNIT_OF

_OR = r" \text{ or } "


class Statement(NamedTuple):
    """A stated answer: its text, where it ends, whether it stood in a box, whether it is mathematics rather than prose."""

    text: str
    end: int
    boxed: bool
    maths: bool = False


class Box(NamedTuple):
    """A box: where it and the mathematics around it begin and end, and what it holds."""

    start: int
    end: int
    inside: str
    outer_start: int
    outer_end: int
    maths: bool


_DENIED = re.compile(
    r"\b(?:not|instead of|rather than|\w+n't(?: be)?|cannot be|if \w+ (?:is|were|was|equals|=))\s*(?:\$|\\[(\[])*\s*$",
    re.IGNORECASE,
)
_ENVIRONMENT = r"\{(?:align|aligned|gather|gathered|split|eqnarray|equation|multline)\*?\}"
_EDGE = re.compile(rf"(?<!\\)\$\$?|(?<!\\)\\[(\[)\]]|\\begin{_ENVIRONMENT}|\\end{_ENVIRONMENT}")
_PROSE = re.compile(r"[a-z]{3,},? [a-z]{2,}|\n\s*\n|[.?!]\s+[A-Z]")
_SPACE = r"(?:\s|\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\\(?:displaystyle|Large|large|bf|left|right)(?![a-zA-Z])\.?|\\color\{\w+\})"
_LEADS_TO = (
    r"(?<![<>!\\])=|\\(?:approx|implies|iff|Rightarrow|Longrightarrow|Leftrightarrow|"
    r"rightarrow|to|therefore|colon)(?![a-zA-Z])|≈|⇒|→|∴"
)
_ENDS = r"\\(?:tag|qed|blacksquare|square|checkmark|Box)(?![a-zA-Z])|\\end(?![a-zA-Z])|\\\\|&"
_NAME = r"(?:[A-Za-z](?:_\{?\w+\}?|')?(?:\([a-z]\))?|\\[a-z]{2,7}(?:_\{?\w+\}?)?)"
_JOINED = re.compile(
    rf"[\s*_]*[.,;]?[\s*_]*(?P<word>(?:(?:and|or|also|else|either|both|as well as|along with|together with)\b[\s,]*|&\s*)*)[\s*_,]*"
    rf"(?:[-•]\s+|\(?(?:\d|[a-e]|i{{1,3}}|iv|v)[.)]\s+|(?:case|part|root|solution)"
    rf" \(?\w\)?\s*[.:]\s*)?(?:(?P<name>{_NAME})\s*=\s*)?[\s*_]*",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"(?:\b(?:at (?:least|most)|than(?: or equal to)?|over|under|above|below|beyond|up to|within|between|exceed(?:s"
    r"|ing)?|nearly|almost|minus|"
    r"negative|twice|thrice|double|triple|half(?: of)?|(?:multiples?|factors?|divisors?|square|cube|root|reciprocal|opposite|successor|"
    r"predecessor|inverse|logarithm|third|quarter|fifth|tenth|hundredth|percent|percentage|sum|product|digits|remainder|one) of|"
    r"divisible by|times|dividing|until|divided by|multiplied by|mod(?:ulo)?|base|to the(?: power(?: of)?)?|shy of|far"
    r" from|anything but|except|"
    r"capped at|in excess of|neither|maybe|perhaps|possibly|(?:might|may|could) be|wrong|incorrect|plus|hundred and|thousand and|point)\b)"
    r"[\s$*_(:]*$",
    re.IGNORECASE,
)
"""Words before a box that make it another number, or none."""
_GO_ON = re.compile(
    r"(?:,?\s*(?:hundreds?|thousands?|millions?|billions?|trillions?|dozens?|score|gross|lakhs?|crores?|tens|percent\b"
    r"|degrees?\b|or (?:so|more|less|"
    r"fewer|higher|lower|above|below|greater|over|under|larger|bigger)\b|and (?:up|above|over|more|below|under|a"
    r" half)\b|at (?:the )?(?:very )?(?:least|most|minimum|"
    r"maximum)\b|plus\b|minus\b|times\b(?! as)|squared|cubed|factorial|modul\w+|mod\b|\(mod|\(?\\p?mod|choose\b"
    r"|(?:more|less|fewer|greater|higher|"
    r"lower) than|over (?:\d|\w+$)|divided by|multiplied by|raised to|short of|below zero|points?\b|base\b|in (?:base|binary)|tops\b|"
    r"\((?:or|at|plus|minus)\b|\w+(?:ths|rds)\b(?<!months))|\s*(?:to|or|-) ?\$?\d+)(?: [a-z]+){0,3}",
    re.IGNORECASE,
)
"""Words behind a box that go on with its number."""
_RATE = (
    r"(?:\^\{?[23]\}?|[²³]|/[a-z]+(?:\^?[23²³])?| (?:per|an?|each) [a-z]+)?"
    r"(?:,? and \d+ [a-z]+| \d+ [a-z]+| (?:above|below|east|west|north|south|ago)\b| (?:Celsius|Fahrenheit))?"
)
_UNIT = re.compile(rf"\s*((?:square |cubic |sq\.? )?([A-Za-z.]*[A-Za-z])(?![A-Za-z]))({_RATE})")
_GLUED = re.compile(
    r"(?:\s?[-+*/×·^]\s?(?=[\w\\(])[\w\\(){}.^]+|[_!^°%]|\\%|\.\d+|,\d{3}(?!\d)|,\\!\d{3}|\{,\}\d{3}|:\d+|\d+"
    r"|\\(?![()\[\]\\]|text|f?boxed|framebox|begin|end|q?quad)[a-z]+|\\,|[{}]"
    r"|\+(?![\w\\(])|(?<![a-z])[a-zA-Z](?![a-z])|(?<=[\^_])\S|\\text\{[^{}]*\})+",
)


def boxes(response: str, *, gold: bool = False) -> list[Statement]:
    """Returns the answers in boxes, in order, boxes that are joined as one list; words around those of a gold are not looked at."""
    found: list[Statement] = []
    names: list[str | None] = []
    groups = _by_maths(_found(response))
    for group in groups:
        parts = _of_group(response, group, gold)
        for text, name, joined in parts:
            between = response[found[-1].end : group[0].outer_start] if found else None
            word = joined if joined is not None else _joining(between)
            whole, called = text, name
            if found and text and found[-1].text and word is not None:
                whole = _listed(found.pop().text, names.pop(), text, name, word)
                called = None if "=" in whole else name
            found.append(Statement(whole, group[-1].outer_end, boxed=True, maths=True))
            names.append(called)
    return found


def _listed(first: str, name: str | None, second: str, other: str | None, word: str) -> str:
    """Two answers as a list: with their names where these differ."""
    if re.sub(r"\s", "", first) == re.sub(r"\s", "", second) and name == other:
        return first
    if name and other and name != other:
        return f"{name}={first}{_OR if 'or' in word else ', '}{other}={second}"
    last = re.findall(rf"({_NAME})=", first)
    if other and last and other != last[-1]:
        return f"{first}{_OR if 'or' in word else ', '}{other}={second}"
    return f"{first}, {second}"


def _joining(between: str | None) -> str | None:
    """The words that join two answers, None where they are not joined."""
    found = None if between is None or len(between) > 60 else _JOINED.fullmatch(_even(between))
    return found["word"].lower() if found else None


def _even(text: str) -> str:
    r"""A text between boxes without dollar signs, macros for space and \text{}."""
    text = re.sub(r"\\(?:text\w*|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\(?:lor|vee)(?![a-zA-Z])", " or ", re.sub(r"\\(?:land|wedge)(?![a-zA-Z])", " and ", text))
    return re.sub(rf"{_SPACE}|\\\\|(?<!\\)[$]|\\[()\[\]]|[{{}}]", " ", text)


def _found(response: str) -> list[Box]:
    found: list[Box] = []
    for box in re.finditer(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*(\{?)", response):
        if (found and box.start() < found[-1].end) or _DENIED.search(response, max(0, box.start() - 30), box.start()):
            continue
        if box[1]:
            end = closing(response, box.end())
            inside = "" if end is None else response[box.end() : end].strip()
            end = len(response) if end is None else end + 1
        else:
            token = re.match(
                r"\\frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\[a-zA-Z]+|[^\s$.,]", response[box.end() :]
            )
            inside, end = (token[0], box.end() + token.end()) if token else ("", box.end())
        around = _maths_around(response, box.start(), end)
        found.append(Box(box.start(), end, _unboxed(inside), *(around or (box.start(), end)), around is not None))
    return found


def _unboxed(text: str) -> str:
    inside = re.fullmatch(r"\\boxed\s*\{(.*)\}", text, re.DOTALL)
    return _unboxed(inside[1].strip()) if inside else text


def closing(text: str, first: int) -> int | None:
    """Returns where the brace that was opened before `first` is closed."""
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[first:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth < 0:
            return first + brace.start()
    return None


def _maths_around(response: str, start: int, end: int) -> tuple[int, int] | None:
    """Where the mathematics around a box begins and ends, delimiters included; None for a box in prose."""
    before = list(_EDGE.finditer(response, max(0, start - 600), start))
    after = _EDGE.search(response, end)
    if not before or before[-1][0] in ("\\)", "\\]") or before[-1][0].startswith("\\end"):
        return None
    opening = before[-1]
    if opening[0].startswith("$"):
        touches = (
            after is not None
            and not response[opening.end() : start].strip()
            and not response[end : after.start()].strip()
        )
        if len([edge for edge in before if edge[0].startswith("$")]) % 2 == 0 and not touches:
            return None
    if after is None or after.start() > end + 600:
        return None
    bare = re.sub(
        r"\\(?:text\w*|mathrm|mbox)\s*\{[^{}]*\}|\\[a-zA-Z]+",
        "",
        response[opening.end() : start] + "," + response[end : after.start()],
    )
    return None if _PROSE.search(bare) else (opening.start(), after.end())


def _by_maths(found: Sequence[Box]) -> list[list[Box]]:
    groups: list[list[Box]] = []
    for box in found:
        if groups and box.maths and groups[-1][-1].outer_start == box.outer_start:
            groups[-1].append(box)
        else:
            groups.append([box])
    return groups


def _of_group(response: str, group: Sequence[Box], gold: bool) -> list[tuple[str, str | None, str | None]]:
    """The answers of the boxes in one piece of mathematics: their text, their names, and what joins each to the one before."""
    if not all(box.inside for box in group):
        return [("", None, None)]
    first, last = group[0], group[-1]
    before, after = response[: first.outer_start], response[last.outer_end :]
    if first.maths:
        pre, post = (
            re.sub(_EDGE, "", text)
            for text in (response[first.outer_start : first.start], response[last.end : last.outer_end])
        )
    else:
        pre, post = _left(response[: first.start]), _right(response[last.end :])
        before, after = before[: len(before) - len(pre)], after[len(post) :]
    middles = [_JOINED.fullmatch(_even(response[a.end : b.start])[:80]) for a, b in pairwise(group)]
    named = re.search(rf"(?:^|[\s,(])({_NAME})\s*=\s*$", _even(pre) if first.maths else response[: first.start])
    if None in middles:
        whole = "".join(response[a.end : b.start] + b.inside for a, b in pairwise(group))
        return [(_whole(pre, first.inside + whole, post, gold), None, None)]
    texts = [box.inside for box in group]
    texts[0] = _whole(pre, texts[0], post if len(group) == 1 else "", gold)
    texts[-1] = _whole("", texts[-1], post, gold) if len(group) > 1 else texts[-1]
    if not gold:
        texts[0] = words_before(before) + texts[0]
        texts[-1] += words_behind(after, texts[-1])
    names = [named[1] if named else None, *(middle and middle["name"] for middle in middles)]
    joined = [None, *(middle and middle["word"].lower() for middle in middles)]
    return list(zip(texts, names, joined, strict=True))


def _left(before: str) -> str:
    """What touches a box in prose from the left: a sign, a factor, an open bracket of a function."""
    line = before[-60:].rsplit("\n", 1)[-1]
    glued = re.search(
        r"(?:\\[a-z]+\s*\{?|[-+^_{/]|[\w)}]\(|[\d.,](?=[\d.,]|$))+$|(?<![A-Za-z])[\w)}.]+\s*[-+*/×·^]\s*$", line
    )
    if glued is None or (glued[0] == "-" and not line[: glued.start()].strip("* ") and before.endswith("- ")):
        return ""
    return glued[0]


def _right(after: str) -> str:
    """What touches a box in prose from the right: digits, powers, factors, sums."""
    glued = _GLUED.match(after)
    text = glued[0] if glued else ""
    dash = re.match(r"\s?/\s?[a-zA-Z]{3}|\s[-*]\s?[a-zA-Z]{3}|\*+\s", text) or re.fullmatch(r"\s?[-*]+\s?", text)
    return "" if dash else text


def _whole(pre: str, inside: str, post: str, gold: bool) -> str:
    """A box with what touches it in its mathematics, between = and =."""
    opened = re.search(r"\\begin\{(?:.?matrix|array|cases)\}(?!.*\\end)", pre, re.DOTALL)
    residue = bool(re.search(r"\\equiv", pre)) and gold
    if not opened:
        pre = divided(re.split(r"\\\\|&", pre)[-1], _LEADS_TO + "|:" + (r"|\\equiv(?![a-zA-Z])" if gold else ""))[-1]
        post = divided(post, f"{_LEADS_TO}|{_ENDS}")[0]
    post = re.sub(r"\\(?:left|right)(?![a-zA-Z])", "", re.sub(rf"^{_SPACE}+|[.,;:\s]*{_SPACE}*$", "", post))
    post = post.rstrip(" .,;:")
    pre = re.sub(rf"^{_SPACE}+|{_SPACE}+$", "", pre)
    if (
        re.fullmatch(r"(?:\\text\w*\{[^{}]*\}|\s)*", pre)
        and not _BOUND.search(_even(pre))
        and not re.search(r"\([A-J]\)", pre)
    ):
        pre = ""
    if residue and re.match(r"\\p?mod|\(?\\text\{ ?\(?mod|\(mod", post):
        post = ""
    if re.search(r"[\d.]$", pre) and re.match(r"[\d.]", inside):
        return rf"{pre}\boxed{{{inside}}}{post}"
    factor = (pre and re.search(r"[^,({]$", pre)) or (
        re.match(r"[\w^(\\!/]", post) and not re.match(r"\\(?:text|%|,|circ)", post)
    )
    loose = len(divided(inside, r"(?<=[\w})])\s*[-+]")) > 1 or "," in inside
    return f"{pre}({inside}){post}" if factor and loose else f"{pre} {inside}{post}" if pre else f"{inside}{post}"


def words_before(before: str) -> str:
    """Returns the words before an answer that make it another one: at least, negative, twice."""
    found = _BOUND.search(before[-60:])
    return rf"\text{{{found[0].strip(' $*_(:')} }}" if found else ""


def words_behind(after: str, text: str) -> str:
    """Returns the words behind an answer that belong to its number: million, or more, cm, hours and 20 minutes."""
    after = re.sub(r"^[$*_\"'”’]+", "", after)
    found = _GO_ON.match(after)
    if found:
        return rf"\text{{ {found[0].strip()}}}"
    unit = _UNIT.match(after)
    given = re.search(r"\\text|[A-Za-z]{2,}|\\?[$%°]|\\circ", text)
    if unit is None or given or unit[2].lower().rstrip(".") not in UNIT_OF:
        return ""
    return "" if unit[2].lower() in ("in", "us", "am", "left") else rf"\text{{ {unit[0].strip()}}}"
