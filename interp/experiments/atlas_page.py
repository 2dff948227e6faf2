"""The page of an atlas: what each experiment found, and last what they say together."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from interp.experiments.atlas_tables import Member, Outcome
from interp.experiments.join import ANSWERS
from interp.experiments.page import (
    render_duration,
    render_facts,
    render_figure,
    render_list,
    render_page,
    render_sections,
    render_table,
)
from interp.experiments.report import question_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from interp.experiments.experiment import Finding

SENTENCES, FIGURES = 4, 2
"""Sentences and figures of each experiment that are there at first sight: the first ones of its own report."""
JOINED = "Joined"


def render_atlas(outcome: Outcome) -> str:
    """Returns the whole page; its last section joins the experiments."""
    own, joined = _parted(outcome.members)
    title = f"atlas · {outcome.facts.name}"
    figures = shown_figures(outcome)
    sections = {
        "What was run": _what_was_run(outcome),
        **{member.experiment.name: _experiment(member, outcome.folder, figures) for member in own if member.run},
        JOINED: "".join(_join(member, outcome.folder, figures) for member in joined),
    }
    return render_page(
        title,
        [
            "<a class='skip' href='#what-was-run'>Skip to what was run</a>",
            f"<header><h1>{escape(title)}</h1><p class='lead'>What each experiment finds in one model, and what they say "
            f"together</p><p class='soft'>{escape(_subtitle(outcome))}</p></header>",
            *render_sections(sections),
        ],
        figures=bool(figures),
    )


def shown_figures(outcome: Outcome) -> "dict[str, go.Figure]":
    """Returns the figures of the page by name: of each experiment the first ones, of each join all."""
    return {
        f"{member.experiment.name}_{name}": figure
        for member in outcome.members
        if member.run
        for name, figure in list(member.run.figures.items())[: None if member.is_join else FIGURES]
    }


def _parted(members: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """The experiments, and the joins."""
    own = [member for member in members if not member.is_join]
    return own, [member for member in members if member.is_join]


def _subtitle(outcome: Outcome) -> str:
    identity = outcome.facts.identity
    done = [member for member in outcome.members if member.run]
    seconds = float(sum(member.measured_seconds for member in done))
    return f"{identity.name} ({identity.source}) · {len(done)} runs, measured in {render_duration(seconds)} · atlas {outcome.folder.name}"


# ---------------------------------------------------------------------- what was run


def _what_was_run(outcome: Outcome) -> str:
    failed = [f"{member.experiment.name} failed: {member.why}" for member in outcome.failed]
    rows = "".join(_member_row(member, outcome.folder) for member in outcome.members)
    return (
        (render_list(failed, "warnings") if failed else "")
        + "<div class='scroll facts' tabindex='0' role='region' aria-label='Experiments and joins'><table><caption>Experiments and "
        "joins</caption><thead><tr><th scope='col'>name</th><th scope='col'>question</th><th scope='col'>outcome</th>"
        f"<th scope='col'>measured in</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p>To repeat it, or to finish it after a failure:</p><pre>{escape(str(outcome.record['command']))}</pre>"
        + render_facts(
            {key: value for key, value in outcome.record["versions"].items() if value is not None},
            "With what it was measured",
        )
    )


def _member_row(member: Member, folder: Path) -> str:
    name = escape(member.experiment.name)
    if member.run:
        name = f"<a href='#{_place(member)}'>{name}</a>"
    outcome = _link(member, folder, "done") if member.run else escape(f"{member.status}: {member.why}")
    seconds = render_duration(member.measured_seconds) if member.run else ""
    return f"<tr><th scope='row'>{name}</th><td>{escape(question_of(member.experiment))}</td><td>{outcome}</td><td>{seconds}</td></tr>"


def _place(member: Member) -> str:
    """The id of what the page says of it: a section of its own, or a part of the last one."""
    return f"join-{member.experiment.name}" if member.is_join else member.experiment.name


def _link(member: Member, folder: Path, text: str) -> str:
    assert member.run is not None
    target = Path(os.path.relpath(member.run.folder / "report.html", folder)).as_posix()
    return f"<a href='{escape(target)}'>{escape(text)}</a>"


# ---------------------------------------------------------------------- experiments and joins


def _experiment(member: Member, folder: Path, figures: "Mapping[str, go.Figure]") -> str:
    assert member.run is not None
    findings = member.run.findings
    results = [finding for finding in findings if finding.kind == "result"]
    more = [*results[SENTENCES:], *(finding for finding in findings if finding.kind == "warning")]
    return (
        f"<p class='lead'>{escape(question_of(member.experiment))}</p>"
        + render_list([finding.text for finding in results[:SENTENCES]], "findings")
        + _more(more)
        + _figures_of(member, figures)
        + f"<p>{_link(member, folder, f'The whole report of {member.experiment.name}')}: all figures, tables and settings.</p>"
    )


def _more(findings: "Sequence[Finding]") -> str:
    """What the report says beside its headlines, folded away; how many of it are warnings is said before it is opened."""
    if not findings:
        return ""
    results, warnings = _by_kind(findings)
    counts = ((len(results), "more sentence"), (len(warnings), "warning"))
    named = " and ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in counts if n)
    return f"<details><summary>{named}</summary>{_sentences(findings)}</details>"


def _by_kind(findings: "Sequence[Finding]") -> tuple[list[str], list[str]]:
    """The results, and the warnings."""
    results = [finding.text for finding in findings if finding.kind == "result"]
    return results, [finding.text for finding in findings if finding.kind == "warning"]


def _sentences(findings: "Sequence[Finding]") -> str:
    results, warnings = _by_kind(findings)
    return (render_list(results, "findings") if results else "") + (
        render_list(warnings, "warnings") if warnings else ""
    )


def _join(member: Member, folder: Path, figures: "Mapping[str, go.Figure]") -> str:
    """A question with its answer: sentences, figures and the table of its numbers; or why there is none."""
    head = f"<h3 id='{_place(member)}'>{escape(question_of(member.experiment))}</h3>"
    if member.run is None:
        return f"{head}<p>Not answered ({escape(member.experiment.name)}): {escape(member.why)}</p>"
    file = Path(os.path.relpath(member.run.folder / "tables" / f"{ANSWERS}.parquet", folder)).as_posix()
    return (
        head
        + _sentences(member.run.findings)
        + _figures_of(member, figures)
        + render_table(
            f"{member.experiment.name}_{ANSWERS}",
            member.run.tables[ANSWERS],
            about="every number with its interval",
            file=file,
        )
        + f"<p>{_link(member, folder, f'The whole report of {member.experiment.name}')}.</p>"
    )


def _figures_of(member: Member, figures: "Mapping[str, go.Figure]") -> str:
    assert member.run is not None
    names = [f"{member.experiment.name}_{name}" for name in member.run.figures]
    return "".join(render_figure(name, figures[name]) for name in names if name in figures)
