"""Which units a run needs: first what everything rests on, then blocks of texts, losses, knock-outs and steering."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.experiments.experiment import WorkUnit
from interp.models.identity import ModelFacts
from probes.function_tokens.settings import Settings

if TYPE_CHECKING:
    from interp.tables import Tables

PROMPTS_PER_UNIT = 48


@dataclass(frozen=True)
class CheckUnit(WorkUnit):
    """Counts token classes and holds every dictionary against what is published of it."""


@dataclass(frozen=True)
class GraphUnit(WorkUnit):
    """Counts pairs of tokens and features in one block of texts, for all dictionaries."""

    block: int


@dataclass(frozen=True)
class LossUnit(WorkUnit):
    """Measures prediction losses in the texts of one block."""

    block: int


@dataclass(frozen=True)
class PromptUnit(WorkUnit):
    """Knock-outs or steering in prompts of one dictionary."""

    dictionary: str
    """Its name as given in the settings."""
    first_prompt: int
    n_prompts: int


@dataclass(frozen=True)
class ReactivationUnit(PromptUnit):
    """Knocks out attention to where a feature was active before."""


@dataclass(frozen=True)
class SteeringUnit(PromptUnit):
    """Adds features at function and content tokens, last and earlier."""


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the check, and once it has been measured everything else."""
    units: list[WorkUnit] = [CheckUnit("check")]
    if "token_classes" not in measured or not len(measured["token_classes"]):
        return units
    return [*units, *units_after_check(settings, facts, int(measured["blocks"]["block"].max()) + 1)]


def units_after_check(settings: Settings, facts: ModelFacts, n_blocks: int) -> list[WorkUnit]:
    """Returns all units but the check, for a corpus of so many blocks."""
    units: list[WorkUnit] = []
    if "graph" in settings.parts:
        units += [GraphUnit(f"graph-{block:03d}", block) for block in range(n_blocks)]
    if "losses" in settings.parts:
        units += [LossUnit(f"losses-{block:03d}", block) for block in range(n_blocks)]
    names = settings.dictionary_names(facts.name) if settings.needs_dictionary else []
    for part, kind, total in (
        ("reactivation", ReactivationUnit, settings.reactivation_prompts),
        ("steering", SteeringUnit, settings.steering_prompts),
    ):
        if part in settings.parts:
            units += [
                kind(f"{part}-{index}-{first:05d}", name, first, min(PROMPTS_PER_UNIT, total - first))
                for index, name in enumerate(names)
                for first in range(0, total, PROMPTS_PER_UNIT)
            ]
    return units
