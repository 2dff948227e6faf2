"""The units of the training_memory experiment. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.experiments.experiment import WorkUnit
from probes.training_memory.settings import Condition, Settings


@dataclass(frozen=True)
class StudyUnit(WorkUnit):
    """One training from the first weights, tested after so many exposures."""

    condition: Condition
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class AfterUnit(WorkUnit):
    """A short training on natural sentences; then layers taken back one group at a time, then other text."""

    learning_rate: float
    seed: int


@dataclass(frozen=True)
class ValuesUnit(WorkUnit):
    """One annual series, asked for by year."""

    series: str


@dataclass(frozen=True)
class DuplicatesUnit(WorkUnit):
    """Texts whose number of duplicates in the training data is known, read by one checkpoint."""

    revision: str | None


def plan_units(settings: Settings) -> Sequence[WorkUnit]:
    """Returns the trainings, what follows them, the series; or, with a file of duplicates, its checkpoints alone."""
    if settings.duplicates is not None:
        revisions = settings.revisions or (settings.revision,)
        return [DuplicatesUnit(f"duplicates-{number}", revision) for number, revision in enumerate(revisions)]
    pairs = [(rate, seed) for rate in settings.learning_rates for seed in range(settings.seeds)]
    units: list[WorkUnit] = [
        StudyUnit(f"study-{condition}-{name_of(rate)}-{seed}", condition, rate, seed)
        for condition in settings.conditions
        for rate, seed in pairs
    ]
    if "natural" in settings.conditions and (settings.kept_for or settings.layer_groups):
        units += [AfterUnit(f"after-{name_of(rate)}-{seed}", rate, seed) for rate, seed in pairs]
    if settings.years_step:
        from probes.training_memory.values import QUESTIONS

        units += [ValuesUnit(f"values-{series.replace('_', '-')}", series) for series in QUESTIONS]
    return units


def name_of(learning_rate: float) -> str:
    """Returns a learning rate as part of a unit's id."""
    return f"{learning_rate:.2e}".replace(".", "_").replace("+", "")
