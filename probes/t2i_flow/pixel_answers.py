"""The exact pixel judge as one that is asked in words: "red plus sign" is a colour and a shape of the scenes."""

from collections.abc import Sequence

from interp.errors import ArgumentError
from probes.t2i_flow.judges import Picture, Verdict
from probes.t2i_flow.pixel_judge import PixelJudge
from probes.t2i_flow.scenes import COLOURS, SHAPES, SIDE, Item


class PixelAnswers:
    """Answers about pictures of scenes; fails on pictures of another size."""

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
