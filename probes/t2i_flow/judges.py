"""Who says what is in a picture: what a judge is asked and answers, the exact pixel judge, and how far a judge can be trusted.

A judge is asked whether descriptions fit a picture. It may fail on a picture: that is counted, never passed over. Judges are
loaded by name in judge_models.py.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from interp.errors import ArgumentError
from interp.statistics import wilson_interval
from probes.t2i_flow.scenes import CELL, COLOURS, MASK, MASKS, N_CELLS, SHAPES, SIDE, Item, render, sample_scenes

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
    """Returns what the judge says; a judge that raises, or answers another number of questions, has failed.

    It gets a copy of the picture, with which it may do what it likes.
    """
    try:
        said = judge(picture.copy(), descriptions)
        verdicts = tuple(_verdict(one) for one in said)
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


def _verdict(said: Any) -> Verdict:
    """Raises TypeError for what is neither yes or no nor a verdict made of them."""
    verdict = said if isinstance(said, Verdict) else Verdict(said)
    parts = [part for part in (verdict.colour_right, verdict.shape_right) if part is not None]
    of_bools = all(isinstance(part, bool | np.bool_) for part in (verdict.visible, *parts))
    if not of_bools or isinstance(verdict.score, bool) or not isinstance(verdict.score, int | float | np.floating):
        raise TypeError(f"a judge answers with True, False or a Verdict, not {said!r}")
    return verdict._replace(visible=bool(verdict.visible))


# ---------------------------------------------------------------------- the exact judge of drawn scenes

BRIGHT = 0.5
"""A pixel belongs to an object when its brightest channel is above this."""
FEWEST_PIXELS = 6
LEAST_OVERLAP = 0.8
"""Intersection over union with a shape's mask from which a blob is that shape."""
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
_STACK = np.stack([MASKS[shape] for shape in SHAPES])


class Found(NamedTuple):
    """What stands in one cell. `shape` is "" where no shape fits."""

    colour: str
    shape: str
    cell: int
    overlap: float


