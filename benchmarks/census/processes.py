"""A process of its own for every family: one that hangs or crashes ends alone, and takes no other with it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.census.one import Row, census_row

LIMIT = 60.0
"""Seconds that the check of one family may take."""
RUN_LIMIT = 240.0
"""Seconds that the run of one experiment on one family may take."""


def work(name: str, dtype: str, pipe: Connection) -> None:
    """Sends one row, from a process of its own."""
    torch.set_num_threads(1)
    pipe.send(census_row(name, getattr(torch, dtype)))


def run_through(name: str, dtype: str, experiments: Sequence[str], pages: bool, pipe: Connection) -> None:
    """Sends how the run of each experiment ended, from a process of its own."""
    from benchmarks.census.runs import ends_of

    torch.set_num_threads(1)
    for end in ends_of(name, dtype, experiments, pages=pages):
        pipe.send(end)


def tried(name: str, dtype: str) -> Row:
    """Returns the row of one family; a process that ends early or late is an outcome too."""
    with _started(work, name, dtype) as (process, here):
        try:
            return here.recv() if here.poll(LIMIT) else Row(name, "hangs", f"nothing after {LIMIT:.0f} s")
        except EOFError:
            process.join()
            return Row(name, "crash", f"the process ended with {process.exitcode}")


def ends(name: str, dtype: str, experiments: Sequence[str], *, pages: bool = False) -> dict[str, str]:
    """Returns how the run of each experiment ended on one family; those behind one that hangs or crashes are not tried."""
    found: dict[str, str] = {}
    with _started(run_through, name, dtype, tuple(experiments), pages) as (process, here):
        for experiment in experiments:
            try:
                if not here.poll(RUN_LIMIT):
                    return {**found, experiment: f"fault: nothing after {RUN_LIMIT:.0f} s"}
                found |= dict([here.recv()])
            except EOFError:
                process.join()
                return {**found, experiment: f"fault: the process ended with {process.exitcode}"}
    return found


@contextmanager
def _started(target: Callable[..., None], *arguments: object) -> Iterator[tuple[Any, Connection]]:
    """A process that is given a pipe to send through, and the pipe's other end; it is killed at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.census.warmed"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, there))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()
