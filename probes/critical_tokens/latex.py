r"""Whether two answers in LaTeX are the same: spellings evened out, lists, intervals and relations taken apart, the rest by algebra.

Strict where a guess would be needed. Lists and sets go without order, tuples, intervals and matrices with it; (1, 2) is not [1, 2];
1,100 in a gold is a list of two, in a response to the gold 1100 a number; 101_2 is not 5; words are compared as words.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from probes.critical_tokens.algebra import proportional, same_expression
from probes.critical_tokens.forms import CHOICE, same_choice, same_named, same_time
from probes.critical_tokens.numbers import UNIT_OF, Number, read_number, tidy
from probes.critical_tokens.spelling import divided, encloses, plain

_RELATION = re.compile(r"\\leq|\\geq|<|>|(?<![\\<>!])=")


class Parts(NamedTuple):
    """A list, set, tuple or interval taken apart: its brackets and its members."""

    left: str
    right: str
    members: tuple[str, ...]


def same_latex(answer: str, gold: str) -> bool:
    """Whether an answer and the gold one are the same."""
    if not answer.strip() or not gold.strip():
        return False
    a, b = plain(answer), plain(gold)
    if not a or not b:
        return False
    if re.sub(r"\s", "", a) == re.sub(r"\s", "", b) and not _apart(a, b):
        return True
    thousands = re.fullmatch(r"-?\d{1,3}(?:,0\d{2}|,\d{3}(?=.*,0\d{2}))(?:,\d{3})*(?:\.\d+)?", b) is not None
    number = _number(b, thousands=thousands)
    if number is not None:
        other = _number(a, thousands=True)
        if other is not None:
            return other.same(number)
    if len(a) > 1000 or len(b) > 1000:
        return False
    return _same(a, b)


def _apart(a: str, b: str) -> bool:
    """Whether two texts that differ in spaces alone hold other numbers: 1 2 is not 12."""
    return re.findall(r"\d+", a) != re.findall(r"\d+", b)


def _number(text: str, *, thousands: bool) -> Number | None:
    r"""The number that a text is; letters that follow one without \text{} are units only if known and set apart, else factors."""
    bare = re.search(r"(?:[\d})]|\b)\s*([A-Za-z][A-Za-z.]*)", re.sub(r"\\[a-zA-Z]+\s*(?:\{[^{}]*\})?", " ", text))
    if bare and (len(bare[1]) < 2 or (bare[1].lower() not in UNIT_OF and not re.search(r"\s[A-Za-z]{3,}", text))):
        return None
    return read_number(re.sub(r"\\text\{([^{}]*)\}", r" \1", text), thousands=thousands)


def _same(a: str, b: str) -> bool:
    """Whether two evened-out texts are the same, whatever they are."""
    x, y = _number(a, thousands=False), _number(b, thousands=False)
    if x is not None and y is not None:
        return x.same(y)
    told = _same_special(a, b)
    if told is not None:
        return told
    a, b = (_expanded(_bounded_twice(_turned(text))) for text in (a, b))
    if "\\begin" in a or "\\begin" in b:
        return _same_matrices(a, b)
    first, second = _taken_apart(a), _taken_apart(b)
    if first is not None or second is not None:
        if first is None:
            first = _interval(a)
        if second is None:
            second = _interval(b)
        return first is not None and second is not None and _same_parts(first, second)
    if _RELATION.search(a) or _RELATION.search(b):
        return _same_relations(a, b)
    return _same_leaves(a, b)


def _same_special(a: str, b: str) -> bool | None:
    """Whether texts of a kind of their own are the same, approximations included: 3/56 ≈ 0.0536. None where neither is one."""
    for one, other in ((a, b), (b, a)):
        if one.count("\\approx") == 1 and "\\approx" not in other:
            sides = [side.strip() for side in one.split("\\approx")]
            return any(_same(side, other) for side in sides if not re.fullmatch("[a-zA-Z]", side))
    for form in (same_named, same_time, same_choice):
        told = form(a, b, _same)
        if told is not None:
            return told
    return None


def _turned(text: str) -> str:
    """5=x as x=5."""
    found = re.fullmatch(r"([^=]+)=([a-zA-Z])", text)
    if found is None or _RELATION.search(found[1]) or re.search(r"[a-zA-Z]", re.sub(r"\\[a-z]+", "", found[1])):
        return text
    return f"{found[2]}={found[1]}"


def _bounded_twice(text: str) -> str:
    """x>-1 and x<1 as the one interval that both leave."""
    both = divided(text, r"(?<![a-zA-Z\\])and(?![a-zA-Z])")
    bounds = [_interval(part) for part in both]
    if len(both) != 2 or None in bounds or _variable(both[0]) != _variable(both[1]):
        return text
    lower = next((one for one in bounds if one and one.members[1] == "\\infty"), None)
    upper = next((one for one in bounds if one and one.members[0] == "-\\infty"), None)
    return f"{lower.left}{lower.members[0]},{upper.members[1]}{upper.right}" if lower and upper else text


def _expanded(text: str) -> str:
    """A list of the two values that ± stands for."""
    if text.count("\\pm") != 1 or "," in text:
        return text
    before, after = text.split("\\pm")
    left, _, right = before.rpartition("=")
    return (
        f"{left}{_}{right}+{after.strip()},{left}{_}{right}-{after.strip()}"
        if right
        else f"{left}{_}{after},{left}{_}-{after}"
    )


def _taken_apart(text: str) -> Parts | None:
    """A union, set, tuple, interval or list; None for anything else."""
    union = divided(text, r"\\cup(?![a-zA-Z])")
    if len(union) > 1:
        return Parts("∪", "∪", tuple(union))
    either = divided(text, r"(?<![a-zA-Z\\])or(?![a-zA-Z])")
    if len(either) > 1 and all(_interval(part) for part in either) and len({_variable(part) for part in either}) == 1:
        return Parts("∪", "∪", tuple(either))
    members = [part for part in divided(text, r",|;|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])") if part]
    if len(members) > 1:
        return Parts("", "", tuple(members))
    for left, right in (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left):
            inside = text[len(left) : -len(right)]
            members = divided(inside, ",")
            if left == "\\{" or (len(members) > 1 and all(members)):
                return Parts(left, right, tuple(members))
    return None


def _interval(text: str) -> Parts | None:
    """The interval that a relation such as 1 < x ≤ 5 or x ≥ 2 describes."""
    signs = _RELATION.findall(text)
    sides = [side.strip() for side in _RELATION.split(text)]
    is_variable = [re.fullmatch(r"[a-zA-Z]|\\theta", side) is not None for side in sides]
    if "=" in signs or not signs:
        return None
    if len(sides) == 2 and sum(is_variable) == 1:
        larger = (signs[0] in (">", "\\geq")) == is_variable[0]
        other = sides[is_variable.index(False)]
        if re.search(r"[a-z]", re.sub(r"\\[a-z]+", "", other)):
            return None
        closed = signs[0] in ("\\leq", "\\geq")
        return (
            Parts("[" if closed else "(", ")", (other, "\\infty"))
            if larger
            else Parts("(", "]" if closed else ")", ("-\\infty", other))
        )
    if len(sides) == 3 and is_variable == [False, True, False]:
        if set(signs) <= {">", "\\geq"}:
            sides, signs = sides[::-1], [{">": "<", "\\geq": "\\leq"}[sign] for sign in signs[::-1]]
        if set(signs) <= {"<", "\\leq"}:
            left, right = ("[" if signs[0] == "\\leq" else "("), ("]" if signs[1] == "\\leq" else ")")
            return Parts(left, right, (sides[0], sides[2]))
    return None


def _variable(relation: str) -> str | None:
    """The name that a relation such as 1 < x ≤ 5 bounds."""
    sides = [side.strip() for side in _RELATION.split(relation)]
    return next((side for side in sides if re.fullmatch(r"[a-zA-Z]|\\theta", side)), None)


def _same_parts(a: Parts, b: Parts) -> bool:
    ordered = a.left in ("(", "[")
    brackets = (a.left, a.right) == (b.left, b.right)
    free = {a.left, b.left} <= {"", "\\{"} and len(a.members) > 1  # a list of solutions and the set of them
    if len(a.members) != len(b.members) or not (brackets or free):
        return False
    if ordered:
        return all(_same(x, y) for x, y in zip(a.members, b.members, strict=True))
    first, second = _unnamed(a.members), _unnamed(b.members)
    if any("=" in one for one in first) != any("=" in one for one in second):
        return False
    left = list(second)
    for member in first:
        found = next((other for other in left if _same(member, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


_ASSIGNED = re.compile(
    r"([A-Za-z]|\(x,y(?:,z)?\)|\(a,b(?:,c)?\)|\(m,n\)|\(p,q\)|\\(?!text|frac|sqrt)[a-z]+|\\angle ?[A-Z]+|\|?[A-Z]{2}\|?)"
    r"(_\{\w+\})?(\([a-z](?:,[a-z])*\))?=([^=]+)"
)


def _unnamed(members: Sequence[str]) -> Sequence[str]:
    """Members such as x=1, x=2 without their name, where it is the same for all."""
    found = [_ASSIGNED.fullmatch(member) for member in members]
    names = {one and one[0][: one.start(4)] for one in found}
    first = found[0]
    if len(names) != 1 or None in names:
        if first and all(one is None for one in found[1:]):  # x=1,2
            return [first[4], *members[1:]]
        return members
    return [one[4] for one in found if one]


def _same_relations(a: str, b: str) -> bool:
    first, second = _ASSIGNED.fullmatch(a), _ASSIGNED.fullmatch(b)
    if first and second and a[: first.start(4)] == b[: second.start(4)]:
        return _same(first[4], second[4])
    if bool(_RELATION.search(a)) != bool(_RELATION.search(b)):
        chain = _RELATION.split(a)
        if (
            not _RELATION.search(b)
            and set(_RELATION.findall(a)) == {"="}
            and len(chain) > 2
            and not re.search(r"[A-Za-z]", chain[-1])
        ):
            return _same(chain[-1], b)
        bare = first or second
        other = b if first else a
        return bare is not None and _same(bare[4], other)
    x, y = _interval(a), _interval(b)
    if x is not None and y is not None:
        return _variable(a) == _variable(b) and _same_parts(x, y)
    signs = [_RELATION.findall(text) for text in (a, b)]
    if len(signs[0]) != 1 or len(signs[1]) != 1:
        return False
    sides = []
    for text, (sign,) in zip((a, b), signs, strict=True):
        left, right = _RELATION.split(text)
        sides.append(f"({left})-({right})" if sign in ("=", ">", "\\geq") else f"({right})-({left})")
    kinds = [{"<": ">", "\\leq": "\\geq"}.get(sign, sign) for (sign,) in signs]
    return kinds[0] == kinds[1] and proportional(*sides, positive=kinds[0] != "=")


def _same_matrices(a: str, b: str) -> bool:
    found = [re.fullmatch(r"\\begin\{(p|v|)matrix\}(.*)\\end\{\1matrix\}", text) for text in (a, b)]
    first, second = found
    if first is None or second is None or first[1] != second[1]:
        return False
    rows = [
        [row.split("&") for row in re.split(r"\\\\", re.sub(r"\\\\\s*$", "", one[2].strip()))]
        for one in (first, second)
    ]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    cells = [[cell.strip() for row in one for cell in row] for one in rows]
    return all(cell and other and _same(cell, other) for cell, other in zip(*cells, strict=True))


def _same_leaves(a: str, b: str) -> bool:
    """Two texts without structure: choices, words, expressions with their units."""
    if re.sub(r"\s", "", a) == re.sub(r"\s", "", b) and not _apart(a, b):
        return True
    first, second = CHOICE.match(a), CHOICE.match(b)
    if first and second and "(" in a + b:
        return first[1] == second[1]
    if _wordy(a) and _wordy(b):
        return _words(a) == _words(b) != ""
    if _mixed(a) == _mixed(b) != "":
        return True
    (a, unit), (b, other) = _without_unit(a), _without_unit(b)
    if (unit and other and unit != other) or "\\text" in a + b or _wordy(a) or _wordy(b):
        return False
    if a.startswith("(") and a.endswith(")") and encloses(a):
        a = a[1:-1]
    if b.startswith("(") and b.endswith(")") and encloses(b):
        b = b[1:-1]
    return same_expression(a, b)


def _wordy(text: str) -> bool:
    return re.fullmatch(r"\\text\{.*\}|[A-Za-z][A-Za-z' -]{2,}", text) is not None


def _mixed(text: str) -> str:
    r"""The words of a text that is words with whole numbers among them, such as \text{March }5; "" for others."""
    if re.fullmatch(r"(?:\\text\{[A-Za-z\d ]*\}|[A-Za-z\d ])+", text) is None:
        return ""
    words = " ".join(re.findall(r"[a-z]+|\d+", text.replace("\\text", "").lower()))
    return words if re.search(r"[a-z]{3}", words) else ""


def _words(text: str) -> str:
    return re.sub(r"[^\w]+", " ", re.sub(r"\\text|[{}]", "", text)).lower().strip()


def _without_unit(text: str) -> tuple[str, str]:
    """An expression without the unit, percent or degree sign behind it, and that unit."""
    text = text.replace("\\$", "") if text.startswith(("\\$", "-\\$")) else text
    found = re.fullmatch(r"(.*[^\s(,=]) ?\\text\{([^{}]*)\}(\^\{[23]\})?", text)
    if found and not found[1].startswith("\\text") and read_number(f"1 {found[2]}") is not None:
        word = tidy(found[2]).lower()
        return found[1].strip(), UNIT_OF.get(word, word) + (found[3] or "").strip("^{}")
    if text.endswith("°"):
        return text[:-1], "degree"
    return text, ""
