"""The sequence_representation experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.models.identity import ModelFacts
from probes.sequence_representation.plan import ArmUnit, plan_units
from probes.sequence_representation.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class SequenceRepresentation(Settings):
    """Where does a text keep its meaning: in its last token, in a mean, or in its tokens one by one?"""

    name: ClassVar[str] = "sequence_representation"
    summary: ClassVar[str] = "where a text's meaning is stored: token prepending, bags of words, token retrieval"
    paper: ClassVar[str] = (
        "Fu et al. 2024, Token Prepending, arXiv:2412.11556; Xiao, Liu 2022, RetroMAE v2 (DupMAE), arXiv:2211.08769; Lee et al. 2023, "
        "Rethinking the Role of Token Retrieval in Multi-Vector Retrieval (XTR), arXiv:2304.01982"
    )
    schema_version: ClassVar[int] = 2
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.sequence_representation.tables import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the pairs cannot be read, there is no such encoder, or the model has too few layers."""
        from interp.errors import ArgumentError

        self.read_pairs()
        if facts.geometry is not None and max(self.exits) > facts.geometry.n_layers:
            raise ArgumentError(
                f"{facts.name} has {facts.geometry.n_layers} layers: give --exits of at most that, not {max(self.exits)}."
            )
        if self.encoder != "none":
            from interp.models.encoder import encoder_folder

            encoder_folder(self.encoder)

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the arms, the encoder, the decoded words and the tokens."""
        return plan_units(self, facts)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work | None:  # type: ignore[override]
        """Returns what an arm reads; the other units are not counted."""
        if not isinstance(unit, ArmUnit):
            return Work()
        from probes.sequence_representation.pairs import texts_of
        from probes.sequence_representation.prepending import prompted
        from probes.sequence_representation.readers import ModelReader

        reader = ModelReader(model)
        lengths = [len(prompted(reader, text, unit.arm).read.ids) for text in texts_of(self.read_pairs())]
        return Work(tokens_read=sum(lengths), tokens_held=max(lengths))

    def uncounted(self) -> str:
        """Returns what is not counted."""
        return "the encoder, the news sentences and the regressions from states to words"

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the rows of one unit."""
        from probes.sequence_representation.measure import measure_unit

        return measure_unit(model, unit, self)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns correlations, gains, kinds, decoded words and ranks, with intervals."""
        from probes.sequence_representation.summaries import summarise

        return summarise(measured, self)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns every figure there is data for."""
        from figures.sequence_representation import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns what of each paper's claim is shown here, and what is not."""
        from probes.sequence_representation.findings import find

        return find(tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns correlations after the last layer and gains side by side, and their figure."""
        from figures.sequence_representation import plot_compared
        from probes.sequence_representation.summaries import compared

        tables = compared(runs)
        return tables, {"correlations": plot_compared(tables["correlations"])}
