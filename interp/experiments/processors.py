"""How many threads a run computes with: as many as the machine has processors free when it starts.

A matrix product ends when its slowest thread does. On a machine that others use, every thread more is one more that may
be waiting for a processor, so a second thread there costs time instead of saving it. The number is settled once for a run
and kept by those who resume it, because the last bits of a sum depend on it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WATCHED_SECONDS = 0.2
"""How long the machine is watched before a run."""

CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def computing_threads(resumed: Mapping[str, Any]) -> Iterator[int]:
    """Lets torch compute with the threads of a run for the length of the block, and gives their number.

    `resumed` is what run.json says of a run that was begun before ({} for a new one): its number of threads is taken over.
    OMP_NUM_THREADS and torch.set_num_threads are upper bounds.
    """
    import torch

    before = torch.get_num_threads()
    kept = resumed.get("threads")
    threads = kept if isinstance(kept, int) and 0 < kept <= before else threads_for(before)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def threads_for(most: int) -> int:
    """Returns how many of at most `most` threads a run should use: all where the user chose, else as many as are free."""
    if most == 1 or any(os.environ.get(name) for name in CHOSEN_BY_USER):
        return most
    return max(1, min(most, round(free_processors())))


def free_processors(seconds: float = WATCHED_SECONDS) -> float:
    """Returns how many processors nobody but this process used while it was watched.

    Of those this process may run on, where the system says which (Linux).
    """
    import psutil

    own = psutil.Process()
    usable = list(own.cpu_affinity()) if hasattr(own, "cpu_affinity") else list(range(psutil.cpu_count() or 1))
    used_before, started = _own_seconds(own), time.perf_counter()
    busy = psutil.cpu_percent(interval=seconds, percpu=True)
    used = (_own_seconds(own) - used_before) / (time.perf_counter() - started)
    others = sum(busy[index] for index in usable if index < len(busy)) / 100 - used
    return len(usable) - max(0.0, others)


def _own_seconds(process: Any) -> float:
    times = process.cpu_times()
    return times.user + times.system
