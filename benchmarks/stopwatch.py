"""What a piece of work costs: processor seconds of one thread, wall seconds, and memory beyond what was there before."""

import gc
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

Result = TypeVar("Result")


class Cost(NamedTuple):
    """Processor and wall seconds, and the peak of resident memory beyond its level at the start in MB.

    Processor seconds do not count what else the machine does. Memory is NaN where Linux' /proc is not there.
    """

    processor_seconds: float
    wall_seconds: float
    peak_mb: float


def one_thread() -> None:
    """Keeps torch to one thread: the processor seconds of threads that wait would count as work."""
    torch.set_num_threads(1)


def measure(work: Callable[[], Result]) -> tuple[Cost, Result]:
    """Returns what a call cost, and what it gave."""
    gc.collect()
    before = _reset_peak_mb()
    processor, wall = time.process_time(), time.perf_counter()
    result = work()
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return Cost(processor, wall, _memory_mb("VmHWM") - before), result


def _reset_peak_mb() -> float:
    """Gives freed memory back, begins a new peak, and returns the memory now."""
    if sys.platform != "linux":
        return float("nan")
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed, which would hide what is taken
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory_mb("VmRSS")


def _memory_mb(name: str) -> float:
    if sys.platform != "linux":
        return float("nan")
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
