"""The page on performance, from the stored tables alone: `python -m benchmarks.page` measures nothing.

Writes docs/performance.md and the figures in docs/performance.
"""

import ast
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import NAMES
from benchmarks.crowded import NEIGHBOURS
from benchmarks.growth import exponents, summarise
from benchmarks.tables import RESULTS, Results, read
from figures.performance import SIZES, plot_growth
from interp.experiments.export import shrink_png, write_images

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
TITLES = {
    "retrieval_heads": "Retrieval heads",
    "verbatim_memory": "Verbatim memory",
    "function_tokens": "Function tokens",
    "critical_tokens": "Critical tokens",
    "t2i_flow": "Text-to-image flow",
}
SCRIPTS = {"baseline": "used well", "obvious": "written first"}
"""Sides of a comparison that are not the toolkit's, in words."""
OLDER = (
    "**Not measured again yet:** the table is older than this description. Its baseline is the script called *obvious* here; the one that "
    "uses the libraries well was only run in small sizes, where its results are the same.\n\n"
)
ENOUGH = 0.9
"""Agreement of two repeats from which a result has stopped changing."""
NO_GPU = "No GPU and no second model was timed: on other hardware the ratios are others."

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

`make peers` puts each tool in a virtual environment of its own, pinned, and gives it the same tokens of the same model. The largest
difference is over all numbers; the ratio is their processor seconds over ours, {machine}.

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


# ---------------------------------------------------------------------- tables


def glance(comparison: pd.DataFrame) -> str:
    """One row for each script: its ratio to the toolkit, and how far its results are."""
    speed = comparison[(comparison["kind"] == "speed") & comparison["side"].isin(list(SCRIPTS))]
    rows = [
        [TITLES[str(benchmark)], str(case), SCRIPTS[str(side)], str(way), spread(part["ratio"], "{:.2f}"), apart(part)]
        for (benchmark, case, side, way), part in speed.groupby(["benchmark", "case", "side", "way"], sort=False)
    ]
    return markdown(["experiment", "work", "script", "what it does", "times the toolkit", "results differ by"], rows)


def ways_table(comparison: pd.DataFrame) -> str:
    """One row for each way of each case."""
    rows = [
        [
            str(case),
            str(way),
            spread(part["processor_seconds"], "{:.3g}"),
            spread(part["ratio"], "{:.2f}"),
            f"{part['wall_seconds'].median():.3g}",
            megabytes(part["peak_mb"].median()),
            f"{part['amount'].iloc[0]:,.0f} {part['amount_name'].iloc[0]}",
            apart(part),
        ]
        for (case, way), part in comparison.groupby(["case", "way"], sort=False)
    ]
    names = [
        "work", "way", "processor seconds", "times the first way", "wall seconds", "peak MB", "amount",
        "results differ by",
    ]  # fmt: skip
    return markdown(names, rows)


def size_table(growth: pd.DataFrame) -> str:
    """One row for each size of each curve."""
    rows = [
        [
            SIZES[row.curve],
            f"{row.n_size:,}",
            f"{row.seconds:.3g} ({row.seconds_low:.3g}–{row.seconds_high:.3g})" if row.n > 1 else f"{row.seconds:.3g}",
            str(row.n),
            megabytes(row.peak_mb),
        ]
        for row in summarise(growth).rename(columns={"size": "n_size"}).itertuples()
    ]
    return markdown(["by", "size", "processor seconds", "repetitions", "peak MB"], rows)


def exponent_table(growth: pd.DataFrame) -> str:
    """One row for each curve."""
    ranges = growth.groupby(["benchmark", "curve"], sort=False)["size"].agg(["min", "max"])
    rows = []
    for row in exponents(growth).itertuples():
        smallest, largest = ranges.loc[(row.benchmark, row.curve)]
        rows.append(
            [
                TITLES[str(row.benchmark)], SIZES[str(row.curve)], f"{smallest:,} to {largest:,}",
                f"{row.exponent:.2f} ({row.exponent_low:.2f}–{row.exponent_high:.2f})", f"{row.exponent_last:.2f}",
            ]
        )  # fmt: skip
    return markdown(["experiment", "by", "sizes", "exponent", "at the largest two"], rows)


