"""Do critical tokens coincide with function tokens? Reads a critical_tokens and a function_tokens run. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.bounds import Count, OpenShare
from interp.experiments.experiment import Finding, WorkUnit
from interp.experiments.join import Join
from interp.models.identity import ModelFacts

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class CriticalJoin(Join):
    """Do critical tokens coincide with function tokens?"""

    name: ClassVar[str] = "join_critical"
    summary: ClassVar[str] = "do critical tokens coincide with function tokens?"
    paper: ClassVar[str] = "a join of this toolkit; the methods are those of the runs it reads"
    schema_version: ClassVar[int] = 2
    needs_attention: ClassVar[bool] = False
    reads: ClassVar[Mapping[str, str]] = {
        "critical_tokens": "critical_tokens",
        "function_tokens": "function_tokens",
    }
    tables_read: ClassVar[Mapping[str, Sequence[str]]] = {
        "critical_tokens": ("critical", "positions"),
        "function_tokens": ("token_classes",),
    }

    critical_tokens: Path | None = None
    """Folder of the critical_tokens run."""
    function_tokens: Path | None = None
    """Folder of the function_tokens run, whose texts supply token frequencies."""
    nearby: Count = 5
    """Maximum distance from a critical token of the tokens in the control "nearby", in tokens."""
    uncertainty: OpenShare = 0.2
    """Smallest 1 − p of a token that counts as uncertain, p being its probability; the default is δ of critical_tokens."""

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.joined.tables import CRITICAL_SCHEMAS

        return CRITICAL_SCHEMAS

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns no units: everything was measured by the runs that are read."""
        return ()

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns every critical token beside its controls, the shares, and the answers."""
        from probes.joined.summaries import match_critical, summarise_overlap, token_rules
        from probes.joined.tables import critical_answers

        run = self.tables_of("critical_tokens")
        positions = token_rules(run["positions"], self.tables_of("function_tokens")["token_classes"])
        matches = match_critical(positions, run["critical"], nearby=self.nearby, uncertainty=self.uncertainty)
        overlap = summarise_overlap(matches, positions, self.seed)
        return {"critical_matches": matches, "critical_overlap": overlap, "answers": critical_answers(overlap)}

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figure, or none where no token was critical."""
        from figures.atlas import plot_overlap
        from figures.style import drawn

        return {"overlap": drawn(plot_overlap, tables, "critical_overlap")} if len(tables["critical_overlap"]) else {}

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.joined.findings import find_critical

        return find_critical(tables)
