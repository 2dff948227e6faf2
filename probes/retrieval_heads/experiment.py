"""The retrieval-head experiment: joins settings, plan, measurement, tables, figures and findings. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from probes.retrieval_heads.plan import AblationUnit, DetectionUnit, EchoUnit, expected_units, plan_units, work_of
from probes.retrieval_heads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class RetrievalHeads(Settings):
    """Which heads copy an answer from a long context, and does the model need them to?"""

    name: ClassVar[str] = "retrieval_heads"
    summary: ClassVar[str] = "heads that copy-paste from long context, confirmed by ablation"
    paper: ClassVar[str] = (
        "Wu, Wang, Xiao, Peng, Fu 2024, Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv:2404.15574"
    )
    schema_version: ClassVar[int] = 4

    # ------------------------------------------------------------------ plan

    @property
    def needs(self) -> tuple[str, ...]:
        """The verdicts on recording and editing heads; those on head outputs only if contributions are measured."""
        outputs = ("head_outputs", "contributions") if self.contributions else ()
        return ("forks", "ragged", "heads", "edits", *outputs)

    def schemas(self) -> "Schemas":
        """Returns the schema of every table; the heads of --heads-from are one where they are given."""
        from interp.heads.given import HeadsFrom
        from probes.retrieval_heads.tables import SCHEMAS

        return {**SCHEMAS, GIVEN: HeadsFrom} if self.heads_from else SCHEMAS

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units to find heads, and once these are measured the units that test them."""
        assert facts.geometry is not None
        return plan_units(self, facts.geometry, measured, self.given(facts))

    def expected_units(self, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the units of the plan, and stand-ins for later ones."""
        return expected_units(self, model, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> "Work | None":  # type: ignore[override]
        """Returns what a unit reads and writes."""
        return work_of(self, model, unit)

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows."""
        from probes.retrieval_heads.ablation import measure_held_out
        from probes.retrieval_heads.echo import measure_echo
        from probes.retrieval_heads.measure import measure_detection

        if isinstance(unit, DetectionUnit):
            return measure_detection(self, model, unit)
        if isinstance(unit, EchoUnit):
            return measure_echo(self, model, unit)
        assert isinstance(unit, AblationUnit)
        return measure_held_out(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.retrieval_heads.summaries import summarise_all

        return summarise_all(self, facts, measured)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.retrieval_heads import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.retrieval_heads.findings import find_all

        return find_all(self, tables)

    def documents(self, tables: "Tables") -> Mapping[str, str]:
        """Returns the scores in the formats of other tools: the public one and HeadKV's, LOCOS', DuoAttention's, QRHead's."""
        from probes.retrieval_heads.comparison import documents_of

        return documents_of(tables, definition=self.definition, only_passed=self.success_filter)

    def read_foreign(self, path: Path) -> "Tables | None":
        """Returns the heads in a file of another tool, or a DuoAttention folder; None for a file of another sort."""
        from probes.retrieval_heads.comparison import foreign_head_scores

        scores = foreign_head_scores(path)
        return None if scores is None else {"head_scores": scores}

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns correlations, overlaps and sparsity of several runs or public files."""
        from figures.retrieval_heads_comparison import draw_comparison
        from probes.retrieval_heads.comparison import compare_all

        tables = compare_all(runs, self.definition, self.other_k)
        return tables, draw_comparison(tables)
