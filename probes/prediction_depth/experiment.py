"""The prediction_depth experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.models.identity import ModelFacts
from probes.prediction_depth.plan import DecodeUnit, ProseUnit, plan_units
from probes.prediction_depth.settings import PROMPT_TOKENS, Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class PredictionDepth(Settings):
    """At which layer is the next token decided?"""

    name: ClassVar[str] = "prediction_depth"
    summary: ClassVar[str] = "at which layer the next token is decided, through lenses with controls for frequency"
    paper: ClassVar[str] = (
        "How do LLMs use their depth?, arXiv:2510.18871; SimLens, arXiv:2507.17618; SkipDecode, arXiv:2307.02628; Token Recycling, "
        "arXiv:2408.08696; Adapt-LLM, arXiv:2404.19705; Contextual Memory Reweaving, arXiv:2502.02046"
    )
    schema_version: ClassVar[int] = 3
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.prediction_depth.tables import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when a text does not fit the model's window, and for questions that cannot be read."""
        from probes.prediction_depth.questions import read_questions

        read_questions(self)
        longest = max(self.text_tokens, PROMPT_TOKENS + self.draft_tokens)
        if facts.context_window is not None and longest > facts.context_window:
            raise ArgumentError(
                f"Texts of {longest} tokens do not fit {facts.name}, which reads {facts.context_window}: lower --text-tokens and "
                "--draft-tokens."
            )

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns one unit for the questions and one or two for each text."""
        return plan_units(self)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work:  # type: ignore[override]
        """Returns what a unit reads and writes, read-outs at every depth left out."""
        from probes.prediction_depth.questions import read_questions

        n = self.text_tokens
        if isinstance(unit, ProseUnit):
            return Work(tokens_read=n, tokens_held=n)
        if isinstance(unit, DecodeUnit):
            passes = 12 * len(self.budgets) + 4 * len(self.betas) + 2
            both = PROMPT_TOKENS + self.draft_tokens
            return Work(tokens_read=passes * n + 2 * both, tokens_written=2 * self.draft_tokens, tokens_held=n)
        n_questions, depths = len(read_questions(self)), model.n_layers // self.read_through_every + 1
        return Work(tokens_read=n_questions * (12 + 2 * depths), tokens_held=12)

    def uncounted(self) -> str:
        """Returns what takes time and is no token read."""
        return "reading states out at every depth, which takes longest on a small model"

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the unit's rows."""
        from probes.prediction_depth.measure import measure_prose
        from probes.prediction_depth.questions import measure_questions
        from probes.prediction_depth.recycling import measure_drafts
        from probes.prediction_depth.skipping import measure_reweaving, measure_skips

        if isinstance(unit, ProseUnit):
            return measure_prose(self, model, unit.number)
        if isinstance(unit, DecodeUnit):
            return {
                "skips": measure_skips(self, model, unit.number),
                "reweaving": measure_reweaving(self, model, unit.number),
                **measure_drafts(self, model, unit.number),
            }
        return measure_questions(self, model)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.prediction_depth.summaries import summarise_all

        return summarise_all(measured, self.seed)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.prediction_depth import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.prediction_depth.findings import find_all

        return find_all(tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns settle depths, their contrasts and the quality of lenses side by side, and the figure over the share of layers."""
        from figures.prediction_depth import plot_compared
        from probes.prediction_depth.summaries import compared

        tables = compared(runs)
        return tables, {"quality": plot_compared(tables["quality"])}
