"""The units of the sequence_representation experiment. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interp.experiments.experiment import WorkUnit
from interp.models.identity import ModelFacts
from probes.sequence_representation.settings import WRITING, Arm, Settings

Reader = Literal["model", "encoder"]


@dataclass(frozen=True)
class ArmUnit(WorkUnit):
    """All texts of the pairs, read in one way."""

    arm: Arm
    exit: int = 0
    """Layer before which the slot is written last; 0 for arms that write nothing."""


@dataclass(frozen=True)
class EncoderUnit(WorkUnit):
    """All texts of the pairs, read by the encoder."""


@dataclass(frozen=True)
class ShiftUnit(WorkUnit):
    """How far what is written moves the tokens behind the slot."""


@dataclass(frozen=True)
class WordsUnit(WorkUnit):
    """News sentences, from whose states their words are decoded."""

    reader: Reader


@dataclass(frozen=True)
class TokensUnit(WorkUnit):
    """Queries and documents, token by token."""

    reader: Reader


def plan_units(settings: Settings, facts: ModelFacts) -> Sequence[WorkUnit]:
    """Returns the arms, then what is decoded and retrieved, for the model and for the encoder."""
    units: list[WorkUnit] = []
    for arm in settings.arms:
        if arm not in WRITING:
            units.append(ArmUnit(f"arm-{arm}", arm))
            continue
        exits = settings.exits if arm == "prepend" else (max(settings.exits),)
        units += [ArmUnit(f"arm-{arm}-{exit}", arm, exit) for exit in exits]
    readers: tuple[Reader, ...] = ("model",) if settings.encoder == "none" else ("model", "encoder")
    if "encoder" in readers:
        units.append(EncoderUnit("encoder"))
    if {"slot", "prepend"} <= set(settings.arms):
        units.append(ShiftUnit("shifts"))
    if settings.prose_sentences:
        units += [WordsUnit(f"words-{reader}", reader) for reader in readers]
    return [*units, *(TokensUnit(f"tokens-{reader}", reader) for reader in readers)]
