"""The tables of the page on performance, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.crowded import NEIGHBOURS
from benchmarks.figure import SIZES
from benchmarks.growth import exponents, summarise
from benchmarks.tables import Results

TITLES = {
    "retrieval_heads": "Retrieval heads",
    "verbatim_memory": "Verbatim memory",
    "function_tokens": "Function tokens",
    "critical_tokens": "Critical tokens",
    "kv_policies": "KV policies",
    "t2i_flow": "Text-to-image flow",
    "byte_bias": "Bytes of a token model",
    "context_recall": "Context recall",
}
SCRIPTS = {"baseline": "used well", "obvious": "written first"}
"""Sides of a comparison that are not the toolkit's, in words."""
ENOUGH = 0.9
"""Agreement of two repeats from which a result has stopped changing."""


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


def _rows(table: pd.DataFrame) -> Any:
    """Rows as named tuples, whose columns no type checker knows."""
    return table.itertuples()


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
        for row in _rows(summarise(growth).rename(columns={"size": "n_size"}))
    ]
    return markdown(["by", "size", "processor seconds", "repetitions", "peak MB"], rows)


def exponent_table(growth: pd.DataFrame) -> str:
    """One row for each curve."""
    ranges = growth.groupby(["benchmark", "curve"], sort=False)["size"].agg(["min", "max"])
    rows = []
    for row in _rows(exponents(growth)):
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
        for row in _rows(table)
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
    """One row for each tool, then what explains differences that are no rounding."""
    rows = [
        [
            row.peer, f"`{row.version}`" if row.version else "of constraints.txt", row.quantity,
            f"{float(row.largest_difference):.2g} of {int(row.n_compared):,}",
            f"{int(row.n_differing):,}", f"{float(row.our_seconds):.3g}",
            f"{float(row.their_seconds):.3g}", f"{float(row.ratio):.2f}", f"{int(row.runs)}",
        ]
        for row in _rows(table)
    ]  # fmt: skip
    head = [
        "tool",
        "version",
        "what",
        "largest difference",
        "beyond rounding",
        "our seconds",
        "their seconds",
        "ratio",
        "runs",
    ]
    reasons = [f"- **{row.peer}** means something else: {row.differs}." for row in _rows(table) if row.differs]
    return "\n".join([markdown(head, rows), "", *reasons]).rstrip()


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
    place: Any = part["difference"].idxmax()
    worst = part.loc[place]
    return f"{worst['difference']:.2g} ({worst['difference_of']}, {worst['n_compared']:,} compared)"


def megabytes(value: float) -> str:
    """A number of MB, or a dash where it is not known."""
    return "—" if pd.isna(value) else f"{value:,.0f}"


def _short(text: str) -> str:
    try:
        return f"{float(text):.2g}" if "." in text else text
    except ValueError:
        return text
