r"""The parts of LaTeX answers: members of lists, sets, tuples and unions, intervals and relations, names of values."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from probes.critical_tokens.answers.latex import divided

RELATION = re.compile(r"\\leq|\\geq|<|>|(?<![\\<>!])=")


THOUSANDS = re.compile(
    r"-?\d{1,3}(?:,0\d{2}|,\d{3}(?=.*,0\d{2}))(?:,\d{3})*(?:\.\d+)?|-?\\?\$-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,3}(?:,\d{3})+\.\d+"
    r"|-?\d{1,2}(?:,\d{3}){2,}|-?\d{1,3}(?:,\d{3}){3,}"
)
"""Golds that are one number: 1,100 may be a list, what has a currency sign, a decimal part, a group from 0 or many groups is none."""


class Parts(NamedTuple):
    """A list, set, tuple or interval taken apart: its brackets and its members."""

    left: str
    right: str
    members: tuple[str, ...]


def name_first(text: str) -> str:
    """Returns 5=x as x=5, any other text as it is."""
    found = re.fullmatch(r"([^=]+)=([a-zA-Z])", text)
    if found is None or RELATION.search(found[1]) or re.search(r"[a-zA-Z]", re.sub(r"\\[a-z]+", "", found[1])):
        return text
    return f"{found[2]}={found[1]}"


def joined_bounds(text: str) -> str:
    """Returns x>-1 and x<1 as the one interval that both leave, any other text as it is."""
    both = divided(text, r"(?<![a-zA-Z\\])and(?![a-zA-Z])")
    bounds = [interval(part) for part in both]
    if len(both) != 2 or None in bounds or variable(both[0]) != variable(both[1]):
        return text
    lower = next((one for one in bounds if one and one.members[1] == "\\infty"), None)
    upper = next((one for one in bounds if one and one.members[0] == "-\\infty"), None)
    return f"{lower.left}{lower.members[0]},{upper.members[1]}{upper.right}" if lower and upper else text


def expanded(text: str) -> str:
    """Returns the list of the two values that ± stands for, in each member of a list; any other text as it is."""
    members = divided(text, ",")
    if len(members) > 1 and any("\\pm" in member for member in members) and not text.startswith(("(", "[", "\\{")):
        return ",".join(expanded(member) for member in members)
    if text.count("\\pm") != 1 or "," in text:
        return text
    before, after = text.split("\\pm")
    left, _, right = before.rpartition("=")
    return (
        f"{left}{_}{right}+{after.strip()},{left}{_}{right}-{after.strip()}"
        if right
        else f"{left}{_}{after},{left}{_}-{after}"
    )


def taken_apart(text: str) -> Parts | None:
    """Returns a union, set, tuple, interval or list taken apart; None for anything else."""
    union = divided(text, r"\\cup(?![a-zA-Z])")
    if len(union) > 1:
        return Parts("∪", "∪", tuple(union))
    either = divided(text, r"(?<![a-zA-Z\\])or(?![a-zA-Z])")
    if len(either) > 1 and all(interval(part) for part in either) and len({variable(part) for part in either}) == 1:
        return Parts("∪", "∪", tuple(either))
    without = _left_out(text)
    if without is not None:
        return without
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


_ALL_BUT = r"(?:\(-\\infty,\\infty\)|\\text\{all real numbers\})(?:\\(?:setminus|backslash) ?|-)\\\{"
_LEFT_OUT = re.compile(rf"(?:(?:[a-zA-Z]|\\theta)\\neq ?|{_ALL_BUT})([^,<>=]+?)(?:\\\}})?")


def _left_out(text: str) -> Parts | None:
    r"""The union that leaves out one number: x ≠ 3, or \mathbb{R} \setminus \{3\}."""
    found = _LEFT_OUT.fullmatch(text)
    if found is None or re.search("[a-zA-Z]", re.sub(r"\\[a-z]+", "", found[1])):
        return None
    return Parts("∪", "∪", (f"(-\\infty,{found[1]})", f"({found[1]},\\infty)"))


def interval(text: str) -> Parts | None:
    """Returns the interval that a relation such as 1 < x ≤ 5 or x ≥ 2 describes; None for anything else."""
    signs = RELATION.findall(text)
    sides = [side.strip() for side in RELATION.split(text)]
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


def variable(relation: str) -> str | None:
    """Returns the name that a relation such as 1 < x ≤ 5 bounds; None where there is none."""
    sides = [side.strip() for side in RELATION.split(relation)]
    return next((side for side in sides if re.fullmatch(r"[a-zA-Z]|\\theta", side)), None)


def absolute(text: str) -> Parts | None:
    """Returns the interval that |x| < 2 describes."""
    found = re.fullmatch(r"\|[a-zA-Z]\|(<|\\leq ?)([^<>=]+)", text)
    if found is None:
        return None
    left, right = ("(", ")") if found[1] == "<" else ("[", "]")
    return Parts(left, right, (f"-({found[2]})", found[2]))


# ---------------------------------------------------------------------- names


ASSIGNED = re.compile(
    r"([A-Za-z](?:\^\{-1\})?|\(x,y(?:,z)?\)|\(a,b(?:,c)?\)|\(m,n\)|\(p,q\)|\\(?!text|frac|sqrt)[a-z]+|\\angle ?[A-Z]+|\|?[A-Z]{2}\|?)"
    r"(_\{\w+\})?(\([a-z](?:,[a-z])*\)|\(-?\d+\))?=([^=]+)"
)


def unnamed(members: Sequence[str]) -> Sequence[str]:
    """Returns members such as x=1, x=2 without their name, where it is the same for all."""
    found = [ASSIGNED.fullmatch(member) for member in members]
    names = {one and one[0][: one.start(4)] for one in found}
    first = found[0]
    if len(names) != 1 or None in names:
        if first and all(one is None for one in found[1:]):  # x=1,2
            return [first[4], *members[1:]]
        return members
    return [one[4] for one in found if one]


_OR = r"(?<![a-zA-Z\\])or(?![a-zA-Z])"


def joined_apart(a: str, b: str) -> bool:
    """Returns whether one of two lists of relations, or of values by name, says "and" where the other says "or"."""
    lists = [divided(text, rf",|;|{_OR}|(?<![a-zA-Z\\])and(?![a-zA-Z])") for text in (a, b)]
    names = [
        {name_of(member) or variable(member) for member in members if RELATION.search(member)} for members in lists
    ]
    bounds = any(re.search(r"\\[lg]eq|[<>]", member) for members in lists for member in members)
    told_apart = bounds or any(len(one) > 1 for one in names)
    return told_apart and (len(divided(a, _OR)) > 1) != (len(divided(b, _OR)) > 1)


def without_indices(members: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    """Returns members such as x_1=1, x_2=-2 without their names, where the others have none; else as they are."""
    found = [re.fullmatch(r"([A-Za-z])_\{(\d)\}=([^=]+)", member) for member in members]
    indices = [one[2] for one in found if one]
    if None in found or any("=" in other for other in others) or len({one[1] for one in found if one}) != 1:
        return members
    return [one[3] for one in found if one] if indices == [str(at) for at in range(1, len(members) + 1)] else members


def name_of(member: str) -> str | None:
    """Returns the name that a member such as x=1 or f(x)=2x gives a value; None where it gives none."""
    found = ASSIGNED.fullmatch(member)
    return member[: found.start(4)] if found else None
