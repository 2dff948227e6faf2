"""A finished run: its folder, its tables, its figures."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interp.errors import ArgumentError, RunError, did_you_mean
from interp.experiments.bounds import check_value, types_of
from interp.experiments.catalogue import find_experiment
from interp.experiments.experiment import Experiment, Finding

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.store import StoredTables
    from interp.tables import Tables


@dataclass(frozen=True)
class Run:
    """One run, read from its folder; nothing is measured here."""

    folder: Path
    experiment: Experiment
    description: Mapping[str, Any]
    """What run.json says."""

    @cached_property
    def tables(self) -> "StoredTables":
        """The tables, each read on access: `run.tables["head_scores"]`."""
        from interp.experiments.store import StoredTables

        return StoredTables(self.folder, self.experiment.schemas(), _mapping(self.description.get("table_sha256")))

    @cached_property
    def figures(self) -> "Mapping[str, go.Figure]":
        """The figures, drawn from the tables: `run.figures["head_map"].show()`."""
        return self.experiment.figures(self.tables)

    @cached_property
    def findings(self) -> Sequence[Finding]:
        """The headlines and warnings: `for finding in run.findings: print(finding.text)`."""
        return self.experiment.findings(self.tables)

    def __repr__(self) -> str:
        """Says which run it is."""
        return f"<{self.experiment.name} on {self.folder.parent.name}: {self.folder}>"

    def _repr_html_(self) -> str:
        """Shows headlines, warnings and table names in a notebook."""
        sentences = "".join(
            f"<li>{'<b>Warning:</b> ' if finding.kind == 'warning' else ''}{escape(finding.text)}</li>"
            for finding in self.findings
        )
        return (
            f"<p><b>{escape(self.experiment.name)} · {escape(self.folder.parent.name)}</b></p><ul>{sentences}</ul>"
            f"<p>tables: {escape(', '.join(self.tables))}<br>figures: {escape(', '.join(self.figures))}<br>"
            f"report: <code>{escape(str(self.folder / 'report.html'))}</code></p>"
        )

    @property
    def label(self) -> str:
        """A short name for comparisons: the model, and the first digits of the run's hash."""
        return f"{self.folder.parent.name} {self.folder.name[:6]}"


def compare(*runs: Run) -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
    """Returns tables and figures that compare finished runs of one experiment.

    Raises ArgumentError for fewer than two runs, or runs of different experiments.
    """
    if len(runs) < 2:
        raise ArgumentError("There is nothing to compare: give two or more runs.")
    names = sorted({run.experiment.name for run in runs})
    if len(names) > 1:
        raise ArgumentError(f"These are runs of {', '.join(names)}: compare runs of one experiment.")
    return runs[0].experiment.compare(labelled((run.label, str(run.folder), run.tables) for run in runs))


def labelled(sides: "Iterable[tuple[str, str, Tables]]") -> "dict[str, Tables]":
    """Returns the tables of a comparison by label, from (label, place, tables); sides of one label are told apart by their places.

    Raises ArgumentError for a side that is given again and again.
    """
    found: dict[str, Tables] = {}
    for label, place, tables in sides:
        own = label if label not in found else f"{label} ({place})"
        if own in found:
            raise ArgumentError(f"{place} is given more than twice: compare it with others.")
        found[own] = tables
    return found


def open_run(place: str | Path, out: Path = Path("runs")) -> Run:
    """Returns the finished run in a folder, or the one under `out` whose hash begins with the given digits.

    Raises ArgumentError when there is none, more than one, or it is not finished.
    """
    from interp.experiments.store import read_description

    folder = _find_folder(str(place), out)
    description = read_description(folder)
    if not description:
        raise ArgumentError(f"{folder} holds no run.json: name a run's folder, or the first digits of its hash.")
    if description.get("status") != "done":
        raise ArgumentError(f"{folder} is not finished ({description.get('status')}): {description.get('command', '')}")
    identity = _mapping(_mapping(description.get("model")).get("identity"))
    if not {"experiment", "schema_version", "configuration"} <= description.keys() or not identity:
        raise RunError(f"{folder / 'run.json'} is not what a run writes: delete it and run the same command again.")
    return Run(folder, experiment_of(description), description)


def experiment_of(description: Mapping[str, Any]) -> Experiment:
    """Returns the experiment that a run.json describes, with its configuration."""
    kind = find_experiment(str(description["experiment"]))
    if kind.schema_version != description["schema_version"]:
        raise ArgumentError(
            f"This run's tables are of version {description['schema_version']} and this toolkit's of {kind.schema_version}: run "
            "it again."
        )
    return configured(kind, _mapping(description["configuration"]))


Kind = TypeVar("Kind")


def configured(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Returns settings with the given field values, as TOML or JSON have them: lists become tuples, texts paths.

    `kind` is a dataclass with a `name`, such as an experiment.
    Raises ArgumentError for a field that it does not have or a value that it cannot take.
    """
    named: Any = kind
    fields = {field.name: field for field in dataclasses.fields(named)}
    for name in values:
        if name not in fields:
            raise ArgumentError(f"{named.name} has no setting {name}.{did_you_mean(name, list(fields))}")
    return kind(**{name: _as_field(kind, name, value) for name, value in values.items()})


def with_checked_settings(experiment: Experiment) -> Experiment:
    """Returns the experiment with every value converted to its field's type, which Python itself does not check.

    Raises ArgumentError for a value that a field cannot take.
    """
    values = {field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)}
    return configured(type(experiment), values)


def _as_field(kind: Any, name: str, value: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if isinstance(value, str) and "\0" in value:
        raise ArgumentError(f"{kind.name}: {name} cannot be {value!r}: no name has such a character.")
    wanted_type = types_of(kind)[name]
    check_value(name, value, wanted_type)
    try:
        return TypeAdapter(wanted_type).validate_python(value)
    except ValidationError as error:
        wanted = error.errors()[0]["msg"].removeprefix("Input ").removeprefix("should be ")
        raise ArgumentError(f"{kind.name}: {name} cannot be {value!r}; it must be {wanted}.") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is one of names to values; nothing where a file has something else in its place."""
    return value if isinstance(value, dict) else {}


def _find_folder(place: str, out: Path) -> Path:
    if Path(place).is_dir():
        return Path(place)
    found = sorted(path.parent for path in out.glob(f"*/*/{place}*/run.json")) if place.isalnum() else []
    if len(found) == 1:
        return found[0]
    if found:
        raise ArgumentError(f"{place} may be any of {', '.join(map(str, found))}: give more digits or the folder.")
    raise ArgumentError(f"There is no run {place} here: name its folder, or the first digits of its hash under {out}.")
