r"""Whether two answers are the same: numbers exactly, LaTeX by its parts (lists, intervals, relations) and the rest by algebra.

Strict where a guess would be needed. Lists and sets go without order, tuples, intervals and matrices with it; (1, 2) is not [1, 2];
1,100 in a gold is a list of two, in a response to the gold 1100 a number; 101_2 is not 5; words are compared as words.
"""

import re

from probes.critical_tokens.answers.algebra import proportional, same_expression
from probes.critical_tokens.answers.latex import (
    degrees_in_parts_of_pi,
    divided,
    encloses,
    is_words,
    letters_as_product,
    plain,
    same_words,
    without_degrees,
    without_unit,
    words_and_numbers,
)
from probes.critical_tokens.answers.numbers import Number, read_number, same_ratio, same_time, spelled
from probes.critical_tokens.answers.parts import (
    ASSIGNED,
    RELATION,
    THOUSANDS,
    Parts,
    absolute,
    expanded,
    interval,
    joined_apart,
    joined_bounds,
    name_first,
    name_of,
    taken_apart,
    unnamed,
    variable,
    without_indices,
)  # fmt: skip
from probes.critical_tokens.answers.places import MONEY_BEFORE
from probes.critical_tokens.answers.units import UNIT_OF, units_agree

_CHOICE = re.compile(r"^\(?([A-Z])\)?$")


def same_number(answer: str, gold: str, *, percent: bool = False) -> bool:
    """Whether two numbers are equal, exactly; with `percent`, 100 times as much or as little is equal too."""
    a, b = read_number(answer), read_number(gold)
    if a is None or b is None:
        return False
    return a.same(b) or (percent and (a.value == 100 * b.value or 100 * a.value == b.value))


def same_latex(answer: str, gold: str) -> bool:
    """Whether an answer and the gold one are the same."""
    if not answer.strip() or not gold.strip():
        return False
    a, b = plain(answer), plain(gold)
    if not a or not b:
        return False
    if re.sub(r"\s", "", a) == re.sub(r"\s", "", b) and not _apart(a, b):
        return True
    thousands = THOUSANDS.fullmatch(b) is not None
    number = _number(b, thousands=thousands)
    if number is not None:
        other = _number(a, thousands=True)
        if other is not None:
            return other.same(number)
    if len(a) > 1000 or len(b) > 1000 or "--" in a:
        return False
    return _same(a, b)


def _apart(a: str, b: str) -> bool:
    """Whether two texts that differ in spaces alone hold other numbers: 1 2 is not 12."""
    return re.findall(r"\d+", a) != re.findall(r"\d+", b)


def _number(text: str, *, thousands: bool) -> Number | None:
    r"""The number that a text is; letters that follow one without \text{} are units only if known and set apart, else factors."""
    if re.search(r"\d\s*-\s*\d", text):  # 3-1/2 is a difference
        return None
    text = re.sub(r"° ?([CF])$", r"\\text{ degrees \1}", text)
    word = re.fullmatch(r"\\text\{([A-Za-z -]+)\}", text)
    if word and word[1].lower() not in ("none", "nothing"):
        told = spelled(word[1])
        return told if told and told.value.denominator == 1 and not told.unit else None
    bare = re.search(
        r"(?:[\d})]|\b)\s*([A-Za-z][A-Za-z.]*)(?![^\W\d_])",
        re.sub(rf"\\[a-zA-Z]+\s*(?:\{{[^{{}}]*\}})?|^[-+]?\s*{MONEY_BEFORE}", " ", text.replace("\\$", "$")),
    )
    if bare and (len(bare[1]) < 2 or (bare[1].lower() not in UNIT_OF and not re.search(r"\s[A-Za-z]{3,}", text))):
        return None
    return read_number(re.sub(r"\\text\{([^{}]*)\}", r" \1", text).strip(), thousands=thousands)


