"""Writing a comparison of several runs: its tables, its figures, and a page."""

import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path

from interp.experiments.experiment import Experiment
from interp.experiments.page import render_figure, render_page, render_table
from interp.tables import Tables, write_aside


def write_comparison(experiment: Experiment, runs: Mapping[str, Tables], out: Path) -> tuple[Path, str]:
    """Writes what an experiment says of several runs under `out`; returns the folder and the tables as text."""
    tables, figures = experiment.compare(runs)
    name = hashlib.sha256(" ".join(runs).encode()).hexdigest()[:12]
    folder = out / "comparisons" / experiment.name / name
    text = "\n\n".join(f"{name}\n{table.to_string(index=False)}" for name, table in tables.items())
    for name, table in tables.items():
        write_aside(
            folder / "tables" / f"{name}.parquet", lambda aside, table=table: table.to_parquet(aside, index=False)
        )
    title = f"{experiment.name}: {' · '.join(runs)}"
    sections = [
        f"<header><h1>{escape(title)}</h1></header><main>",
        "<h2>Figures</h2>",
        *(render_figure(name, figure) for name, figure in figures.items()),
        "<h2>Tables</h2>",
        *(render_table(name, table, file=f"tables/{name}.parquet") for name, table in tables.items()),
        "</main>",
    ]
    page = render_page(title, sections, figures=bool(figures))
    write_aside(folder / "report.html", lambda aside: aside.write_text(page, encoding="utf-8"))
    return folder, text
