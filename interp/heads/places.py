"""Where --heads-from points: at a file that ranks heads, at the folder of a DuoAttention pattern, or at a run. Imports nothing."""

from pathlib import Path

PATTERN_FILE = "full_attention_heads.tsv"
"""The file of gates in a DuoAttention folder."""


def pattern_in(place: Path) -> Path:
    """Returns the pattern of a DuoAttention folder, or the place itself."""
    return place / PATTERN_FILE if place.is_dir() and (place / PATTERN_FILE).is_file() else place


def is_file_of_heads(place: Path) -> bool:
    """Whether a place is a file, or the folder of a DuoAttention pattern, rather than a run."""
    return pattern_in(place).is_file()
