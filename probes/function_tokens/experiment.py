"""The function-token experiment: plan, measuring, tables, figures and sentences put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, WorkUnit
from interp.models.identity import ModelFacts
from probes.function_tokens.plan import expected_units, plan_units, work_of
from probes.function_tokens.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class FunctionTokens(Settings):
    """Which tokens activate which features of a sparse dictionary, beyond chance?"""

    name: ClassVar[str] = "function_tokens"
    summary: ClassVar[str] = "the bipartite graph of tokens and dictionary features, compared with chance"
    paper: ClassVar[str] = (
        "Zhang, Lin, Li 2025, Memory Retrieval and Consolidation in Large Language Models through Function Tokens, arXiv:2510.08203"
    )
    schema_version: ClassVar[int] = 3
    needs_attention: ClassVar[bool] = False

    # ------------------------------------------------------------------ plan

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.function_tokens.tables import SCHEMAS

        return SCHEMAS

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the unit that checks corpus and dictionaries, and once it is measured all others."""
        return plan_units(self, facts, measured)

    def expected_units(self, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the units of the plan, and stand-ins for later ones."""
        return expected_units(self, model, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> "Work | None":  # type: ignore[override]
        """Returns what a unit reads and writes."""
        return work_of(self, model, unit)

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows."""
        from probes.function_tokens.measure import measure_unit

        return measure_unit(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.function_tokens.summaries import summarise_all

        return summarise_all(self, measured)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.function_tokens import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.function_tokens.findings import find_all

        return find_all(self, tables)

    def documents(self, tables: "Tables") -> Mapping[str, str]:
        """Returns the graphs as GraphML when asked for, one file per dictionary."""
        if not self.graphml:
            return {}
        from probes.function_tokens.graph import graphml_files

        return graphml_files(tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns pair losses and coverage of several runs (models, checkpoints, precisions) side by side."""
        from figures.function_tokens import draw_comparison
        from probes.function_tokens.summaries import compare_all

        tables = compare_all(runs)
        return tables, draw_comparison(tables)
