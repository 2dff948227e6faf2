"""The page on performance, from the stored tables alone: `python -m benchmarks.page` measures nothing.

Writes docs/performance.md and the figures in docs/performance.
"""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks import NAMES
from benchmarks.figure import plot_growth
from benchmarks.gpu_check import page as gpu_page
from benchmarks.growth import exponents
from benchmarks.page_tables import (
    TITLES,
    as_written,
    cheapest,
    crowded_table,
    exponent_table,
    glance,
    machine_table,
    peers_table,
    reliability_table,
    size_table,
    ways_table,
)
from benchmarks.tables import RESULTS, Results, read
from interp.experiments.export import shrink_png, write_images

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
OLDER = (
    "**Not measured again yet:** the table is older than this description. Its baseline is the script called *obvious* here; the one that "
    "uses the libraries well was only run in small sizes, where its results are the same.\n\n"
)
NO_GPU = "But for the section on GPUs, no GPU and no second model was timed: on other hardware the ratios are others."

HEAD = """# Performance

What each experiment costs beside the best script that a good engineer would write in an afternoon for the same work, and how its
cost grows. Where the ratio is near 1 the toolkit saves no time: then what it adds is the intervals, the controls and the tables.
`make bench` measures everything and writes this page ({processor:.0f} processor minutes of measuring; {minutes:.0f} minutes of
wall time on the machine below, which others used at the same time); `make bench QUICK=1` goes through all of it in small sizes,
to see that it works. `python -m benchmarks NAME` measures one experiment, and `python -m benchmarks.page` writes the page from the
stored tables (`benchmarks/results`) without measuring.

## At a glance

{glance}

How many times the toolkit's processor seconds a script takes: the median over repetitions, lowest and highest in brackets.
*Used well* is the baseline: transformers, TransformerLens, SAELens or diffusers as one who knows them uses them; *written first* is
what most papers' repositories hold. Each section says what both do.
Both run in one process, in turn, and the benchmark stops when their results differ by more than rounding.
Critical tokens are estimates from random draws: there the shared draws are tested against the independent ones.

Growth of the toolkit's own cost, as the exponent *b* of cost ∝ size^*b* (1: in proportion; 2: four times as much for twice the
size):

{growth}

*b* is the least-squares slope of log median processor seconds on log size; in brackets the lowest and highest slope of a single
repetition. The last column is the slope between the two largest sizes alone: what costs the same at any size flattens it least.
"""

RECORDING = """## What looking costs

Recording switched off costs nothing when the second row of a table is the first within noise; switched on, it costs what the rows
with a recording say. The ratio is to the first row, in pairs.

{table}
"""

MEMORY = """## Memory

Peak of resident memory beyond what the loaded models take before the work begins.

{table}
"""

RELIABILITY = """## What a result costs until it stops changing

{text}

{table}

{summary}
"""

PEERS = """## Other tools, same inputs

`make peers` puts each tool in a virtual environment of its own, pinned, and gives it the same inputs. The largest difference is over
all numbers compared, and those beyond rounding are counted. The ratio is their processor seconds over ours, the median of the runs in
the last column, in turn, on {machine}. V is given to pts, so its rows
time the search alone, without rollouts.

{table}
"""

CROWDED = """## A crowded machine

{text}

{table}
"""

TAIL = """## How it was measured

{machines}

Processor seconds of one thread, not wall time: other programs were using the same cores, and the wall clock was not quiet. A busy
neighbour also takes caches and memory bandwidth, so that the same work takes more processor seconds than alone: ratios are of
ways that were run in turn, and sizes of a curve were run in turn too. {no_gpu}
Memory is read from Linux' `/proc`: the peak of resident memory less what was resident when the work began.
"""


