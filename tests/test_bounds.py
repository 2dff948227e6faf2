"""Bounds of settings as types: one sentence with the flag, from Python, from a file and from the command line."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Lt

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Fraction, Hint, OpenShare, Positive, Share
from interp.experiments.experiment import Experiment
from interp.experiments.run import configured


@dataclass(frozen=True, kw_only=True)
class Bounded(Experiment):
    """Every kind of bound."""

    name = "bounded"

    shots: Count = 1
    extra: CountOrNone | None = None
    keep: Share = 1.0
    level: OpenShare = 0.5
    strength: Positive = 1.0
    depths: tuple[Fraction, ...] = (0.5,)
    lengths: Annotated[tuple[Annotated[int, Ge(2), Hint("the first does not count")], ...], SOME] = (3,)
    modes: Annotated[tuple[Literal["raw", "exact"], ...], SOME] = ("raw",)
    window: Annotated[int, Ge(-1), Lt(9)] = 0
    kind: Literal["blue", "red"] | None = "blue"


@dataclass(frozen=True, kw_only=True)
class Careless(Bounded):
    """One that forgets to call the check of its base."""

    def __post_init__(self) -> None:
        """Checks nothing."""


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"shots": 0}, "--shots must be at least 1, not 0."),
    ({"extra": -1}, "--extra must be at least 0, not -1."),
    ({"keep": 0.0}, "--keep must be above 0 and at most 1, not 0.0."),
    ({"keep": 1.5}, "--keep must be above 0 and at most 1, not 1.5."),
    ({"level": 1}, "--level must be above 0 and below 1, not 1."),
    ({"level": float("nan")}, "--level must be above 0 and below 1, not nan."),
    ({"strength": 0.0}, "--strength must be above 0, not 0.0."),
    ({"depths": (0.0, 1.0, 1.25)}, "--depths must be at least 0 and at most 1, not 1.25."),
    ({"lengths": (4, 1)}, "--lengths must be at least 2, not 1: the first does not count."),
    ({"lengths": ()}, "--lengths needs at least one value."),
    ({"modes": ()}, "--modes needs at least one of raw, exact."),
    ({"window": 9}, "--window must be at least -1 and below 9, not 9."),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED)
@pytest.mark.parametrize("make", [lambda wrong: Bounded(**wrong), lambda wrong: configured(Careless, wrong)])
def test_a_value_out_of_bounds_is_refused_in_one_sentence(make: Any, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        make(wrong)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"modes": ("rw",)}, "--modes is one of raw, exact, not rw. Did you mean raw?"),
        ({"modes": "raw"}, "--modes takes several values: give ('raw',)."),
        ({"kind": "blu"}, "--kind is one of blue, red, not blu. Did you mean blue?"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_from_python_too(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        Bounded(**wrong)
    assert str(refused.value) == sentence
    assert Bounded(kind=None).kind is None


def test_values_at_the_ends_are_taken_and_stay_what_they_are() -> None:
    given = {"shots": 1, "extra": 0, "keep": 1.0, "depths": (0.0, 1.0), "lengths": (2,), "window": -1}
    taken = configured(Bounded, given)
    assert {name: getattr(taken, name) for name in given} == given
    assert configured(Bounded, {"extra": None, "depths": []}).depths == ()


def test_a_value_of_another_type_is_told_what_is_wanted() -> None:
    with pytest.raises(ArgumentError, match="shots cannot be 'many'; it must be a valid integer"):
        configured(Bounded, {"shots": "many"})
    with pytest.raises(ArgumentError, match="level cannot be '2'; it must be less than 1"):
        configured(Bounded, {"level": "2"})
