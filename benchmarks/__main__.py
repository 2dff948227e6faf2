"""Runs benchmarks and writes their tables, figures and page: `python -m benchmarks [NAME …] [--quick] [--out FOLDER]`."""

import argparse
import dataclasses
import importlib
import sys
import time
from pathlib import Path

from benchmarks import NAMES
from benchmarks.page import PAGE, write_page
from benchmarks.stopwatch import one_thread, say
from benchmarks.tables import RESULTS, Machine, write

QUICK_OUT = Path("runs") / "benchmarks_quick"
"""Where tables go that nobody should read: they only show that all works."""


def main(arguments: list[str] | None = None) -> int:
    """Measures the benchmarks named, or all; then writes the page from all stored tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__).partition(":")[0] + ".")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; by default all")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes: checks that everything runs; the times mean nothing",
    )
    parser.add_argument("--out", type=Path, help="folder for the result tables")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}: name some of {', '.join(NAMES)}")
    out = chosen.out or (QUICK_OUT if chosen.quick else RESULTS)
    one_thread()
    for name in chosen.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        say(f"\n{name}")
        started = time.perf_counter()
        found = module.run(module.QUICK if chosen.quick else module.FULL)
        machine = Machine.here((time.perf_counter() - started) / 60)
        write(dataclasses.replace(found, machine=machine), out / name)
    if all((out / name / "machine.json").is_file() for name in NAMES):
        say(f"\n{write_page(out, PAGE if out == RESULTS else out / 'performance.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
