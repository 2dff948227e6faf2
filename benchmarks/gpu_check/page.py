"""The table of a card, kept as parquet and as Markdown, and the section of docs/performance.md that shows every one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.gpu_check.card import Card
from benchmarks.gpu_check.verdicts import Row
from benchmarks.page_tables import markdown
from benchmarks.tables import RESULTS

PLACE = RESULTS / "gpu_check"
"""The committed tables: one for each card."""
HEAD = """## On a GPU

`make gpu-check` measures the toolkit on one GPU at the sizes of real models with random weights; [](gpu.md) says what each row means.
"""
NONE_YET = """
No table yet: nobody has run it on a card, so no number on this page is a GPU's.
"""


def frame(rows: Sequence[Row], card: Card) -> pd.DataFrame:
    """Returns the table: one row for each number, and one for each check that gave none; the card's name comes first."""
    table = pd.DataFrame([asdict(row) for row in rows]).astype({"value": float, "peak_gb": float})
    facts = {
        "card": card.name, "precision": str(card.dtype).removeprefix("torch."), "torch": torch.__version__,
        "transformers": version("transformers"), "diffusers": version("diffusers"), "day": str(pd.Timestamp.now().date()),
    }  # fmt: skip
    for place, (name, value) in enumerate(facts.items()):
        table.insert(place, name, value)
    return table


def write(table: pd.DataFrame, folder: Path) -> Path:
    """Writes the table as parquet and as Markdown, named by its card; returns the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "_", str(table["card"].iloc[0]).lower()).strip("_")
    table.to_parquet(folder / f"{name}.parquet", index=False)
    path = folder / f"{name}.md"
    path.write_text(f"# {title(table)}\n\n{as_markdown(table)}\n", encoding="utf-8")
    return path


def title(table: pd.DataFrame) -> str:
    """Returns the card's name, and with what it was measured."""
    first = table.iloc[0]
    return f"{first['card']}, {first['precision']}, torch {first['torch']}, transformers {first['transformers']}, {first['day']}"


def as_markdown(table: pd.DataFrame) -> str:
    """Returns the rows in Markdown."""
    names = ["check", "shape", "what", "value", "bound", "verdict", "note", "seconds", "peak GB"]
    rows: Any = table.itertuples()
    lines = [
        [
            row.check, row.shape, row.quantity or "—", f"{_number(row.value)} {row.unit}".strip(), row.bound or "—",
            f"**{row.verdict}**" if row.verdict == "fails" else row.verdict, row.why.replace("|", "∣") or "—",
            _number(row.seconds), _number(row.peak_gb),
        ]
        for row in rows
    ]  # fmt: skip
    return markdown(names, lines)


def section(folder: Path = PLACE) -> str:
    """Returns the section on GPUs, with the table of every card that is stored, or that there is none."""
    tables = [pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))]
    parts = [f"\n### {title(table)}\n\n{summary(table['verdict'])}.\n\n{as_markdown(table)}\n" for table in tables]
    return HEAD + ("".join(parts) or NONE_YET)


def summary(verdicts: Iterable[str]) -> str:
    """Returns how many rows have each verdict."""
    return ", ".join(f"{n} {verdict}" for verdict, n in pd.Series(list(verdicts)).value_counts().items())


def _number(value: float) -> str:
    return "—" if pd.isna(value) else f"{value:.3g}"
