"""Shows that two commits measure the same: each experiment's quick preset, the folder's hash and every table's sha256.

    python tests/same_numbers.py BEFORE AFTER                 two commits, or two folders that hold a checkout each
    python tests/same_numbers.py main~5 main retrieval_heads  of these experiments only

Moves and renames must print "equal" in every line. Exits with 1 where a line does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("retrieval_heads", "function_tokens", "t2i_flow", "verbatim_memory", "critical_tokens", "atlas")


def checkout(commit: str, place: Path) -> Path:
    """Returns a folder with the files of a commit; a folder is itself one."""
    if Path(commit).is_dir():
        return Path(commit).resolve()
    folder = place / commit.replace("/", "_")
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def measured(tree: Path, name: str, runs: Path) -> dict[str, Any]:
    """Returns, for every run that one command leaves, its folder's name and the sha256 of its tables."""
    words = [sys.executable, "-m", "interp.experiments", name, "--preset", "quick", "--out", str(runs)]
    done = subprocess.run(
        words, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} in {tree} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = {}
    for description in sorted(runs.rglob("run.json")):
        content = json.loads(description.read_text(encoding="utf-8"))
        found[str(description.parent.relative_to(runs))] = content["table_sha256"]
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns what is not the same, a line each."""
    lines = [f"the run {run} is on one side only" for run in sorted(before.keys() ^ after.keys())]
    for run in sorted(before.keys() & after.keys()):
        tables = before[run].keys() | after[run].keys()
        lines += [f"{run}: {table}" for table in sorted(tables) if before[run].get(table) != after[run].get(table)]
    return lines


def main() -> int:
    """Runs both commits; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("names", nargs="*", default=[], metavar="experiment")
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as place:
        trees = [checkout(commit, Path(place)) for commit in (given.before, given.after)]
        for name in given.names or NAMES:
            before, after = (measured(tree, name, Path(place, f"{name}-{side}")) for side, tree in enumerate(trees))
            lines = differences(before, after)
            n_tables = sum(map(len, before.values()))
            sys.stdout.write(f"{name}: {'; '.join(lines) or f'equal, {len(before)} runs, {n_tables} tables'}\n")
            sys.stdout.flush()
            failed |= bool(lines)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
