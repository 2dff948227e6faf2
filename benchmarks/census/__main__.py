"""Tries every causal language model of transformers, tiny and random: `python -m benchmarks.census [--families NAME …]`."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.stopwatch import one_thread, say


def main(arguments: list[str] | None = None) -> int:
    """Tries the families named, or all with their variants; 1 when one ends in a traceback, a crash, a hang or a number that cannot be."""
    # Every child process imports this file: what is heavy waits until here.
    from benchmarks.census.overrides import VARIANTS
    from benchmarks.census.page import PLACE, write_page
    from benchmarks.census.processes import ends, tried
    from benchmarks.census.runs import SETTINGS
    from benchmarks.census.shrink import families
    from benchmarks.census.table import is_fault, merge, summary, write

    parser = argparse.ArgumentParser(prog="python -m benchmarks.census", description=str(__doc__).partition(":")[0])
    parser.add_argument(
        "--families", nargs="+", metavar="NAME", help="families of transformers, or variants; by default all"
    )
    parser.add_argument(
        "--experiments",
        nargs="*",
        default=list(SETTINGS),
        choices=list(SETTINGS),
        metavar="NAME",
        help="experiments to run on each, out of "
        + ", ".join(SETTINGS)
        + "; all if left out, the checks alone with none",
    )
    parser.add_argument(
        "--pages", action="store_true", help="use the full runner, with figures and reports; takes three times as long"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path, default=PLACE, help="folder for the result table")
    chosen = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    one_thread()
    known = [*families(), *VARIANTS]
    unknown = [name for name in chosen.families or () if name not in known]
    if unknown:
        parser.error(f"there is no family {unknown[0]}: name some of {', '.join(known)}")
    rows = []
    for name in chosen.families or known:
        row = tried(name, chosen.dtype)
        if row.verdicts and chosen.experiments:
            row.runs = ends(name, chosen.dtype, chosen.experiments, pages=chosen.pages)
        refused = ", ".join(f"{verdict}: {why}" for verdict, why in row.verdicts.items() if why)
        say(f"{name}: {row.outcome} {row.sentence or refused} [{row.seconds:.1f} s]")
        for experiment, end in row.runs.items():
            say(f"    {experiment} {end}")
        rows.append(row)
        write(merge([row], chosen.out), chosen.out)
    say(summary(merge(rows, chosen.out)))
    if chosen.out == PLACE:
        say(str(write_page()))
    return int(any(is_fault(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
