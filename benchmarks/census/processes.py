"""A process of its own for every family: one that hangs or crashes ends alone, and takes no other with it."""

import multiprocessing
from multiprocessing.connection import Connection

import torch

from benchmarks.census.one import Row, census_row

LIMIT = 60.0
"""Seconds that one family may take."""


def work(name: str, dtype: str, pipe: Connection) -> None:
    """Sends one row, from a process of its own."""
    torch.set_num_threads(1)
    pipe.send(census_row(name, getattr(torch, dtype)))


def tried(name: str, dtype: str) -> Row:
    """Returns the row of one family; a process that ends early or late is an outcome too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.census.one"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(name, dtype, there))
    process.start()
    there.close()
    try:
        row = here.recv() if here.poll(LIMIT) else Row(name, "hangs", f"nothing after {LIMIT:.0f} s")
    except EOFError:
        process.join()
        row = Row(name, "crash", f"the process ended with {process.exitcode}")
    process.kill()
    process.join()
    return row
