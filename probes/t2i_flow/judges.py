"""Who says what is in a picture: the protocol of a judge, the exact pixel judge, and functions of the user's own.

A judge is asked whether descriptions fit a picture. It may fail on a picture: that is counted, never passed over.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32

from interp.errors import ArgumentError
from probes.t2i_flow.settings import check_judge

Picture = Float32[np.ndarray, "height width 3"]


class Verdict(NamedTuple):
    """What a judge says of one description.

    `colour_right` and `shape_right` say whether the colour, or the shape, is anywhere in the picture; None when the judge
    does not look at them apart. `score` is the number behind a yes or no, NaN when there is none.
    """

    visible: bool
    colour_right: bool | None = None
    shape_right: bool | None = None
    score: float = math.nan


@runtime_checkable
class Judge(Protocol):
    """Anything that looks at a picture (numbers in 0 … 1) and gives one verdict for each description."""

    def __call__(self, picture: Picture, descriptions: Sequence[str]) -> Sequence[Verdict | bool]:
        """Returns one verdict, or yes and no, for each description; raises whatever it likes when it cannot say."""
        ...


class Answers(NamedTuple):
    """A judge's verdicts on one picture, or None and the reason why there are none."""

    verdicts: tuple[Verdict, ...] | None
    failure: str = ""


def ask(judge: Judge, picture: Picture, descriptions: Sequence[str]) -> Answers:
    """Returns what the judge says; a judge that raises, or answers another number of questions, has failed."""
    try:
        said = judge(picture, descriptions)
        verdicts = tuple(one if isinstance(one, Verdict) else Verdict(_yes_or_no(one)) for one in said)
    except Exception as error:  # a judge is anybody's code: whatever it raises is a picture without a verdict
        return Answers(None, f"{type(error).__name__}: {error}")
    if len(verdicts) != len(descriptions):
        return Answers(None, f"{len(verdicts)} answers to {len(descriptions)} questions")
    return Answers(verdicts)


def as_columns(verdict: Verdict | None) -> dict[str, float]:
    """Returns a verdict as the columns of a table; NaN for what the judge did not say, all of it where it failed."""
    if verdict is None:
        return {"visible": math.nan, "colour_right": math.nan, "shape_right": math.nan, "score": math.nan}
    parts = {"colour_right": verdict.colour_right, "shape_right": verdict.shape_right}
    known = {name: math.nan if value is None else float(value) for name, value in parts.items()}
    return {"visible": float(verdict.visible), **known, "score": verdict.score}


def _yes_or_no(said: Any) -> bool:
    if isinstance(said, bool | np.bool_):
        return bool(said)
    raise TypeError(f"a judge answers with True, False or a Verdict, not {said!r}")


def load_judge(name: str, threshold: float | None = None) -> Judge:
    """Returns the judge of that name: pixel, clipscore:MODEL, vlm:MODEL, or module:function of the user's own.

    `threshold` is the score from which a model's answer is a yes.
    Raises ArgumentError for a name that is none of these, or a function that cannot be imported.
    """
    check_judge(name)
    if name == "pixel":
        from probes.t2i_flow.pixel_answers import PixelAnswers

        return PixelAnswers()
    kind, _, model = name.partition(":")
    if kind in ("clipscore", "vlm"):
        from probes.t2i_flow.judge_models import load_clip_score, load_vision_language

        return load_clip_score(model, threshold) if kind == "clipscore" else load_vision_language(model, threshold)
    return _import(kind, model)


def check_descriptions(name: str, descriptions: Sequence[str]) -> None:
    """Raises ArgumentError for something that the judge of that name cannot look for. Loads no model."""
    if name == "pixel":
        from probes.t2i_flow.pixel_answers import described

        for text in descriptions:
            described(text)


def _import(module: str, function: str) -> Judge:
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"The judge {module}:{function} cannot be imported ({error}): name a module on the Python path and a function in it."
        ) from error
    if not callable(found):
        raise ArgumentError(
            f"{module}:{function} cannot be called: a judge is a function of a picture and descriptions."
        )
    return cast(Judge, found)
