"""Runs other tools on the same inputs and writes how far their numbers are from ours: `python -m benchmarks.peers` (make peers)."""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import python_of, run_theirs, source_of
from benchmarks.peers.inputs import MODEL, write_inputs
from benchmarks.peers.ours import OURS, Numbers
from benchmarks.stopwatch import measure, one_thread, say
from benchmarks.tables import RESULTS, Machine, write_machine
from interp.assets import cache_folder
from interp.errors import RunError
from interp.models.loading.language import load

PLACE, REPEATS = RESULTS / "peers", 3
"""Where the table goes, and how often both sides are run unless --repeats says otherwise."""


def largest_difference(ours: Numbers, theirs: Numbers) -> tuple[float, int]:
    """Returns the largest absolute difference of two lists of lists, and how many numbers were compared.

    Infinite where one has a number that the other lacks, or one is not a number.
    """
    if [len(part) for part in ours] != [len(part) for part in theirs]:
        return math.inf, sum(len(part) for part in ours)
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=True)]
    if not pairs:
        return math.inf, 0
    gaps = [abs(a - b) for a, b in pairs]
    return (math.inf if any(math.isnan(gap) for gap in gaps) else max(gaps)), len(pairs)


def compare(ours: Numbers, theirs: Numbers, tolerance: float) -> dict[str, Any]:
    """Returns the largest difference, how many numbers were compared, and how many of them differ by more than rounding."""
    gap, n = largest_difference(ours, theirs)
    differing = n if math.isinf(gap) else int((abs(np.concatenate(ours) - np.concatenate(theirs)) > tolerance).sum())
    return {"largest_difference": gap, "n_compared": n, "n_differing": differing, "agrees": gap <= tolerance}


def compare_peer(
    peer: Peer, model: Any, inputs: Path, folder: Path, given: dict[str, Path], repeats: int
) -> dict[str, Any]:
    """Returns a row: the largest difference, and the median processor seconds of both sides, which are run in turn."""
    output = folder / f"{peer.script}.json"
    python, source = python_of(peer, folder), source_of(peer, folder, given)
    work = OURS[peer.script](model, json.loads(inputs.read_text(encoding="utf-8")))
    our_seconds, their_seconds = [], []
    for _ in range(repeats):
        run_theirs(peer, python, source, inputs, output)
        theirs = json.loads(output.read_text(encoding="utf-8"))
        cost, ours = measure(work)
        our_seconds.append(cost.processor_seconds)
        their_seconds.append(theirs["seconds"])
    return {
        "peer": peer.name, "version": peer.version, "quantity": peer.quantity, "tolerance": peer.tolerance,
        **compare(ours, theirs["numbers"], peer.tolerance), "differs": peer.differs,
        "our_seconds": median(our_seconds), "their_seconds": median(their_seconds),
        "ratio": median(their / our for our, their in zip(our_seconds, their_seconds, strict=True)),
        "runs": repeats,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Compares the tools named, or all; 1 when one cannot be run or differs without a reason given."""
    names = [peer.script for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=str(__doc__).partition(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(names)}; by default all")
    parser.add_argument(
        "--source", nargs="*", default=[], metavar="NAME=FOLDER", help="use an existing clone of a tool"
    )
    parser.add_argument("--folder", type=Path, help="folder for the virtual environments (by default in the cache)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        metavar="N",
        help=f"number of runs of each side, alternating (default {REPEATS})",
    )
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in names]
    if unknown:
        parser.error(f"there is no tool {unknown[0]}: name some of {', '.join(names)}")
    if chosen.repeats < 1:
        parser.error("--repeats takes 1 or more")
    given = {name: Path(place) for name, _, place in (one.partition("=") for one in chosen.source)}
    folder = chosen.folder or cache_folder() / "peers"
    one_thread()
    started = time.perf_counter()
    model = load(MODEL)
    inputs = write_inputs(model, folder)
    model.prefix(list(range(64)))  # warm up
    rows, failed = [], []
    for peer in PEERS:
        if chosen.names and peer.script not in chosen.names:
            continue
        try:
            rows.append(compare_peer(peer, model, inputs, folder, given, chosen.repeats))
            say("{peer}: {largest_difference:.2g} over {n_compared} numbers, ratio {ratio:.2f}".format(**rows[-1]))
        except RunError as error:
            failed.append(str(error))
            say(str(error))
    _write(pd.DataFrame(rows), started)
    return int(bool(failed) or not all(row["agrees"] or row["differs"] for row in rows))


def _write(table: pd.DataFrame, started: float) -> None:
    place = PLACE / "peers.csv"
    if place.exists():
        kept = pd.read_csv(place, keep_default_na=False)
        table = pd.concat([kept[~kept["peer"].isin(table.get("peer", []))], table])
    PLACE.mkdir(exist_ok=True)
    table.to_csv(place, index=False, float_format="%.4g", lineterminator="\n")
    write_machine(Machine.here((time.perf_counter() - started) / 60), PLACE)


if __name__ == "__main__":
    sys.exit(main())
