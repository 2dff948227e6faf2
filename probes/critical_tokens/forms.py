"""Answers that need a reading of their own: values by name, times of day, choices from a list.

Each function returns whether two texts are the same, None where neither is of its kind. `same` compares what they are made of.
"""

import re
from collections.abc import Callable

from probes.critical_tokens.spelling import divided, plain

Same = Callable[[str, str], bool]
CHOICE = re.compile(r"^\(?([A-Z])\)?$")


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


def same_named(a: str, b: str, same: Same) -> bool | None:
    """Returns whether values by name are the same; a tuple stands for them in the order of the alphabet. None where no names are given."""
    first, second = _named(a), _named(b)
    if first is not None and second is not None:
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    named, other = (first, b) if first is not None else (second, a)
    if named is None or "=" in other or not (other.startswith("(") and other.endswith(")")):
        return None
    members = divided(other[1:-1], ",")
    values = [named[name] for name in sorted(named)]
    return len(members) == len(values) and all(same(x, y) for x, y in zip(values, members, strict=True))


_TIME = re.compile(r"(\d{1,2}):(\d{2}) ?([ap])\.?m\.?", re.IGNORECASE)


def same_time(a: str, b: str, same: Same) -> bool | None:
    """Returns whether two times of day are the same, of which one may leave out a.m. or p.m.; None where neither names it."""
    a, b = (re.sub(r"\\text\{([^{}]*)\}", r" \1", text).replace("  ", " ").strip() for text in (a, b))
    first, second = _TIME.fullmatch(a), _TIME.fullmatch(b)
    if first is None and second is None:
        return None
    if first and second:
        return (int(first[1]), first[2], first[3].lower()) == (int(second[1]), second[2], second[3].lower())
    time, other = (first, b) if first else (second, a)
    return time is not None and re.fullmatch(rf"0?{int(time[1])}:{time[2]}", other) is not None


_CHOSEN = re.compile(r"\(([A-J])\)(?P<rest>(?![-+*/^=<>,;(]|\\(?!text|frac|sqrt|\$)).+)")


def same_choice(a: str, b: str, same: Same) -> bool | None:
    """Returns whether two choices are the same, of which one or both go on with what stands there: (C) 5. None where neither does."""
    first, second = _CHOSEN.fullmatch(a), _CHOSEN.fullmatch(b)
    for one in (first, second):
        if one and re.search(r"\b(?:and|or|not)\b|\([A-J]\)|(?<![A-Za-z])[B-HJ](?![A-Za-z])", one["rest"]):
            return None
    if first and second:
        return first[1] == second[1] and same(plain(first["rest"]), plain(second["rest"]))
    chosen, other = (first, b) if first else (second, a)
    if chosen is None:
        return None
    letter = CHOICE.match(other)
    return letter[1] == chosen[1] if letter else same(plain(chosen["rest"]), other)
