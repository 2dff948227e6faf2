"""A process of its own for every group: a model that hangs, or a device that stops answering, ends with its group alone.

Rows are sent as they are known, so that what was measured before stays. Checks of which nothing was heard get a row too.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

import transformers

from benchmarks.gpu_check.card import Card
from benchmarks.gpu_check.verdicts import Group, Row, Verdict, run_group

Groups = Callable[[], list[Group]]


def work(group: Group, device: str, tiny: bool, pipe: Connection) -> None:
    """Measures a group and sends its rows."""
    transformers.utils.logging.set_verbosity_error()
    run_group(group, Card.find(device, tiny=tiny), pipe.send)


def measure(groups: Iterable[Group], device: str, tiny: bool, seconds: float, say: Callable[[Row], None]) -> list[Row]:
    """Returns the rows of all groups, in order; what is not known after so many seconds was not run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu_check.groups"])
    until = time.monotonic() + seconds
    rows = []
    for group in groups:
        for row in _rows_of(group, device, tiny, until, context):
            say(row)
            rows.append(row)
    return rows


def _rows_of(
    group: Group, device: str, tiny: bool, until: float, context: "multiprocessing.context.ForkServerContext"
) -> Iterable[Row]:
    left = set(group.checks)
    if time.monotonic() >= until:
        yield from _unheard(group, left, "not run", "the time was over")
        return
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(group, device, tiny, there))
    process.start()
    there.close()
    why: tuple[Verdict, str] = "not run", "the time was over before it ended"
    try:
        while here.poll(max(0.0, until - time.monotonic())):
            row = here.recv()
            left.discard(row.check)
            yield row
    except EOFError:
        process.join()
        why = "fails", f"the process ended with {process.exitcode} before this was measured"
    process.kill()
    process.join()
    yield from _unheard(group, left, *why)


def _unheard(group: Group, checks: Iterable[str], verdict: Verdict, why: str) -> Iterable[Row]:
    for name in group.checks:
        if name in checks:
            yield Row(name, group.shape, "", None, "", "", verdict, why, 0.0, None)
