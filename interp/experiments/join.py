"""Joins: experiments whose settings name the finished runs that they read. Imports nothing heavy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.bounds import flag_of
from interp.experiments.experiment import Experiment
from interp.experiments.run import Run, open_run
from interp.models.identity import ModelFacts

if TYPE_CHECKING:
    from interp.tables import Tables

ANSWERS = "answers"
"""The table that every join ends in: see interp.experiments.atlas_tables.Answers."""


@dataclass(frozen=True, kw_only=True)
class Join(Experiment):
    """Base of joins, which answer a question from runs of several experiments on one model.

    `reads` names the settings that hold the runs. A join is run like any experiment, so it is stored, resumed and reported
    like one; its summary tables may use the tables of the runs it reads beside its own measured ones. One of them is
    `answers`.
    """

    tables_read: ClassVar[Mapping[str, Sequence[str]]] = {}
    """The tables it reads of each run, by setting: their contents are part of the name of a join's run."""

    def run_of(self, setting: str) -> Run:
        """Returns the finished run that a setting names.

        Raises ArgumentError when it is not given or is a run of another experiment.
        """
        folder: Path | None = getattr(self, setting)
        flag, wanted = flag_of(setting), self.reads[setting]
        if folder is None:
            raise ArgumentError(f"{self.name} reads a run of {wanted}: add {flag} and the folder of one.")
        run = open_run(folder)
        if run.experiment.name != wanted:
            raise ArgumentError(
                f"{flag} {folder} is a run of {run.experiment.name}: name the folder of a {wanted} run."
            )
        return run

    def tables_of(self, setting: str) -> "Tables":
        """Returns the tables of the run that a setting names."""
        return self.run_of(setting).tables

    def input_files(self) -> Sequence[Path]:
        """Returns the tables that the join reads."""
        return [
            self.run_of(setting).folder / "tables" / f"{table}.parquet"
            for setting, tables in self.tables_read.items()
            for table in tables
        ]

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError if a run is missing, or was made with other weights than the model's."""
        for setting in self.reads:
            run = self.run_of(setting)
            identity = run.description["model"]["identity"]
            if identity["revision"] != facts.identity.revision:
                raise ArgumentError(
                    f"{flag_of(setting)} {run.folder} is a run on {identity['name']}, not on {facts.name}: join runs on "
                    "one model."
                )