def read_scene(picture: Float32[np.ndarray, "16 16 3"]) -> list[Found]:
    """Returns the objects of a picture by cell: colour by the nearest of the palette, shape by the mask that overlaps most."""
    found = []
    for cell in range(N_CELLS):
        top, left = (CELL * part for part in divmod(cell, SIDE // CELL))
        part = picture[top : top + CELL, left : left + CELL]
        inside = part.max(axis=-1) > BRIGHT
        if inside.sum() < FEWEST_PIXELS:
            continue
        mean = part[inside].mean(axis=0)
        colour = list(COLOURS)[int(((_PALETTE - mean) ** 2).sum(axis=1).argmin())]
        overlaps = _overlaps(inside)
        best = int(overlaps.argmax())
        shape = SHAPES[best] if overlaps[best] >= LEAST_OVERLAP else ""
        found.append(Found(colour, shape, cell, float(overlaps[best])))
    return found


def _overlaps(inside: Bool[np.ndarray, "8 8"]) -> Float32[np.ndarray, " shape"]:
    """Intersection over union of a cell's pixels with each shape's mask; pixels outside the mask's square count against it."""
    square = inside[:MASK, :MASK]
    common = (square & _STACK).sum(axis=(1, 2))
    return (common / (inside.sum() + _STACK.sum(axis=(1, 2)) - common)).astype(np.float32)


def is_exact(picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> bool:
    """Whether the picture holds these items and nothing else."""
    return sorted((one.colour, one.shape) for one in read_scene(picture)) == sorted(item.drawn for item in items)


def pairing_wrong(picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> bool:
    """Whether all colours and all shapes are there but not together: an attribute went to the other object."""
    found = read_scene(picture)
    colours_right = sorted(one.colour for one in found) == sorted(item.colour for item in items)
    shapes_right = sorted(one.shape for one in found) == sorted(item.shape for item in items)
    return colours_right and shapes_right and not is_exact(picture, items)


class PixelJudge:
    """Says of each item whether it is in the picture, and whether its colour and its shape are there at all."""

    def __call__(self, picture: Float32[np.ndarray, "16 16 3"], items: Sequence[Item]) -> list[Verdict]:
        """Returns one verdict an item; the score is the overlap with its shape, 0 where it is not visible."""
        found = read_scene(picture)
        return [self._verdict(found, item) for item in items]

    @staticmethod
    def _verdict(found: Sequence[Found], item: Item) -> Verdict:
        fitting = [one.overlap for one in found if (one.colour, one.shape) == item.drawn]
        return Verdict(
            visible=bool(fitting),
            colour_right=any(one.colour == item.colour for one in found),
            shape_right=any(one.shape == item.shape for one in found),
            score=max(fitting, default=0.0),
        )


class PixelAnswers:
    """The pixel judge as one that is asked in words, "red plus sign"; fails on pictures of another size."""

    def __init__(self) -> None:
        """Has no settings."""
        self._judge = PixelJudge()

    def __call__(self, picture: Picture, descriptions: Sequence[str]) -> list[Verdict]:
        """Returns one verdict for each description. Raises ValueError for a picture that is not a scene's size."""
        if picture.shape != (SIDE, SIDE, 3):
            raise ValueError(f"the pixel judge reads pictures of {SIDE} × {SIDE} pixels, not {picture.shape[:2]}")
        return self._judge(picture, [described(text) for text in descriptions])


def described(text: str) -> Item:
    """Returns the colour and shape that a description names.

    Raises ArgumentError for any other words.
    """
    colour, _, shape = " ".join(text.lower().split()).partition(" ")
    if colour not in COLOURS or shape not in SHAPES:
        raise ArgumentError(
            f"The pixel judge cannot look for {text!r}: describe an item as a colour ({', '.join(COLOURS)}) and a shape "
            f'({", ".join(SHAPES)}) in "looks" and "leaks", or use another --judge.'
        )
    return Item(colour, shape)


def check_descriptions(name: str, descriptions: Sequence[str]) -> None:
    """Raises ArgumentError for something that the judge of that name cannot look for. Loads no model."""
    if name == "pixel":
        for text in descriptions:
            described(text)


# ---------------------------------------------------------------------- errors of a judge where the truth is known


def judge_truth(judge: Judge, n: int, seed: int) -> list[dict[str, Any]]:
    """Returns the rows of `judge_truth`: what the judge says of n rendered scenes.

    It is asked for every item that is there, and for as many that are not: the item in another colour, which is not there
    either, and the colour in another shape.
    """
    rng = np.random.default_rng([seed, 7])
    rows = []
    for number, scene in enumerate(sample_scenes(rng, n)):
        picture = render(scene.items, [int(cell) for cell in rng.choice(N_CELLS, size=len(scene.items), replace=False)])
        there = {item.drawn for item in scene.items}
        absent = [item for item in _changed(rng, scene.items) if item.drawn not in there]
        questions = [" ".join(item.drawn) for item in (*scene.items, *absent)]
        answers = ask(judge, picture, questions)
        for place, (description, verdict) in enumerate(
            zip(questions, answers.verdicts or [None] * len(questions), strict=True)
        ):
            truth = int(place < len(scene.items))
            rows.append(
                {
                    "picture_id": f"truth-{number:03d}",
                    "item_id": description,
                    "asked": "own",
                    "description": description,
                    **as_columns(verdict),
                    "failure": answers.failure,
                    "truth": truth,
                }
            )
    return rows


def _changed(rng: np.random.Generator, items: tuple[Item, ...]) -> list[Item]:
    """Each item in another colour, and in another shape."""
    return [
        changed
        for item in items
        for changed in (
            Item(str(rng.choice([name for name in COLOURS if name != item.colour])), item.shape),
            Item(item.colour, str(rng.choice([name for name in SHAPES if name != item.shape]))),
        )
    ]


def judge_check(judge: str, truth: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Returns `judge_check`: errors on what is there and what is not, and failures on rendered and on drawn pictures."""
    known = truth.dropna(subset=["visible"])
    present, absent = known[known["truth"] == 1], known[known["truth"] == 0]
    picture = ["prompt_id", "part", "variant", "source_item", "kept_positions", "seed"]
    failed = variants.drop_duplicates(picture)["failure"] != ""
    truth_failed = truth.drop_duplicates("picture_id")["failure"] != ""
    counts = {
        "rendered items not seen": (len(present), int((present["visible"] == 0).sum())),
        "absent items seen": (len(absent), int((absent["visible"] == 1).sum())),
        "failed on rendered scenes": (len(truth_failed), int(truth_failed.sum())),
        "failed on drawn pictures": (len(failed), int(failed.sum())),
    }
    rows = []
    for check, (n, errors) in counts.items():
        interval = wilson_interval(errors, n)[:3] if n else (np.nan, np.nan, np.nan)
        rates = dict(zip(("error_rate", "ci_low", "ci_high"), interval, strict=True))
        rows.append({"judge": judge, "check": check, "n": n, "errors": errors, **rates})
    return pd.DataFrame(rows)
