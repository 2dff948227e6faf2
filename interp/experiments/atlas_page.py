"""The page of an atlas: what each experiment found, and last what they say together."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interp.experiments.atlas_tables import Member, Outcome
from interp.experiments.join import ANSWERS
from interp.experiments.page import duration_in_words, render
from interp.experiments.report import question_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

SENTENCES, FIGURES = 4, 2
"""Sentences and figures of each experiment that are there at first sight: the first ones of its own report."""


@dataclass(frozen=True)
class Part:
    """What the page says of one experiment or join."""

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
        """The id of what the page says of it: a section of its own, or a part of the one of the joins."""
        return f"join-{self.name}" if self.member.is_join else self.name

    @property
    def more(self) -> str:
        """How many sentences and warnings are folded away, in words; empty where none are."""
        counts = ((len(self.results[SENTENCES:]), "more sentence"), (len(self.warnings), "warning"))
        return " and ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in counts if n)


def render_atlas(outcome: Outcome) -> str:
    """Returns the whole page; what joins the experiments comes after them."""
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
    """Returns the figures of the page by name: of each experiment the first ones, of each join all."""
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
