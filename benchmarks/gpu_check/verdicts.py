"""A check, what it measures, and the verdict: a check that fails, does not fit or crashes is a row like any other."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.gpu_check.card import Card
from interp.models.language.out_of_memory import is_out_of_memory

Verdict = Literal["holds", "fails", "did not fit", "not run", "measured"]
"""`measured` is a number without a bound: nothing was promised of it."""


class NotRunError(Exception):
    """Why a check says nothing on this device, in a sentence."""


@dataclass(frozen=True)
class Measured:
    """One number; with a bound it holds where it is at most (or, `at_least`, at least) that."""

    quantity: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the bound holds; a number that is none never does."""
        if self.bound is None:
            return "measured"
        return "holds" if (self.value >= self.bound if self.at_least else self.value <= self.bound) else "fails"


@dataclass(frozen=True)
class Row:
    """One line of the table. `value` is missing where nothing was measured; `why` says why, or what else there is to say."""

    check: str
    shape: str
    quantity: str
    value: float | None
    unit: str
    bound: str
    verdict: Verdict
    why: str
    seconds: float
    """Wall seconds of the whole check."""
    peak_gb: float | None
    """The most memory that the check's tensors held, the model's weights included."""


Measure = Callable[[Any, Card], list[Measured]]


@dataclass(frozen=True)
class Group:
    """Checks of one model: it is made once, in a process of its own, and each check is given it."""

    name: str
    shape: str
    """Whose shape the model has."""
    make: Callable[[Card], Any]
    checks: Mapping[str, Measure]


def run_group(group: Group, card: Card, send: Callable[[Row], None]) -> None:
    """Makes the model and measures every check; sends its rows as soon as they are known."""
    card.clean()
    try:
        _, subject = card.timed(lambda: group.make(card))
    except Exception as error:  # a verdict, whatever it is
        for name in group.checks:
            send(_row_of_error(name, group.shape, error, card, "when the model was made: "))
        return
    for name, check in group.checks.items():
        for row in run_check(name, group.shape, check, subject, card):
            send(row)


@torch.no_grad()
def run_check(name: str, shape: str, check: Measure, subject: Any, card: Card) -> list[Row]:
    """Returns the rows of one check; whatever is raised becomes a row."""
    card.clean()
    try:
        seconds, found = card.timed(lambda: check(subject, card))
    except Exception as error:  # a verdict, whatever it is
        return [_row_of_error(name, shape, error, card)]
    peak = _known(card.peak_gb())
    return [
        Row(name, shape, one.quantity, _known(one.value), one.unit, _bound(one), one.verdict, one.note, seconds, peak)
        for one in found
    ]


def _row_of_error(check: str, shape: str, error: Exception, card: Card, when: str = "") -> Row:
    verdict: Verdict = "fails"
    if isinstance(error, NotRunError):
        verdict = "not run"
    elif is_out_of_memory(error):
        verdict = "did not fit"
    said = " ".join(str(error).split())[:240] or type(error).__name__
    why = said if isinstance(error, NotRunError) else f"{when}{type(error).__name__}: {said}"
    return Row(check, shape, "", None, "", "", verdict, why, 0.0, _peak_after(error, card))


def _peak_after(error: Exception, card: Card) -> float | None:
    """What was held at most; a device that has crashed cannot be asked."""
    return _known(card.peak_gb()) if is_out_of_memory(error) else None


def _bound(one: Measured) -> str:
    return "" if one.bound is None else f"{'≥' if one.at_least else '≤'} {one.bound:.3g}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
