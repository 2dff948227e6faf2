"""Names of judges, and what they can look at, checked before anything is loaded. Imports nothing heavy."""

from interp.errors import ArgumentError

PIXEL_JUDGE_SIDE = 16


def check_judge(name: str) -> None:
    """Raises ArgumentError for a name that cannot be a judge's: pixel, clipscore:MODEL, vlm:MODEL, module:function."""
    before, colon, after = name.partition(":")
    if name != "pixel" and not (colon and before and after):
        raise ArgumentError(
            f"There is no judge {name}: use pixel, clipscore:MODEL, vlm:MODEL, or module:function for one of your own."
        )


def check_size(judge: str, height: int | None, width: int | None) -> None:
    """Raises ArgumentError for pictures that have no size, or another one than the pixel judge reads."""
    for name, pixels in (("height", height), ("width", width)):
        if pixels is not None and pixels < 1:
            raise ArgumentError(f"--{name} must be at least 1 pixel.")
        if pixels not in (None, PIXEL_JUDGE_SIDE) and judge == "pixel":
            raise ArgumentError(
                f"The pixel judge reads pictures of {PIXEL_JUDGE_SIDE} × {PIXEL_JUDGE_SIDE} pixels: leave out --{name}, or choose "
                "another --judge."
            )