def _same(a: str, b: str) -> bool:
    """Whether two evened-out texts are the same, whatever they are."""
    x, y = _number(a, thousands=False), _number(b, thousands=False)
    if x is not None and y is not None:
        return x.same(y)
    told = _same_special(a, b)
    if told is not None:
        return told
    a, b = (expanded(joined_bounds(name_first(text))) for text in (a, b))
    if "\\begin" in a or "\\begin" in b:
        return _same_matrices(a, b)
    first, second = taken_apart(a), taken_apart(b)
    if first is not None or second is not None:
        first, second = first or interval(a) or absolute(a), second or interval(b) or absolute(b)
        return (
            first is not None
            and second is not None
            and not _of_two_names(a, b)
            and (first.left == "∪" or not joined_apart(a, b))
            and _same_parts(first, second)
        )
    if RELATION.search(a) or RELATION.search(b):
        return _same_relations(a, b)
    return _same_leaves(a, b)


def _of_two_names(a: str, b: str) -> bool:
    """Whether x is not 3 in one and y is not 3 in the other."""
    names = [re.match(r"(\w|\\theta)\\neq", text) for text in (a, b)]
    return len({name[1] for name in names if name}) > 1


def _same_special(a: str, b: str) -> bool | None:
    """Whether texts of a kind of their own are the same, approximations included: 3/56 ≈ 0.0536. None where neither is one."""
    for one, other in ((a, b), (b, a)):
        if one.count("\\approx") == 1 and "\\approx" not in other:
            sides = [side.strip() for side in one.split("\\approx")]
            return any(_same(side, other) for side in sides if not re.fullmatch("[a-zA-Z]", side))
    for form in (_same_named, same_time, same_ratio, _same_choice):
        told = form(a, b)
        if told is not None:
            return told
    return None


