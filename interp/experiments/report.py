"""report.html: one page with everything a run found, or with a comparison of several, that opens anywhere without a network."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.experiments.experiment import Experiment, Finding
from interp.experiments.page import (
    figure_title,
    render_duration,
    render_fact_rows,
    render_facts,
    render_figure,
    render_list,
    render_page,
    render_sections,
    render_table,
)
from interp.tables import Tables, write_aside

if TYPE_CHECKING:
    from interp.experiments.run import Run

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def write_report(run: "Run") -> Path:
    """Writes the run's report.html; returns its path."""
    path = run.folder / "report.html"
    page = render_report(run)
    write_aside(path, lambda aside: aside.write_text(page, encoding="utf-8"))
    return path


def render_report(run: "Run") -> str:
    """Returns the page: question, findings, warnings, figures, tables, model, settings, how to repeat and to cite the run."""
    findings = run.experiment.findings(run.tables)
    warnings = [finding.text for finding in findings if finding.kind == "warning"]
    sections = {
        "What was found": render_results([finding for finding in findings if finding.kind == "result"]),
        "Warnings": render_list(warnings, "warnings") if warnings else "",
        "Figures": _figures(run),
        "Tables": _tables(run),
        "Model": render_facts(_model_facts(run.description), "Identity and size"),
        "Settings": _settings(run.experiment),
        "How to repeat it": _repeat(run),
        "How to cite": _cite(run),
    }
    title = f"{run.experiment.name} · {run.folder.parent.name}"
    return render_page(
        title,
        [
            "<a class='skip' href='#what-was-found'>Skip to what was found</a>",
            f"<header><h1>{escape(title)}</h1><p class='lead'>{escape(question_of(run.experiment))}</p>"
            f"<p class='soft'>{escape(_subtitle(run))}</p></header>",
            *render_sections(sections),
        ],
        figures=True,
    )


# ---------------------------------------------------------------------- head


def question_of(experiment: Experiment) -> str:
    """Returns the question an experiment asks: the first line of its class's docstring."""
    return (type(experiment).__doc__ or experiment.summary).strip().splitlines()[0]


def _subtitle(run: "Run") -> str:
    identity = run.description["model"]["identity"]
    parts = [f"{identity['name']} in {identity['dtype']} on {run.description.get('device')}"]
    if run.description.get("finished"):
        finished = datetime.fromisoformat(run.description["finished"])
        parts.append(f"finished {finished:%Y-%m-%d %H:%M} UTC")
    seconds = float(sum(run.description.get("unit_seconds", {}).values()))
    parts.append(f"measured in {render_duration(seconds)}, {len(run.description.get('unit_seconds', {}))} units")
    parts.append(f"run {run.folder.name}")
    return " · ".join(parts)


# ---------------------------------------------------------------------- findings, figures, tables


def render_results(findings: Sequence[Finding]) -> str:
    """Returns the sentences, those about one thing of several (a dictionary, a checkpoint) under its name."""
    groups: dict[str, list[str]] = {}
    for finding in findings:
        groups.setdefault(finding.about, []).append(finding.text.removeprefix(f"{finding.about}: "))
    return "".join(
        (f"<h3>{escape(about)}</h3>" if about else "") + render_list(groups[about], "findings")
        for about in sorted(groups, key=bool)  # what is about all first
    )


def _figures(run: "Run") -> str:
    links = "".join(
        f"<li><a href='#figure-{escape(name)}'>{escape(figure_title(name, figure))}</a></li>"
        for name, figure in run.figures.items()
    )
    drawn = "".join(render_figure(name, figure) for name, figure in run.figures.items())
    return f"<nav aria-label='Figures'><ul>{links}</ul></nav>{drawn}" if drawn else ""


def _tables(run: "Run") -> str:
    schemas = run.experiment.schemas()
    return "<p>Open a table to search, sort and download it.</p>" + "".join(
        render_table(name, frame, about=_row_meaning(schemas[name]), file=f"tables/{name}.parquet")
        for name, frame in run.tables.items()
    )


def _row_meaning(schema: type) -> str:
    return " ".join((schema.__doc__ or "").split("\n\n")[0].replace("`", "").split())


# ---------------------------------------------------------------------- facts


def _model_facts(description: Mapping[str, Any]) -> dict[str, Any]:
    model = description["model"]
    identity, geometry = model["identity"], model["geometry"] or {}
    return {
        "name": identity["name"],
        "source": identity["source"],
        "revision": identity["revision"],
        "precision": identity["dtype"],
        "architecture": model["model_type"],
        "layers": geometry.get("n_layers"),
        "heads per layer": geometry.get("n_heads"),
        "key-value heads per layer": geometry.get("n_kv_heads"),
        "head dimension": geometry.get("head_dim"),
        "context window (tokens)": model["context_window"],
    }


def _settings(experiment: Experiment) -> str:
    """Every setting; those that differ from their default are set bold, with the default beside them."""
    values, defaults = experiment.configuration(), type(experiment)().configuration()
    rows = ""
    for field in dataclasses.fields(experiment):
        value, default = values[field.name], defaults[field.name]
        changed, beside = ("changed", f"default {_setting(default)}") if value != default else ("", "")
        rows += (
            f"<tr class='{changed}'><th scope='row'>{escape(field.name)}</th><td>{escape(_setting(value))}</td>"
            f"<td class='soft'>{escape(beside)}</td></tr>"
        )
    return render_fact_rows(rows, "Settings, bold where they differ from the default")


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else str(value)


def _repeat(run: "Run") -> str:
    kind = type(run.experiment)
    changed = {
        field.name: getattr(run.experiment, field.name)
        for field in dataclasses.fields(run.experiment)
        if getattr(run.experiment, field.name) != getattr(kind(), field.name)
    }
    call = f"{kind.__name__}({', '.join(f'{name}={_literal(value)}' for name, value in changed.items())})"
    python = f"from {kind.__module__} import {kind.__name__}\n\nrun = {call}.run()\nrun.tables, run.figures, run.folder"
    versions = {key: value for key, value in run.description["versions"].items() if value is not None}
    started = {key: run.description.get(key) for key in ("device", "engine", "started", "finished")}
    return (
        f"<p>From the shell:</p><pre>{escape(str(run.description.get('command')))}</pre>"
        f"<p>The same from Python:</p><pre>{escape(python)}</pre>"
        "<p>Its figures for a paper, drawn again from the tables:</p>"
        f"<pre>python -m interp.experiments figures {escape(run.folder.name)} --format pdf svg png</pre>"
        + render_facts({**started, **versions}, "Where and with what it was measured")
    )


def _literal(value: Any) -> str:
    """A setting as Python code has it."""
    return repr(str(value) if isinstance(value, Path) else value)


def _cite(run: "Run") -> str:
    paper = _ARXIV.sub(r"<a href='https://arxiv.org/abs/\1'>\g<0></a>", escape(run.experiment.paper))
    versions = run.description["versions"]
    toolkit = f"interp {versions['interp']}" + (f", commit {versions['git_commit']}" if versions["git_commit"] else "")
    return (
        f"<p>The method: {paper}</p>"
        f"<p>The measurement: {escape(toolkit)}, experiment {escape(run.experiment.name)} (tables version "
        f"{run.experiment.schema_version}), run {escape(run.folder.name)}.</p>"
    )


# ---------------------------------------------------------------------- a comparison of several runs


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
