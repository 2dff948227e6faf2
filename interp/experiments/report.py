"""report.html: a self-contained page with everything a run found, or with a comparison of several runs."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.experiments.experiment import Experiment, Finding
from interp.experiments.page import duration_in_words, is_wide, render
from interp.tables import Tables, write_aside

if TYPE_CHECKING:
    from interp.experiments.run import Run


MANY_SENTENCES = 10
"""With more than so many, two figures stand beside them."""


def write_report(run: "Run") -> Path:
    """Writes the run's report.html; returns its path."""
    path = run.folder / "report.html"
    page = render_report(run)
    write_aside(path, lambda aside: aside.write_text(page, encoding="utf-8"))
    return path


def render_report(run: "Run") -> str:
    """Returns the page: the findings beside the first figure, then everything else about the run."""
    findings = run.experiment.findings(run.tables)
    warnings = [finding.text for finding in findings if finding.kind == "warning"]
    drawn = list(run.figures.items())
    n_leads = 1 + (len(findings) > MANY_SENTENCES and len(drawn) > 1 and not any(is_wide(one) for _, one in drawn[:2]))
    versions = {name: version for name, version in run.description["versions"].items() if version is not None}
    there = {
        "What was found": True,
        "Warnings": bool(warnings),
        "Figures": len(drawn) > n_leads,
        **dict.fromkeys(("Tables", "Model", "Settings", "How to repeat it", "How to cite"), True),
    }
    return render(
        "report.html",
        title=f"{run.experiment.name} · {run.folder.parent.name}",
        sections=[section for section, is_there in there.items() if is_there],
        run=run,
        question=question_of(run.experiment),
        subtitle=_subtitle(run),
        found=_grouped([finding for finding in findings if finding.kind == "result"]),
        warnings=warnings,
        figures=run.figures,
        leads=dict(drawn[:n_leads]),
        others=dict(drawn[n_leads:]),
        meanings={name: _row_meaning(schema) for name, schema in run.experiment.schemas().items()},
        model=_model_facts(run.description),
        settings=_settings(run.experiment),
        python=_python(run.experiment),
        measured_with={key: run.description.get(key) for key in ("device", "engine", "started", "finished")} | versions,
        toolkit=f"interp {versions['interp']}"
        + (f", commit {versions['git_commit']}" if "git_commit" in versions else ""),
    )


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
    parts.append(f"measured in {duration_in_words(seconds)}, {len(run.description.get('unit_seconds', {}))} units")
    parts.append(f"run {run.folder.name}")
    return " · ".join(parts)


def _grouped(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """The sentences by the one thing of several (a dictionary, a checkpoint) that they are about; what is about all first."""
    groups: dict[str, list[str]] = {}
    for finding in sorted(findings, key=lambda finding: bool(finding.about)):
        groups.setdefault(finding.about, []).append(finding.text.removeprefix(f"{finding.about}: "))
    return groups


def _row_meaning(schema: type) -> str:
    return " ".join((schema.__doc__ or "").split("\n\n")[0].replace("`", "").split())


def _source(identity: Mapping[str, Any]) -> str:
    """Where the weights came from; for an adapter, what it was merged onto too."""
    base = identity.get("base")
    return f"{identity['source']} on {base['source']} ({base['revision'][:12]})" if base else identity["source"]


def _model_facts(description: Mapping[str, Any]) -> dict[str, Any]:
    model = description["model"]
    identity, geometry = model["identity"], model["geometry"] or {}
    return {
        "name": identity["name"],
        "source": _source(identity),
        "revision": identity["revision"],
        "precision": identity["dtype"],
        "architecture": model["model_type"],
        "layers": geometry.get("n_layers"),
        "heads per layer": geometry.get("n_heads"),
        "key-value heads per layer": geometry.get("n_kv_heads"),
        "head dimension": geometry.get("head_dim"),
        "context window (tokens)": model["context_window"],
    }


def _settings(experiment: Experiment) -> list[tuple[str, str, str]]:
    """Every setting with its value; where that differs from the default, the default too."""
    values, defaults = experiment.configuration(), type(experiment)().configuration()
    return [
        (name, _setting(value), "" if value == defaults[name] else f"default {_setting(defaults[name])}")
        for name, value in values.items()
    ]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else str(value)


def _python(experiment: Experiment) -> str:
    """The run as a call from Python, with the settings that differ from their defaults."""
    kind, default = type(experiment), type(experiment)()
    settings = {field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)}
    changed = {name: value for name, value in settings.items() if value != getattr(default, name)}
    call = f"{kind.__name__}({', '.join(f'{name}={_literal(value)}' for name, value in changed.items())})"
    return f"from {kind.__module__} import {kind.__name__}\n\nrun = {call}.run()\nrun.tables, run.figures, run.folder"


def _literal(value: Any) -> str:
    """A setting as Python code has it."""
    return repr(str(value) if isinstance(value, Path) else value)


# ---------------------------------------------------------------------- a comparison of several runs


def write_comparison(experiment: Experiment, runs: Mapping[str, Tables], out: Path) -> tuple[Path, str]:
    """Writes an experiment's comparison of several runs under `out`; returns the folder and the tables as text."""
    tables, figures = experiment.compare(runs)
    name = hashlib.sha256(" ".join(runs).encode()).hexdigest()[:12]
    folder = out / "comparisons" / experiment.name / name
    text = "\n\n".join(f"{name}\n{table.to_string(index=False)}" for name, table in tables.items())
    for name, table in tables.items():
        write_aside(
            folder / "tables" / f"{name}.parquet", lambda aside, table=table: table.to_parquet(aside, index=False)
        )
    page = render(
        "comparison.html",
        title=f"{experiment.name}: {' · '.join(runs)}",
        sections=[],
        figures=figures,
        tables=tables,
    )
    write_aside(folder / "report.html", lambda aside: aside.write_text(page, encoding="utf-8"))
    return folder, text
