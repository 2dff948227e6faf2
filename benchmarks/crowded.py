"""How long a unit of work takes next to five busy processes on two processors: `python -m benchmarks.crowded` (Linux).

This imitates a shared login node. One detection unit of the default run of retrieval_heads is measured in two ways:
  toolkit   as in a run: waiting threads sleep, and there are no more threads than processors were free at the start;
  defaults  torch's defaults: waiting threads spin, and there are as many threads as processors.
Each way runs in its own process, alone and next to the busy processes, alternating. Times are wall time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROCESSORS, NEIGHBOURS, REPETITIONS = 2, 5, 3
AT_MOST = 8.0
"""Times as long as alone that a unit may take."""
WAYS = ("toolkit", "defaults")
TABLE = Path(__file__).with_name("results") / "crowded" / "crowded.csv"
LIMIT_SECONDS = 1200


def measure_unit(way: str) -> dict[str, Any]:
    """Returns wall seconds and threads of one unit, measured in this process."""
    import pandas as pd
    import torch  # read before interp where torch's own defaults are wanted: see interp/__init__.py

    from interp.experiments.engine import computing_threads
    from interp.models.loading.language import load
    from probes.retrieval_heads.experiment import RetrievalHeads

    experiment = RetrievalHeads()
    model = load(experiment.model)
    unit = experiment.plan(model.facts, {"samples": pd.DataFrame({"needle_id": []})})[0]
    resumed = {"threads": torch.get_num_threads()} if way == "defaults" else {}
    with computing_threads(resumed) as threads:
        model.prefix([1] * 64)  # warm up
        started = time.perf_counter()
        experiment.measure(model, unit)
        return {"way": way, "seconds": time.perf_counter() - started, "threads": threads}


@contextmanager
def neighbours(n: int) -> Iterator[None]:
    """Keeps so many single-threaded processes busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def in_a_process(way: str) -> dict[str, Any]:
    """Measures a unit in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    first = "import torch, interp" if way == "defaults" else "import interp, torch"
    code = f"{first}, json; from benchmarks.crowded import measure_unit; print(json.dumps(measure_unit({way!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> int:
    """Measures, writes the table, and says how many times as long a unit takes; 1 when the toolkit's is too long."""
    import pandas as pd

    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowded", description=str(__doc__).partition(":")[0])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    chosen = parser.parse_args(arguments)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])  # inherited by all
    rows = []
    for repetition in range(chosen.repetitions):
        for way in chosen.ways:
            for busy in (0, NEIGHBOURS):
                with neighbours(busy):
                    found = in_a_process(way)
                rows.append({**found, "neighbours": busy, "repetition": repetition})
                sys.stdout.write(f"{way} beside {busy}: {found['seconds']:.1f} s, {found['threads']} threads\n")
                sys.stdout.flush()
    table = pd.DataFrame(rows)
    TABLE.parent.mkdir(exist_ok=True)
    table.to_csv(TABLE, index=False, float_format="%.4g", lineterminator="\n")
    ratios = times_as_long(table)
    for way, ratio in ratios.items():
        sys.stdout.write(f"{way}: {ratio:.1f} times as long as alone\n")
    return int(ratios.get("toolkit", 0.0) > AT_MOST)


def times_as_long(table: Any) -> dict[str, float]:
    """Returns median seconds beside the busy processes over those alone, by way."""
    median = table.groupby(["way", "neighbours"])["seconds"].median()
    return {str(way): float(median[way, NEIGHBOURS] / median[way, 0]) for way in table["way"].unique()}


if __name__ == "__main__":
    sys.exit(main())
