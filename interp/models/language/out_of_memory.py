"""What to do when a device has not enough memory: smaller batches, then a sentence that says how much was asked for."""

from collections.abc import Callable
from typing import TypeVar

import torch

from interp.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")


def halving_on_out_of_memory(work: Callable[[list[Item]], Result], batch: list[Item]) -> list[Result]:
    """Returns [work(batch)], or the results for its halves when the device has not enough memory for the whole.

    Raises RunError, with what the device asked for, when even one item is too much.
    """
    try:
        return [work(batch)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise RunError(
                f"One item at a time still does not fit in memory ({_first_line(error)}): use shorter texts, "
                "--dtype bfloat16 or --device-map auto."
            ) from error
    # Only here, out of the except block, are the tensors of the failed attempt free.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return [*halving_on_out_of_memory(work, batch[:half]), *halving_on_out_of_memory(work, batch[half:])]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch has one type for GPUs and only a text for the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
