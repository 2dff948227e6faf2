"""The tables that a benchmark leaves: what each way cost, how the toolkit's own cost grows, and on which machine."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.stopwatch import measure, say
from interp.errors import RunError
from interp.tables import TableSchema, checked, may_lack

RESULTS = Path(__file__).with_name("results")
"""The committed tables: a folder for each benchmark."""


class ComparisonSchema(TableSchema):
    """One way of doing the work of a case, once. The first way of a case is the one the others are held against."""

    benchmark: str
    kind: str
    """speed, recording (what looking costs beside not looking) or memory."""
    case: str
    way: str
    side: str
    """toolkit or baseline."""
    repetition: int
    processor_seconds: float
    wall_seconds: float
    ratio: float
    """Processor seconds over those of the case's first way in the same repetition."""
    peak_mb: float = may_lack()
    """Peak of resident memory beyond its level at the start."""
    amount: float = may_lack()
    amount_name: str
    """How much was done, and of what: tokens read, pictures drawn."""
    difference: float = may_lack()
    difference_of: str
    """How far the result is from the first way's, and in what; NaN for the first way itself."""
    n_compared: int


class GrowthSchema(TableSchema):
    """The toolkit's own cost at one size, once."""

    benchmark: str
    curve: str
    """The column that names the size elsewhere in the toolkit: context_tokens, rollouts, steps."""
    size: int
    repetition: int
    processor_seconds: float
    wall_seconds: float
    peak_mb: float = may_lack()


@dataclass(frozen=True)
class Difference:
    """The largest difference between two ways' results, over `n` numbers, and the largest that is rounding."""

    of: str
    largest: float
    n: int
    tolerance: float


@dataclass(frozen=True)
class Machine:
    """Where and when a benchmark was run; no name and no path."""

    processor: str
    cores: int
    threads: int
    python: str
    torch: str
    transformers: str
    day: str
    minutes: float
    """Wall time of the whole benchmark."""

    @classmethod
    def here(cls, minutes: float) -> "Machine":
        """Returns this machine."""
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return cls(
            processor=names[0] if names else platform.machine(),
            cores=os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=version("transformers"),
            day=str(pd.Timestamp.now().date()),
            minutes=round(minutes, 1),
        )


@dataclass(frozen=True)
class Results:
    """What one benchmark measured."""

    comparison: pd.DataFrame
    growth: pd.DataFrame
    machine: Machine | None = None
    more: Mapping[str, pd.DataFrame] | None = None
    """Further small tables, by name."""


def compare(
    labels: Mapping[str, str],
    ways: Mapping[tuple[str, str], Callable[[], Any]],
    repetitions: int,
    difference: Callable[[Any, Any], Difference] | None,
    amount: Callable[[str, Any], float],
) -> list[dict[str, Any]]:
    """Returns the rows of one case: every way, by (side, name), as often as asked for, in turn.

    `labels` are model, benchmark, kind, case and amount_name; `difference` holds the first way's result against another's, unless the
    ways draw at random.
    Raises RunError when results differ by more than rounding: then seconds mean nothing.
    """
    rows: list[dict[str, Any]] = []
    for repetition in range(repetitions):
        first: Any = None
        for (side, way), work in ways.items():
            cost, result = measure(work)
            apart = Difference("", float("nan"), 0, 0.0)
            if first is None:
                first = cost, result
            elif difference is not None:
                apart = difference(first[1], result)
                if not apart.largest <= apart.tolerance:
                    raise RunError(f"{labels['case']}: {way} differs by {apart.largest:g} in {apart.of}.")
            ratio = cost.processor_seconds / first[0].processor_seconds
            rows.append(
                {
                    **labels, "side": side, "way": way, "repetition": repetition, **cost._asdict(), "ratio": ratio,
                    "amount": amount(way, result), "difference": apart.largest, "difference_of": apart.of,
                    "n_compared": apart.n,
                }
            )  # fmt: skip
            say(
                f"{labels['case']} | {way} | {cost.processor_seconds:.2f} s | times the first {ratio:.2f} | {cost.peak_mb:.0f} MB"
                f" | {apart.of} {apart.largest:.2g}"
            )
    return rows


def grow(
    labels: Mapping[str, str], sizes: Sequence[int], repetitions: int, prepare: Callable[[int], Callable[[], object]]
) -> list[dict[str, Any]]:
    """Returns the rows of one curve: the work of every size, all sizes in turn; what `prepare` does is not measured.

    `labels` are model, benchmark and curve.
    """
    rows = []
    for repetition in range(repetitions):
        for size in sizes:
            cost, _ = measure(prepare(size))
            rows.append({**labels, "size": size, "repetition": repetition, **cost._asdict()})
            say(f"{labels['curve']} {size} | {cost.processor_seconds:.2f} s | {cost.peak_mb:.0f} MB")
    return rows


def results(comparison: list[dict[str, Any]], growth: list[dict[str, Any]], **more: pd.DataFrame) -> Results:
    """Returns checked tables."""
    return Results(
        checked(pd.DataFrame(comparison), ComparisonSchema), checked(pd.DataFrame(growth), GrowthSchema), more=more
    )


def write(found: Results, folder: Path) -> None:
    """Replaces a benchmark's stored tables."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"comparison": found.comparison, "growth": found.growth, **(found.more or {})}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    if found.machine is not None:
        write_machine(found.machine, folder)


def write_machine(machine: Machine, folder: Path) -> None:
    """Writes where and when a benchmark was run."""
    (folder / "machine.json").write_text(json.dumps(asdict(machine), indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Results:
    """Returns a benchmark's stored tables.

    Raises RunError when there are none.
    """
    if not (folder / "machine.json").is_file():
        raise RunError(f"{folder.name} was not measured: python -m benchmarks {folder.name}")
    texts = {"difference_of": str}
    comparison = pd.read_csv(folder / "comparison.csv", dtype=texts, keep_default_na=False, na_values={
        "peak_mb": [""], "amount": [""], "difference": [""]
    })  # fmt: skip
    machine = Machine(**json.loads((folder / "machine.json").read_text(encoding="utf-8")))
    more = {
        path.stem: pd.read_csv(path, dtype=str, keep_default_na=False)
        for path in folder.glob("*.csv")
        if path.stem not in ("comparison", "growth")
    }
    return Results(
        checked(comparison, ComparisonSchema),
        checked(pd.read_csv(folder / "growth.csv"), GrowthSchema),
        machine,
        more,
    )
