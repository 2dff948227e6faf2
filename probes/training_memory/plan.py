"""The units of the training_memory experiment. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interp.experiments.experiment import WorkUnit
from probes.training_memory.settings import Condition, Settings

ROLES = ("retrieval", "induction")
"""Heads that copy what stands in the window: with known duplicates, they are switched off."""


def random_name(role: str) -> str:
    """Returns what the control of a role is called."""
    return f"random ({role})"


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

    checkpoint: str
    """The revision's name or the twin's; "" for the model itself."""
    model: str | None = None
    """The twin, where it is what reads."""
    revision: str | None = None

    @property
    def is_twin(self) -> bool:
        """Whether the checkpoint is the one that was trained without the texts."""
        return self.model is not None


def plan_units(settings: Settings) -> Sequence[WorkUnit]:
    """Returns the trainings, what follows them, the series; or, with a file of duplicates, its checkpoints alone."""
    if settings.duplicates is not None:
        own = [DuplicatesUnit("", name, revision=name) for name in settings.revisions] or [
            DuplicatesUnit("", settings.revision or "", revision=settings.revision)
        ]
        twins = [DuplicatesUnit("", settings.twin_name, settings.twin, settings.twin_revision)] if settings.twin else []
        return [replace(unit, id=f"duplicates-{number}") for number, unit in enumerate([*own, *twins])]
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
