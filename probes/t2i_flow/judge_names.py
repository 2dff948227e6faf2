"""Names of judges, checked before anything is loaded. Imports nothing heavy."""

from interp.errors import ArgumentError


def check_judge(name: str) -> None:
    """Raises ArgumentError for a name that cannot be a judge's: pixel, clipscore:MODEL, vlm:MODEL, module:function."""
    before, colon, after = name.partition(":")
    if name != "pixel" and not (colon and before and after):
        raise ArgumentError(
            f"There is no judge {name}: use pixel, clipscore:MODEL, vlm:MODEL, or module:function for one of your own."
        )
