"""The tests check the types that the toolkit's functions announce, in whichever process they run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from figures.style import faint
from interp.assets import file_sha256
from interp.models.identity import HeadGeometry
from interp.models.language.prefix import Prefix
from probes.retrieval_heads.scores import copy_scores
from tests.checked_types import checked

FLAT = torch.zeros(3)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (file_sha256, ("a name",)),
        (faint, (7,)),
        (copy_scores, (FLAT, FLAT, FLAT, FLAT, (0, 1), (0, 1))),
        (HeadGeometry, (2, 2, 2, "16")),  # a dataclass
        (HeadGeometry(2, 2, 2, 16).check_head, (0.5, 1)),  # a method
        (Prefix.empty, (2, 1, "ten")),  # of the class
    ],
)
def test_an_argument_of_another_type_is_refused(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeCheckError):
        function(*arguments)


@checked
def cut(values: Float[Tensor, "row dim"], other: "Float[Tensor, 'row dim']", rows: int) -> Float[Tensor, "row dim"]:
    """Promises as many rows as it is given."""
    return (values + other)[:rows]


@checked
def both(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> tuple[Tensor, Tensor]:
    """Calls another function with axes of the same names."""
    return cut(first[None], first[None], 1), cut(second[None], second[None], 1)


def test_axes_of_one_name_have_one_length_within_a_call():
    pair = torch.zeros(2, 3), torch.zeros(2, 3)
    assert cut(*pair, 2).shape == (2, 3)
    with pytest.raises(TypeCheckError):
        cut(torch.zeros(2, 3), torch.zeros(1, 3), 1)
    with pytest.raises(TypeCheckError):
        cut(*pair, 1)  # what is returned
    assert cut(torch.zeros(4, 5), torch.zeros(4, 5), 4).shape == (4, 5)  # another call, other lengths


def test_calls_within_a_call_have_axes_of_their_own():
    both(torch.zeros(3), torch.zeros(4))


@checked
def word(length: int, kind: "NowhereToBeFound") -> str:  # type: ignore[name-defined]
    """Promises a text; the type of `kind` is known to type checkers alone."""
    return "word" if length else 0  # type: ignore[return-value]


@checked
@dataclass
class Point:
    """Two numbers."""

    x: "int"
    y: int = 0


@checked
def numbers(n: int) -> Iterator[int]:
    """A generator."""
    yield from range(n)


def test_what_is_returned_quoted_or_made_of_parts_is_checked():
    assert word(4, kind=3) == "word"
    with pytest.raises(TypeCheckError):
        word(0, kind=3)
    with pytest.raises(TypeCheckError):
        Point("one")
    assert Point(1) == Point(1, y=0)
    assert list(numbers(3)) == [0, 1, 2]
    with pytest.raises(TypeCheckError):
        list(numbers("three"))