def page(found: Mapping[str, Results]) -> str:
    """Returns the text of the page from every benchmark's tables."""
    comparison = pd.concat([by_kind_of_script(found[name].comparison) for name in NAMES])
    growth = pd.concat([found[name].growth for name in NAMES])
    minutes = sum(one.machine.minutes for one in found.values() if one.machine is not None)
    processor = (comparison["processor_seconds"].sum() + growth["processor_seconds"].sum()) / 60
    parts = [
        HEAD.format(minutes=minutes, processor=processor, glance=glance(comparison), growth=exponent_table(growth)),
        *(section(name, found[name]) for name in NAMES),
        RECORDING.format(table=ways_table(comparison[comparison["kind"] == "recording"])),
        MEMORY.format(table=ways_table(comparison[comparison["kind"] == "memory"])),
        *more_sections(RESULTS),
        gpu_page.section(),
        TAIL.format(machines=machine_table(found), no_gpu=NO_GPU),
    ]
    return "\n".join(parts)


def by_kind_of_script(comparison: pd.DataFrame) -> pd.DataFrame:
    """Returns the comparison; where it was measured before there were two scripts, its one baseline is the obvious one."""
    older = is_older(comparison) & (comparison["kind"] == "speed") & (comparison["side"] == "baseline")
    return comparison.assign(side=comparison["side"].mask(older, "obvious"))


def is_older(comparison: pd.DataFrame) -> bool:
    """Whether a comparison was measured before there were two scripts."""
    return "obvious" not in set(comparison["side"])


def more_sections(folder: Path) -> list[str]:
    """Returns what is measured apart from the experiments' own benchmarks, as far as its table is stored."""
    parts = []
    if (folder / "reliability" / "reliability.csv").exists():
        table = pd.read_csv(folder / "reliability" / "reliability.csv")
        text = ways_described("reliability")
        parts.append(RELIABILITY.format(text=text, table=reliability_table(table), summary=cheapest(table)))
    if (folder / "peers" / "peers.csv").exists():
        table = pd.read_csv(folder / "peers" / "peers.csv", keep_default_na=False)
        machine = json.loads((folder / "peers" / "machine.json").read_text(encoding="utf-8"))
        on = f"one thread of {machine['processor']}, {machine['day']}"
        parts.append(PEERS.format(machine=on, table=peers_table(table)))
    if (folder / "crowded" / "crowded.csv").exists():
        table = pd.read_csv(folder / "crowded" / "crowded.csv")
        parts.append(CROWDED.format(text=ways_described("crowded"), table=crowded_table(table)))
    return parts


def section(name: str, found: Results) -> str:
    """Returns one experiment's part: what is compared, the ways, and the figure."""
    speed = found.comparison[found.comparison["kind"] == "speed"]
    more = "".join(f"\n{as_written(table)}\n" for table in (found.more or {}).values())
    return (
        f"## {TITLES[name]}\n\n{ways_described(name)}\n\n{OLDER if is_older(found.comparison) else ''}{ways_table(speed)}\n{more}\n"
        f"![{TITLES[name]}: cost by size](performance/{name}.png)\n\n{size_table(found.growth)}\n"
    )


def ways_described(name: str) -> str:
    """Returns what a benchmark's own docstring says of its ways, as it stands there."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    ways = text.partition("\n\n")[2]
    return f"```text\n{ways}\n```"


# ---------------------------------------------------------------------- files


def stored(folder: Path = RESULTS) -> dict[str, Results]:
    """Returns every benchmark's stored tables.

    Raises RunError when one was not measured.
    """
    return {name: read(folder / name) for name in NAMES}


def write_page(folder: Path = RESULTS, path: Path = PAGE) -> Path:
    """Writes the page and its figures from stored tables; returns its path."""
    found = stored(folder)
    path.write_text(page(found), encoding="utf-8")
    drawings = {name: plot_growth(one.growth, exponents(one.growth)) for name, one in found.items()}
    for image in write_images(drawings, path.with_suffix(""), ("png",), pixels_per_png_pixel=1.25):
        shrink_png(image)
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write_page()}\n")
