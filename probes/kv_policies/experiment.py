"""The kv_policies experiment: settings, plan, measuring, tables, figures and sentences put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from probes.kv_policies.plan import (
    DynamicsUnit,
    HeadsUnit,
    TextUnit,
    check_conditions,
    expected_units,
    plan_units,
    work_of,
)
from probes.kv_policies.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class KvPolicies(Settings):
    """What does a key-value cache throw away, and which heads and tokens carry the loss?"""

    name: ClassVar[str] = "kv_policies"
    summary: ClassVar[str] = "what a key-value cache throws away, and which heads and tokens carry the loss"
    paper: ClassVar[str] = (
        "policies of many papers, each cited where it is written (interp/retention/policies); the questions, controls and numbers are "
        "this toolkit's"
    )
    schema_version: ClassVar[int] = 5
    in_atlas: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Forks of a prompt, edits, and a look at heads."""
        return ("forks", "heads", "edits")

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from interp.heads.given import HeadsFrom
        from probes.kv_policies.tables import SCHEMAS

        return {**SCHEMAS, GIVEN: HeadsFrom} if self.heads_from else SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the model cannot take these settings: window, policies, heads, budgets."""
        super().check_model(facts)
        check_conditions(self, facts)

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units that find heads, and then one for each text."""
        return plan_units(self, facts, measured)

    def expected_units(self, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the units of the plan, and stand-ins for those of the texts."""
        return expected_units(self, model, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work:  # type: ignore[override]
        """Returns what a unit reads."""
        return work_of(self, model, unit)

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the unit's rows."""
        from interp.retention.contract import check_sinks
        from probes.kv_policies.dynamics import measure_dynamics
        from probes.kv_policies.heads import measure_heads
        from probes.kv_policies.measure import measure_text

        check_sinks(model)
        if isinstance(unit, HeadsUnit):
            return {"head_scores": measure_heads(self, model, unit.id, unit.numbers)}
        if isinstance(unit, DynamicsUnit):
            return measure_dynamics(self, model, unit.number)
        assert isinstance(unit, TextUnit)
        return measure_text(self, model, unit)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.kv_policies.summaries import summarise_all

        given = self.given(facts)
        assert facts.geometry is not None
        return {
            **summarise_all(self, measured, given, facts.geometry.group_size),
            **({} if given is None else {GIVEN: given}),
        }

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.kv_policies import draw_all

        return draw_all(tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns what each policy costs on several models, side by side."""
        from figures.kv_policies import plot_comparison
        from probes.kv_policies.summaries import compare_all

        tables = compare_all(runs)
        return tables, {"comparison": plot_comparison(tables["comparison"])}

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.kv_policies.findings import find_all

        return find_all(self, tables)
