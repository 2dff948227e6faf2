"""The tests check the types that the toolkit's functions announce, in whichever process they run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from figures.style import faint
from interp.assets import file_sha256
from probes.retrieval_heads.scores import copy_scores

FLAT = torch.zeros(3)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(file_sha256, ("a name",)), (faint, (7,)), (copy_scores, (FLAT, FLAT, FLAT, FLAT, (0, 1), (0, 1)))],
)
def test_an_argument_of_another_type_is_refused(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeCheckError):
        function(*arguments)
