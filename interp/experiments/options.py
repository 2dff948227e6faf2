"""How a run is carried out: options that change where and how fast, never what is measured. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FigureFormat = Literal["pdf", "svg", "png"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run goes and what it runs on."""

    out: Path = Path("runs")
    """Folder that holds the runs."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    device_map: Literal["auto"] | None = None
    """auto spreads a model too large for one GPU over all of them."""
    fresh: bool = False
    """Start over instead of finishing what is there."""
    export: tuple[FigureFormat, ...] = ()
    """Write the figures in these formats too (needs a Chromium)."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def __post_init__(self) -> None:
        """Takes folder names as they are typed in Python."""
        object.__setattr__(self, "out", Path(self.out))