def _same_parts(a: Parts, b: Parts) -> bool:
    ordered = a.left in ("(", "[")
    brackets = (a.left, a.right) == (b.left, b.right)
    free = {a.left, b.left} <= {"", "\\{"} and len(a.members) > 1  # a list of solutions and the set of them
    if len(a.members) != len(b.members) or not (brackets or free):
        return False
    if ordered:
        return all(_same(x, y) for x, y in zip(a.members, b.members, strict=True))
    first = unnamed(without_indices(a.members, b.members))
    second = unnamed(without_indices(b.members, a.members))
    names = [
        name_of(one.members[0]) if part != one.members else None
        for one, part in ((a, first), (b, second))
        if one.members
    ]
    if len(names) == 2 and None not in names and names[0] != names[1]:
        return False
    if any("=" in one for one in first) != any("=" in one for one in second):
        return False
    left = list(second)
    for member in first:
        found = next((other for other in left if _same(member, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_relations(a: str, b: str) -> bool:
    first, second = ASSIGNED.fullmatch(a), ASSIGNED.fullmatch(b)
    if first and second and a[: first.start(4)] == b[: second.start(4)]:
        return _same(first[4], second[4])
    if bool(RELATION.search(a)) != bool(RELATION.search(b)):
        chain = RELATION.split(a)
        if (
            not RELATION.search(b)
            and set(RELATION.findall(a)) == {"="}
            and len(chain) > 2
            and not re.search(r"[A-Za-z]", chain[-1])
        ):
            return _same(chain[-1], b)
        bare = first or second
        other = b if first else a
        return bare is not None and _same(bare[4], other)
    x, y = interval(a), interval(b)
    if x is not None and y is not None:
        return variable(a) == variable(b) and _same_parts(x, y)
    signs = [RELATION.findall(text) for text in (a, b)]
    if len(signs[0]) != 1 or len(signs[1]) != 1:
        return False
    sides = []
    for text, (sign,) in zip((a, b), signs, strict=True):
        left, right = RELATION.split(text)
        sides.append(f"({left})-({right})" if sign in ("=", ">", "\\geq") else f"({right})-({left})")
    kinds = [{"<": ">", "\\leq": "\\geq"}.get(sign, sign) for (sign,) in signs]
    return kinds[0] == kinds[1] and proportional(*sides, positive=kinds[0] != "=")


def _same_matrices(a: str, b: str) -> bool:
    names = [name_of(text) or "" for text in (a, b)]
    if "" not in names and names[0] != names[1]:
        return False
    a, b = (text.removeprefix(name) for text, name in zip((a, b), names, strict=True))
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
    first, second = _CHOICE.match(a), _CHOICE.match(b)
    if first and second and "(" in a + b:
        return first[1] == second[1]
    told = same_words(a, b)
    if told is not None:
        return told
    if words_and_numbers(a) == words_and_numbers(b) != "":
        return True
    if ("°" in a) != ("°" in b):  # 180° - x and 180 - x
        a, b = without_degrees(a), without_degrees(b)
    (a, unit), (b, other) = without_unit(degrees_in_parts_of_pi(a)), without_unit(degrees_in_parts_of_pi(b))
    if not units_agree(unit, other) or "\\text" in a + b or is_words(a) or is_words(b):
        return False
    a, b = letters_as_product(a), letters_as_product(b)
    if a.startswith("(") and a.endswith(")") and encloses(a):
        a = a[1:-1]
    if b.startswith("(") and b.endswith(")") and encloses(b):
        b = b[1:-1]
    return same_expression(a, b)


# ---------------------------------------------------------------------- values by name, choices from a list


def _named(text: str) -> dict[str, str] | None:
    """The values that (x,y)=(3,4) or x=3,y=4 gives, by their names."""
    names = re.fullmatch(r"\(([a-z](?:,[a-z])+)\)=\((.+)\)", text)
    if names:
        keys, values = names[1].split(","), divided(names[2], ",")
        return dict(zip(keys, values, strict=True)) if len(set(keys)) == len(keys) == len(values) else None
    found = [
        re.fullmatch(r"([a-z])=([^=]+)", part) for part in divided(text, r",|(?<![a-zA-Z\\])and(?![a-zA-Z])") if part
    ]
    if len(found) < 2 or not all(found):
        return None
    pairs = [(one[1], one[2].strip()) for one in found if one]
    return dict(pairs) if len(dict(pairs)) == len(pairs) else None


def _same_named(a: str, b: str) -> bool | None:
    """Returns whether values by name are the same; a tuple stands for them in the order of the alphabet. None where no names are given."""
    first, second = _named(a), _named(b)
    if first is not None and second is not None:
        return first.keys() == second.keys() and all(_same(first[name], second[name]) for name in first)
    named, other = (first, b) if first is not None else (second, a)
    if named is None or "=" in other:
        return None
    listed = taken_apart(other)
    if listed is None or listed.left not in ("", "(") or listed.right not in ("", ")"):
        return None
    members = listed.members
    values = [named[name] for name in sorted(named)]
    return len(members) == len(values) and all(_same(x, y) for x, y in zip(values, members, strict=True))


_CHOSEN = re.compile(r"\(([A-J])\)(?P<rest>(?![-+*/^=<>,;(]|\\(?!text|frac|sqrt|\$)).+)")


def _same_choice(a: str, b: str) -> bool | None:
    """Returns whether two choices are the same, of which one or both go on with what stands there: (C) 5. None where neither does."""
    first, second = _CHOSEN.fullmatch(a), _CHOSEN.fullmatch(b)
    for one in (first, second):
        if one and re.search(r"\b(?:and|or|not)\b|\([A-J]\)|(?<![A-Za-z])[B-HJ](?![A-Za-z])", one["rest"]):
            return None
    if first and second:
        return first[1] == second[1] and _same(plain(first["rest"]), plain(second["rest"]))
    chosen, other = (first, b) if first else (second, a)
    if chosen is None:
        return None
    letter = _CHOICE.match(other)
    return letter[1] == chosen[1] if letter else _same(plain(chosen["rest"]), other)
