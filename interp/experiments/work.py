"""What a unit of work reads and writes, counted before it is measured. Imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """Amounts that can be known without measuring. They add up, but for the tokens that are held at once."""

    tokens_read: int = 0
    """Tokens of prompts and texts that pass through the model, padding included; what is shared is read once."""
    tokens_written: int = 0
    """Tokens that are generated, each by a pass of its own, if every answer is as long as it may be."""
    tokens_held: int = 0
    """The most tokens whose keys and values are in memory at one time."""
    pictures: int = 0
    """Pictures that are drawn."""
    denoising_steps: int = 0
    """Steps of the denoiser, summed over pictures."""

    def __add__(self, other: "Work") -> "Work":
        """Returns the work of both, one after the other."""
        summed = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Work(**{**summed, "tokens_held": max(self.tokens_held, other.tokens_held)})

    @property
    def tokens(self) -> int:
        """Tokens that are read or written."""
        return self.tokens_read + self.tokens_written


def total(parts: Iterable[Work]) -> Work:
    """Returns the work of all parts, one after the other."""
    return sum(parts, Work())
