"""Bounds of settings, written as types: `shots: Count = 6` refuses 0 and names the flag. Imports nothing heavy."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from numbers import Real
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen

from interp.errors import ArgumentError, did_you_mean

Count = Annotated[int, Ge(1)]
"""1 or more."""
CountOrNone = Annotated[int, Ge(0)]
"""0 or more: 0 is none."""
Fraction = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1, both ends allowed."""
Share = Annotated[float, Gt(0), Le(1)]
"""Above 0, and 1 is all."""
OpenShare = Annotated[float, Gt(0), Lt(1)]
"""Above 0 and below 1."""
Positive = Annotated[float, Gt(0)]
"""Above 0."""
SOME = MinLen(1)
"""Of a tuple that must not be empty: Annotated[tuple[int, ...], SOME]."""


@dataclasses.dataclass(frozen=True)
class Hint:
    """The reason for a bound, or what to type instead; it ends the error message."""

    text: str


_HOLDS = {
    Ge: lambda value, bound: value >= bound.ge,
    Gt: lambda value, bound: value > bound.gt,
    Le: lambda value, bound: value <= bound.le,
    Lt: lambda value, bound: value < bound.lt,
}


def check_bounds(settings: Any) -> None:
    """Raises ArgumentError, in one sentence with the flag, for the first value outside the bounds of its field's type."""
    for field in dataclasses.fields(settings):
        check_value(field.name, getattr(settings, field.name), types_of(type(settings))[field.name])


@cache
def types_of(kind: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields, bounds included."""
    return get_type_hints(kind, include_extras=True)


def takes_several(kind: Any) -> bool:
    """Whether a field's type is a tuple of any number of values, or may be one."""
    if get_origin(kind) is tuple:
        return Ellipsis in get_args(kind)
    return any(takes_several(option) for option in get_args(kind))


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raises ArgumentError for a value, or an element of it, that is outside the bounds of a field's type or none of its choices.

    A text is no tuple of its letters. Any other value of another type is left to the conversion of settings, which says what is wanted.
    """
    if get_origin(kind) is Annotated:
        _check_one(name, value, get_args(kind)[0], kind.__metadata__)
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple and isinstance(value, str):
        raise ArgumentError(f"{flag_of(name)} takes several values: give ({value!r},).")
    if get_origin(kind) is tuple and isinstance(value, Sequence):
        for one in value:
            check_value(name, one, get_args(kind)[0])
    elif get_origin(kind) is Literal:
        if isinstance(value, str) and value not in get_args(kind):
            choices = [str(choice) for choice in get_args(kind)]
            raise ArgumentError(
                f"{flag_of(name)} is one of {', '.join(choices)}, not {value}.{did_you_mean(value, choices)}"
            )
    elif value is not None:
        for option in get_args(kind):
            check_value(name, value, option)


def flag_of(name: str) -> str:
    """Returns the flag of a setting, by its name or by the flag in another spelling."""
    return f"--{name.removeprefix('--').replace('_', '-')}"


def broken(value: Any, kind: Any) -> str:
    """Returns the bounds of a field's type that a number is outside of, in words; nothing where it is inside, or no number."""
    limits = [bound for bound in getattr(kind, "__metadata__", ()) if type(bound) in _HOLDS]
    fits = not isinstance(value, Real) or all(_HOLDS[type(bound)](value, bound) for bound in limits)
    return "" if fits else in_words(limits)


def _check_one(name: str, value: Any, kind: Any, bounds: tuple[Any, ...]) -> None:
    flag = flag_of(name)
    reason = "".join(f": {bound.text}" for bound in bounds if isinstance(bound, Hint))
    if SOME in bounds and not value:
        element = get_args(kind)[0]
        wanted = f"of {', '.join(get_args(element))}" if get_origin(element) is Literal else "value"
        raise ArgumentError(f"{flag} needs at least one {wanted}{reason}.")
    wanted = broken(value, Annotated[kind, *bounds])
    if wanted:
        raise ArgumentError(f"{flag} must be {wanted}, not {value}{reason}.")


def in_words(bounds: Sequence[Any]) -> str:
    """Returns bounds in words: "above 0 and at most 1"."""
    words = {Ge: "at least {ge:g}", Gt: "above {gt:g}", Le: "at most {le:g}", Lt: "below {lt:g}"}
    return " and ".join(words[type(bound)].format(**dataclasses.asdict(bound)) for bound in bounds)