def reliability_table(table: pd.DataFrame) -> str:
    """One row for each protocol and size."""
    rows = [
        [
            row.result, row.protocol, f"{row.agreement:.2f} ({row.low:.2f}–{row.high:.2f})", f"{row.prompts:,.0f}",
            "—" if pd.isna(row.tokens) else f"{row.tokens:,.0f}", f"{row.processor_seconds:,.0f}",
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    names = ["result", "protocol", "agreement of two repeats", "prompts or rollouts", "tokens", "processor seconds"]
    return markdown(names, rows)


def cheapest(table: pd.DataFrame) -> str:
    """One sentence for each result: the cheapest protocol whose repeats agree to nine tenths, and the published one."""
    sentences = []
    for result, part in table.groupby("result", sort=False):
        enough = part[part["agreement"] >= ENOUGH].sort_values("processor_seconds")
        if len(enough):
            best = enough.iloc[0]
            found = f"{best['protocol']}, {best['processor_seconds']:,.0f} processor seconds (agreement {best['agreement']:.2f})"
        else:
            best = part.sort_values("agreement").iloc[-1]
            found = f"none of these; the best was {best['protocol']} (agreement {best['agreement']:.2f})"
        sentences.append(
            f"- **{str(result).capitalize()}**, cheapest protocol whose repeats agree to nine tenths: {found}."
        )
    return "\n".join(sentences)


def peers_table(table: pd.DataFrame) -> str:
    """One row for each tool."""
    rows = [
        [
            row.peer, f"`{row.version}`" if row.version else "of constraints.txt", row.quantity,
            f"{float(row.largest_difference):.2g} of {int(row.n_compared):,}", f"{float(row.our_seconds):.3g}",
            f"{float(row.their_seconds):.3g}", f"{float(row.ratio):.2f}",
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    return markdown(["tool", "version", "what", "largest difference", "our seconds", "their seconds", "ratio"], rows)


def crowded_table(table: pd.DataFrame) -> str:
    """One row for each way: seconds of a unit alone and beside the busy processes."""
    rows = []
    for way, part in table.groupby("way", sort=False):
        alone, beside = (part[part["neighbours"] == busy]["seconds"] for busy in (0, NEIGHBOURS))
        threads = "/".join(str(n) for n in part.groupby("neighbours")["threads"].first())
        rows.append(
            [
                str(way),
                threads,
                spread(alone, "{:.1f}"),
                spread(beside, "{:.1f}"),
                f"{beside.median() / alone.median():.1f}",
            ]
        )
    return markdown(["way", "threads, alone/beside", "seconds alone", "seconds beside five", "times as long"], rows)


def machine_table(found: Mapping[str, Results]) -> str:
    """One row for each benchmark."""
    rows = [
        [
            TITLES[name], f"{one.processor}, {one.cores} cores", str(one.threads), one.python, one.torch, one.transformers,
            one.day, f"{one.minutes:.1f}",
        ]
        for name, results in found.items()
        if (one := results.machine) is not None
    ]  # fmt: skip
    names = ["experiment", "processor", "threads", "Python", "torch", "transformers", "day", "minutes, wall"]
    return markdown(names, rows)


def as_written(table: pd.DataFrame) -> str:
    """A stored table, its column names in words; numbers of many digits are cut."""
    rows = [[_short(str(value)) for value in row] for row in table.itertuples(index=False)]
    return markdown([str(name).replace("_", " ") for name in table], rows)


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: pd.Series, form: str) -> str:
    """A median, with the range in brackets where there is more than one."""
    if len(values) == 1:
        return form.format(values.iloc[0])
    return f"{form.format(values.median())} ({form.format(values.min())}–{form.format(values.max())})"


def apart(part: pd.DataFrame) -> str:
    """How far results are, in what, over how many numbers."""
    if part["difference"].isna().all():
        return "—"
    worst = part.loc[part["difference"].idxmax()]
    return f"{worst['difference']:.2g} ({worst['difference_of']}, {worst['n_compared']:,} compared)"


def megabytes(value: float) -> str:
    """A number of MB, or a dash where it is not known."""
    return "—" if pd.isna(value) else f"{value:,.0f}"


def _short(text: str) -> str:
    try:
        return f"{float(text):.2g}" if "." in text else text
    except ValueError:
        return text


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
