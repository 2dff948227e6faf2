"""The context_recall experiment: settings, plan, measuring, tables, figures and sentences put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from probes.context_recall.plan import CellUnit, HeadsUnit, NaturalUnit, expected_units, plan_units
from probes.context_recall.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class ContextRecall(Settings):
    """What can a model recall from its context, and where does recall fail: finding, binding or saying the value?"""

    name: ClassVar[str] = "context_recall"
    summary: ClassVar[str] = "what a model recalls from its context, and whether it fails to find, bind or say it"
    paper: ClassVar[str] = (
        "Roberts et al. 2025, Needle Threading, arXiv:2411.05000; Arora et al. 2024, BASED, arXiv:2402.18668; Hsieh et al. 2024, RULER, "
        "arXiv:2404.06654; Pink et al. 2024, sequence order recall, arXiv:2410.08133; each task is cited where it is written"
    )
    schema_version: ClassVar[int] = 4
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from interp.heads.given import HeadsFrom
        from probes.context_recall.tables import SCHEMAS

        return {**SCHEMAS, GIVEN: HeadsFrom} if self.heads_from else SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the model cannot take these settings: window, tasks, heads, texts."""
        self.fitting_lengths(facts)
        self.read_frames()
        self.check_policies(facts)
        self.given(facts)

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the unit that finds heads, and then every task at every size."""
        return plan_units(self, facts, measured)

    def expected_units(self, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the plan, with random heads in the place of those that are not known yet."""
        return expected_units(self, model.facts, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work:  # type: ignore[override]
        """Returns about what a unit reads."""
        from probes.context_recall.work import work_of_unit

        return work_of_unit(self, model, unit)

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the unit's rows."""
        from interp.models.language.positions import check_movable
        from probes.context_recall.heads import measure_heads
        from probes.context_recall.measure import check_cuts, measure_cell
        from probes.context_recall.natural import measure_natural

        if self.moved_tokens:
            check_movable(model)
        check_cuts(self, model)
        if isinstance(unit, HeadsUnit):
            return {"head_scores": measure_heads(self, model)}
        if isinstance(unit, NaturalUnit):
            return measure_natural(self, model, unit)
        assert isinstance(unit, CellUnit)
        return measure_cell(self, model, unit)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.context_recall.summaries import summarise_all

        given = self.given(facts)
        return {**summarise_all(self, facts, measured), **({} if given is None else {GIVEN: given})}

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.context_recall import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.context_recall.findings import find_all

        return find_all(self, tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns recall by task side by side, and its figure."""
        from figures.context_recall import plot_compared
        from interp.tables import of_runs

        table = of_runs(runs, "recall")
        return {"recall": table}, {"recall": plot_compared(table)}
