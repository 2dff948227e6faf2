"""The atlas: every experiment that applies to a model, run with one configuration, and questions across their runs.

Each experiment is an ordinary run: finished ones are read, unfinished ones resumed. The atlas itself is a folder
beside them, with an index of the runs, their findings and one page:

    runs/atlas/<model>/<hash12>/
        atlas.json                configuration, model, versions, and what became of each experiment
        tables/<table>.parquet    members, sentences, answers
        figures/<name>.html       those that the page shows
        report.html
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import RunError, UserError
from interp.experiments.atlas_settings import Atlas, configured_experiments, read_configuration
from interp.experiments.atlas_tables import SCHEMAS, Member, Outcome, gathered
from interp.experiments.catalogue import joins
from interp.experiments.experiment import Experiment
from interp.experiments.join import ANSWERS
from interp.experiments.options import RunOptions
from interp.experiments.page import duration_in_words, render
from interp.experiments.report import question_of
from interp.experiments.runner import check_kind, check_usable, facts_of, run_experiment
from interp.models.identity import ModelFacts
from interp.models.loading.names import ModelKind, known_kind
from interp.tables import write_aside, write_table

if TYPE_CHECKING:
    import plotly.graph_objects as go

SENTENCES, FIGURES = 4, 2
"""Sentences and figures of each experiment that are there at first sight: the first ones of its own report."""


def run_atlas(atlas: Atlas, options: RunOptions, tell: Callable[[str], None]) -> Outcome:
    """Runs every experiment that applies to the model, one after the other, and writes the atlas.

    `tell` is given one line per experiment. One that fails does not keep the others from being run: `failed` names it.
    Raises UserError for settings that cannot be meant or a model that is not there.
    """
    tables = read_configuration(atlas.config)[1] if atlas.config else {}
    configured = configured_experiments(atlas, tables)
    started = _now()
    facts = _facts(atlas, configured, options)
    members: dict[str, Member] = {}
    for name in _in_order(configured):
        experiment, lacking = _with_runs(configured[name], members)
        member = lacking or _member(experiment, options, asked_for=name in tables)
        members[name] = member
        tell(f"{name}: {member.status}{': ' if member.why else ''}{member.why}")
    ordered = tuple(members[name] for name in configured)
    record = _record(atlas, configured, facts, ordered, options, started)
    folder = options.out / "atlas" / facts.name / _name(configured, facts)
    outcome = Outcome(atlas, facts, folder, ordered, record)
    _write(outcome, options.out)
    return outcome


# ---------------------------------------------------------------------- members


def _in_order(configured: Mapping[str, Experiment]) -> list[str]:
    """All names, those first whose runs others read; else as they come."""
    order: list[str] = []
    waiting = list(configured)
    while waiting:
        ready = [name for name in waiting if not set(configured[name].reads.values()) & set(waiting)]
        if not ready:
            raise ValueError(f"{', '.join(waiting)} read each other's runs")
        order += ready
        waiting = [name for name in waiting if name not in ready]
    return order


def _with_runs(experiment: Experiment, members: Mapping[str, Member]) -> tuple[Experiment, Member | None]:
    """The experiment with the runs of this atlas in the settings that read them; and for a join that lacks one, its end."""
    found, missing = {}, []
    for setting, name in experiment.reads.items():
        if getattr(experiment, setting) is not None:
            continue
        member = members.get(name)
        if member is not None and member.run is not None:
            found[setting] = member.run.folder
        else:
            missing.append(f"{name} ({'failed' if member and member.status == 'failed' else 'does not apply'})")
    experiment = dataclasses.replace(experiment, **found)
    if missing and experiment.name in joins():
        why = f"It joins runs that are not there: {', '.join(missing)}."
        return experiment, Member(experiment, "does not apply", why)
    return experiment, None


def _member(experiment: Experiment, options: RunOptions, *, asked_for: bool) -> Member:
    """Runs one experiment. One that has a table of its own in the file was asked for: a refusal of it is a failure."""
    try:
        check_kind(experiment)
    except UserError as refusal:
        return Member(experiment, "does not apply", str(refusal))
    try:
        check_usable(experiment, facts_of(experiment, options))
    except UserError as refusal:
        return Member(experiment, "failed" if asked_for else "does not apply", str(refusal))
    try:
        return Member(experiment, "done", run=run_experiment(experiment, options))
    except UserError as error:
        return Member(experiment, "failed", str(error))
    except Exception as error:  # one experiment's fault is not another's; run.json has the traceback
        return Member(experiment, "failed", f"{type(error).__name__}: {error}.")


def _facts(atlas: Atlas, configured: Mapping[str, Experiment], options: RunOptions) -> ModelFacts:
    """The model as an experiment of its kind loads it (a language model where nobody knows the kind)."""
    kind: ModelKind = known_kind(atlas.model) or "language"
    for experiment in configured.values():
        if experiment.model_kind == kind:
            return facts_of(experiment, options)
    raise RunError(f"No installed experiment takes {kind} models such as {atlas.model}.")


# ---------------------------------------------------------------------- the folder


def _name(configured: Mapping[str, Experiment], facts: ModelFacts) -> str:
    """The 12 digits that name an atlas: a sha256 over all settings and the model's weights."""
    settings = {
        name: {
            key: value
            for key, value in experiment.configuration().items()
            if key != "model" and key not in experiment.of_weights
        }
        for name, experiment in configured.items()
    }
    named = {"settings": settings, "revision": facts.identity.revision}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]


