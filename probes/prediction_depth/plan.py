"""What a prediction_depth run measures: texts, the same texts with layers skipped and drafts, questions. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.experiments.experiment import WorkUnit
from probes.prediction_depth.settings import Settings


@dataclass(frozen=True)
class ProseUnit(WorkUnit):
    """One text, read out at every depth."""

    number: int


@dataclass(frozen=True)
class DecodeUnit(WorkUnit):
    """One text with layers skipped, with earlier states added, and with drafts of what follows."""

    number: int


@dataclass(frozen=True)
class QuestionsUnit(WorkUnit):
    """All questions: a linear readout is fitted over them."""


def plan_units(settings: Settings) -> Sequence[WorkUnit]:
    """Returns the units: texts that are decoded first, then those that are read out, then the questions."""
    return [
        *(DecodeUnit(f"decode-{number:03d}", number) for number in range(settings.decode_texts)),
        *(ProseUnit(f"prose-{number:03d}", number) for number in range(settings.prose_texts)),
        QuestionsUnit("questions"),
    ]
