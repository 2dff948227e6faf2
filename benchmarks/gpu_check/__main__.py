"""Checks the toolkit on one GPU: `python -m benchmarks.gpu_check [--profile] [--minutes 8] [--device cpu --tiny]`."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.stopwatch import say

TINY_OUT = Path("runs") / "gpu_check_tiny"
"""Where the tables of --tiny go; their numbers mean nothing."""


def main(arguments: list[str] | None = None) -> int:
    """Measures every check within the time, and writes the table; 1 when one of them fails."""
    # Every child process imports this file: what is heavy waits until here.
    from benchmarks.gpu_check.card import Card
    from benchmarks.gpu_check.groups import groups
    from benchmarks.gpu_check.page import PLACE, frame, summary, write
    from benchmarks.gpu_check.processes import measure
    from benchmarks.page import write_page
    from interp.errors import ArgumentError

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=str(__doc__).partition(":")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument(
        "--tiny", action="store_true", help="tiny models: checks that everything runs; the numbers mean nothing"
    )
    parser.add_argument("--profile", action="store_true", help="also report which kernels attention uses")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit; checks not started by then are skipped")
    parser.add_argument("--out", type=Path, help="folder for the result table")
    chosen = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        card = Card.find(chosen.device, tiny=chosen.tiny)
    except ArgumentError as error:
        parser.error(str(error))
    out = chosen.out or (TINY_OUT if chosen.tiny else PLACE)
    wanted = groups(tiny=chosen.tiny, profile=chosen.profile)
    rows = measure(wanted, chosen.device, chosen.tiny, chosen.minutes * 60, lambda row: say(_line(row)))
    say(f"{summary(row.verdict for row in rows)}: {write(frame(rows, card), out)}")
    if out == PLACE:
        say(str(write_page()))
    return int(any(row.verdict == "fails" for row in rows))


def _line(row: object) -> str:
    fields = vars(row)
    value = "" if fields["value"] is None else f" {fields['value']:.3g} {fields['unit']} {fields['bound']}".rstrip()
    told = f": {fields['quantity']}{value}" if fields["quantity"] else ""
    return f"{fields['verdict']:<11} {fields['shape']} | {fields['check']}{told}" + (
        f" ({fields['why']})" if fields["why"] else ""
    )


if __name__ == "__main__":
    sys.exit(main())