def _record(
    atlas: Atlas,
    configured: Mapping[str, Experiment],
    facts: ModelFacts,
    members: tuple[Member, ...],
    options: RunOptions,
    started: str,
) -> dict[str, Any]:
    from interp.experiments.provenance import atlas_command, versions

    return {
        "status": "failed" if any(member.status == "failed" for member in members) else "done",
        "command": atlas_command(atlas, options),
        "configuration": {name: experiment.configuration() for name, experiment in configured.items()},
        "model": dataclasses.asdict(facts),
        "started": started,
        "finished": _now(),
        "versions": versions(),
        "members": {
            member.experiment.name: {
                "status": member.status,
                "why": member.why,
                "run": str(member.run.folder) if member.run else None,
                "measured_seconds": member.measured_seconds if member.run else None,
            }
            for member in members
        },
    }


def _write(outcome: Outcome, out: Path) -> None:
    from interp.experiments.export import write_figure_pages

    for name, table in gathered(outcome, out).items():
        write_table(outcome.folder / "tables" / f"{name}.parquet", table, SCHEMAS[name])
    write_figure_pages(shown_figures(outcome), outcome.folder / "figures")
    for name, text in (
        ("atlas.json", json.dumps(outcome.record, indent=2, default=str)),
        ("report.html", render_atlas(outcome)),
    ):
        write_aside(outcome.folder / name, lambda aside, text=text: aside.write_text(text, encoding="utf-8"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------------- its page


@dataclass(frozen=True)
class Part:
    """The page's section on one experiment or join."""

    member: Member
    question: str
    results: list[str]
    warnings: list[str]
    figures: "dict[str, go.Figure]"
    """Those shown, by names that no other experiment's have."""
    place: str
    """Folder of its run relative to the page, with a slash at its end; empty without a run."""

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.member.experiment.name

    @property
    def anchor(self) -> str:
        """The id of its section, or of its part of the section on joins."""
        return f"join-{self.name}" if self.member.is_join else self.name

    @property
    def more(self) -> str:
        """The number of folded sentences and warnings, in words; empty if there are none."""
        counts = ((len(self.results[SENTENCES:]), "more sentence"), (len(self.warnings), "warning"))
        return " and ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in counts if n)


def render_atlas(outcome: Outcome) -> str:
    """Returns the whole page; the joins come after the experiments."""
    parted = [_part(member, outcome.folder) for member in outcome.members]
    done = [member for member in outcome.members if member.run]
    seconds = duration_in_words(float(sum(member.measured_seconds for member in done)))
    identity = outcome.facts.identity
    return render(
        "atlas.html",
        title=f"atlas · {outcome.facts.name}",
        subtitle=f"{identity.name} ({identity.source}) · {len(done)} runs, measured in {seconds} · atlas {outcome.folder.name}",
        sections=[
            "What was found",
            *(member.experiment.name for member in done if not member.is_join),
            "Joined",
            "How to repeat it",
        ],
        parted=parted,
        figures=shown_figures(outcome),
        failed=[f"{member.experiment.name} failed: {member.why}" for member in outcome.failed],
        record=outcome.record,
        answers=ANSWERS,
        n_sentences=SENTENCES,
    )


def shown_figures(outcome: Outcome) -> "dict[str, go.Figure]":
    """Returns the figures of the page by name: the first ones of each experiment, all of each join."""
    return {name: figure for member in outcome.members for name, figure in _figures_of(member).items()}


def _figures_of(member: Member) -> "dict[str, go.Figure]":
    figures = list(member.run.figures.items()) if member.run else []
    shown = figures if member.is_join else figures[:FIGURES]
    return {f"{member.experiment.name}_{name}": figure for name, figure in shown}


def _part(member: Member, folder: Path) -> Part:
    findings = member.run.findings if member.run else []
    return Part(
        member,
        question_of(member.experiment),
        results=[finding.text for finding in findings if finding.kind == "result"],
        warnings=[finding.text for finding in findings if finding.kind == "warning"],
        figures=_figures_of(member),
        place=Path(os.path.relpath(member.run.folder, folder)).as_posix() + "/" if member.run else "",
    )
