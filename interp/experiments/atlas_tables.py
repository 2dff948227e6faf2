"""The tables of an atlas: its members and their outcomes, their findings, and the answers of the joins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pandera.pandas as pa

from interp.experiments.atlas_settings import Atlas
from interp.experiments.catalogue import joins
from interp.experiments.experiment import Experiment
from interp.experiments.join import ANSWERS
from interp.experiments.run import Run
from interp.models.identity import ModelFacts
from interp.tables import Schemas, TableSchema, may_lack

Status = Literal["done", "failed", "does not apply"]


@dataclass(frozen=True)
class Member:
    """One experiment or join of an atlas, and its outcome."""

    experiment: Experiment
    status: Status
    why: str = ""
    """The sentence that says why there is no run."""
    run: Run | None = None

    @property
    def is_join(self) -> bool:
        """Whether it is a join rather than an experiment."""
        return self.experiment.name in joins()

    @property
    def measured_seconds(self) -> float:
        """Total seconds of its units when they were measured; NaN without a run."""
        return float(sum(self.run.description["unit_seconds"].values())) if self.run else float("nan")


@dataclass(frozen=True)
class Outcome:
    """A finished atlas: the outcome of every experiment, and the folder."""

    atlas: Atlas
    facts: ModelFacts
    folder: Path
    members: tuple[Member, ...]
    record: Mapping[str, Any] = field(repr=False)
    """What atlas.json says."""

    @property
    def failed(self) -> list[Member]:
        """The experiments that failed."""
        return [member for member in self.members if member.status == "failed"]


class Answers(TableSchema):
    """One number of a join's answer, with its interval."""

    quantity: str
    """What is measured, with its unit."""
    about: str
    """What it is measured of: a set of heads, a class of tokens, or the difference of two."""
    value: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """How many of what is resampled there are."""
    resampled: str
    """What the interval resamples, or how else it was found."""


class JoinedAnswers(Answers):
    """One number of a join's answer, with the name of the join."""

    question: str
    """Name of the join."""


class Members(TableSchema):
    """One experiment or join: whether it was run, and if not, why."""

    experiment: str
    status: str = pa.Field(isin=["done", "failed", "does not apply"])
    why: str
    run: str
    """Folder of its run, relative to the folder of runs; empty without one."""
    measured_seconds: float = may_lack()
    """What its units took when they were measured, by this atlas or before."""


class Sentences(TableSchema):
    """One finding of one experiment or join."""

    experiment: str
    kind: str = pa.Field(isin=["result", "warning"])
    text: str


SCHEMAS: Schemas = {"members": Members, "sentences": Sentences, "answers": JoinedAnswers}


def gathered(outcome: Outcome, out: Path) -> dict[str, pd.DataFrame]:
    """Returns the tables of an atlas, from its runs under `out`."""
    model = outcome.facts.name
    members = [
        {
            "model": model,
            "experiment": member.experiment.name,
            "status": member.status,
            "why": member.why,
            "run": member.run.folder.relative_to(out).as_posix() if member.run else "",
            "measured_seconds": member.measured_seconds,
        }
        for member in outcome.members
    ]
    sentences = [
        {"model": model, "experiment": member.experiment.name, "kind": finding.kind, "text": finding.text}
        for member in outcome.members
        if member.run
        for finding in member.run.findings
    ]
    answers = [answers_of(member) for member in outcome.members if member.run and member.is_join]
    return {
        "members": pd.DataFrame(members),
        "sentences": pd.DataFrame(sentences, columns=["model", "experiment", "kind", "text"]),
        "answers": pd.concat(answers) if answers else pd.DataFrame(columns=list(JoinedAnswers.to_schema().columns)),
    }


def answers_of(member: Member) -> pd.DataFrame:
    """Returns a join's answers, with its name as the question."""
    assert member.run is not None
    return member.run.tables[ANSWERS].assign(question=member.experiment.name)
