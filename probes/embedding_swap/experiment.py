"""The embedding_swap experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.models.identity import ModelFacts
from probes.embedding_swap.plan import FramesUnit, plan_units, work_of_unit
from probes.embedding_swap.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class EmbeddingSwap(Settings):
    """How much does a token's embedding row carry, and how much does the context?"""

    name: ClassVar[str] = "embedding_swap"
    summary: ClassVar[str] = (
        "what a token's embedding row carries: ciphers, parts of speech from context frames, rows rebuilt from subword pieces"
    )
    paper: ClassVar[str] = (
        "Huang et al. 2023, Lexinvariant Language Models, arXiv:2305.16349; Anand et al. 2024, Dual Process Learning, arXiv:2406.00053; "
        "Sharthak et al. 2025, Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken "
        "Learning, arXiv:2505.09738"
    )
    schema_version: ClassVar[int] = 4
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.embedding_swap.tables import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the frames cannot be read, a text is longer than the model reads, or a checkpoint is not there."""
        from interp.errors import ArgumentError
        from interp.models.loading.language import look_up

        self.read_frames()
        if facts.context_window is not None and facts.context_window <= self.text_tokens:
            raise ArgumentError(
                f"{facts.name} reads {facts.context_window} tokens: lower --text-tokens to at most {facts.context_window - 1}."
            )
        for revision in self.revisions:
            look_up(self.model, dtype=self.dtype, revision=revision)

    def revision_of(self, unit: WorkUnit) -> str | None:
        """Returns the checkpoint that a unit is measured on."""
        own = unit.revision if isinstance(unit, FramesUnit) else None
        return own or self.revision

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns a unit for every cipher, every checkpoint, and every few held-out tokens."""
        return plan_units(self)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work:  # type: ignore[override]
        """Returns about what a unit reads."""
        return work_of_unit(self, unit)

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the unit's rows."""
        from probes.embedding_swap.measure import measure_unit

        return measure_unit(model, unit, self)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns means over texts, words and tokens."""
        from probes.embedding_swap.summaries import summarise

        return summarise(measured, self.seed)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns a figure for every part that was measured."""
        from figures.embedding_swap import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns what the ciphers, the frames and the rules say."""
        from probes.embedding_swap.findings import find_all

        return find_all(tables)
