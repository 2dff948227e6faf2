"""The training_memory experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.models.identity import ModelFacts
from probes.training_memory.plan import DuplicatesUnit, StudyUnit, plan_units
from probes.training_memory.settings import FOILS, Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class TrainingMemory(Settings):
    """What does training leave behind: what is recognised, what is recalled, and for how long?"""

    name: ClassVar[str] = "training_memory"
    summary: ClassVar[str] = (
        "what training leaves behind: sentences recognised, recalled and forgotten; values known by year"
    )
    paper: ClassVar[str] = (
        "Orhan 2023, Recognition, recall, and retention of few-shot memories in large language models, arXiv:2303.17557; Lopez-Lira, "
        "Tang, Zhu 2025, The Memorization Problem, arXiv:2504.14765; Wei et al. 2025, Hubble, arXiv:2510.19811"
    )
    schema_version: ClassVar[int] = 3
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.training_memory.tables import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises UserError when the texts cannot be read, a checkpoint is not there, or a model to train is in half precision."""
        from interp.errors import ArgumentError

        if self.duplicates is not None:
            from probes.training_memory.duplicates import check_checkpoints

            check_checkpoints(self, facts)
        elif facts.identity.dtype != "float32":
            raise ArgumentError(
                f"{facts.name} would be loaded in {facts.identity.dtype}: add --dtype float32, which training needs."
            )
        elif self.texts is not None:
            from probes.training_memory.stimuli import own_sentences

            own_sentences(self)

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the trainings, what follows them, and the series; or the checkpoints."""
        return plan_units(self)

    def revision_of(self, unit: WorkUnit) -> str | None:
        """Returns the revision that a unit reads."""
        return unit.revision if isinstance(unit, DuplicatesUnit) else self.revision

    def model_of(self, unit: WorkUnit) -> str:
        """Returns the model that a unit reads: the twin, or the model itself."""
        return unit.model if isinstance(unit, DuplicatesUnit) and unit.model else self.model

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work | None:  # type: ignore[override]
        """Returns what a training reads and writes; an update counts as three readings. The other units are not counted."""
        if isinstance(unit, DuplicatesUnit):
            from probes.training_memory.duplicates import work_of_reading

            return work_of_reading(model.tokenizer, self)
        if not isinstance(unit, StudyUnit):
            return Work()
        from probes.training_memory.stimuli import items_of

        items = items_of(model.tokenizer, self, unit.condition, unit.seed)
        own = sum(len(item.ids) for item in items)
        tests = len(set(self.exposures))
        return Work(
            tokens_read=own * (3 * max(self.exposures) + tests * (1 + len(FOILS[unit.condition]))),
            tokens_written=tests * sum(len(item.ids) - item.half for item in items),
            tokens_held=self.batch * self.most_tokens,
        )

    def uncounted(self) -> str:
        """Returns what is not counted."""
        if self.duplicates is not None:
            return "finding the heads that are switched off"
        return "the layers that are taken back, the updates on other text, the annual series, and the optimiser's own steps"

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the rows of one unit; a model that is trained has its first weights again afterwards."""
        from probes.training_memory.measure import measure_unit

        return measure_unit(model, unit, self)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns means over sentences, with intervals."""
        from probes.training_memory.summaries import summarise

        return summarise(measured, self.seed)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns every figure there is data for."""
        from figures.training_memory import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns what is recognised, recalled and forgotten, and which training was stopped."""
        from probes.training_memory.findings import find

        return find(tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns what is recognised and recalled side by side, of sentences studied or of texts with known duplicates."""
        from figures.training_memory import plot_compared
        from probes.training_memory.summaries import compared

        tables = compared(runs)
        return tables, plot_compared(tables)
