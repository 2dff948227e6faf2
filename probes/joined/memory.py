"""Do retrieval heads carry verbatim memory? Reads a verbatim_memory run in which they were silenced. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding, WorkUnit
from interp.experiments.join import Join
from interp.models.identity import ModelFacts

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class MemoryJoin(Join):
    """Do retrieval heads carry verbatim memory?"""

    name: ClassVar[str] = "join_memory"
    summary: ClassVar[str] = "do retrieval heads carry verbatim memory?"
    paper: ClassVar[str] = "a join of this toolkit; the methods are those of the runs it reads"
    schema_version: ClassVar[int] = 2
    reads: ClassVar[Mapping[str, str]] = {
        "retrieval_heads": "retrieval_heads",
        "verbatim_memory": "verbatim_memory",
    }
    tables_read: ClassVar[Mapping[str, Sequence[str]]] = {
        "retrieval_heads": ("head_scores",),
        "verbatim_memory": ("masking",),
    }

    retrieval_heads: Path | None = None
    """Folder of the retrieval_heads run that ranks the heads."""
    verbatim_memory: Path | None = None
    """Folder of a verbatim_memory run with --heads-from that run."""

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the lists were not read with the heads silent that the other run ranks first, or were silent
        while the first list was read too.
        """
        super().check_model(facts)
        from interp.heads.given import heads_of, scores_of_run

        ranked = heads_of(scores_of_run(self.run_of("retrieval_heads")))
        lists = self.run_of("verbatim_memory")
        if lists.experiment.configuration()["mask_phase"] != "second_list":
            raise ArgumentError(
                f"{lists.folder} silenced heads while the first list was read too, so they may be missing where memory is written: run "
                "verbatim_memory with --mask-phase second_list."
            )
        masking = self.tables_of("verbatim_memory")["masking"]
        silenced = masking[(masking["head_set"] == "retrieval") & (masking["control"] == "top")]
        if not len(silenced):
            raise ArgumentError(
                f"{self.verbatim_memory} silenced no retrieval heads: run verbatim_memory --heads-from {self.retrieval_heads}."
            )
        names = [f"{layer}-{head}" for layer, head in ranked]
        for k, rows in silenced.groupby("k"):
            if set(rows["heads"].iloc[0].split()) != set(names[: int(str(k))]):
                raise ArgumentError(
                    f"{self.verbatim_memory} silenced the top heads of another run: run verbatim_memory --heads-from "
                    f"{self.retrieval_heads}."
                )

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.joined.tables import MEMORY_SCHEMAS

        return MEMORY_SCHEMAS

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns no units: everything was measured by the runs that are read."""
        return ()

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the change of surprisal under every mask, and the answers."""
        from probes.joined.memory_summaries import summarise_memory_change
        from probes.joined.tables import memory_answers

        change = summarise_memory_change(self.tables_of("verbatim_memory")["masking"], self.seed)
        return {"memory_change": change, "answers": memory_answers(change)}

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figure."""
        from figures.atlas import plot_memory
        from figures.style import drawn

        return {"memory": drawn(plot_memory, tables, "memory_change")}

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.joined.findings import find_memory

        return find_memory(tables)
