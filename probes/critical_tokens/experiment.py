"""The critical-token experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding, WorkUnit
from interp.models.identity import ModelFacts
from probes.critical_tokens.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class CriticalTokens(Settings):
    """Which generated tokens decide whether the answer comes out right?"""

    name: ClassVar[str] = "critical_tokens"
    summary: ClassVar[str] = "generated tokens that decide whether the answer is right"
    paper: ClassVar[str] = (
        "Lin, Liang, Xu, Lin, Wang, Luo, Shi, Li, Yang, Tu 2024, Critical Tokens Matter: Token-Level Contrastive Estimation Enhances "
        "LLM's Reasoning Capability, arXiv:2411.19943"
    )
    schema_version: ClassVar[int] = 3

    # ------------------------------------------------------------------ plan

    @property
    def needs(self) -> tuple[str, ...]:
        """Branches of a trajectory are forks, read side by side."""
        return ("forks", "ragged")

    def schemas(self) -> "Schemas":
        """Returns the schema of every table; thoughts are one where there may be any."""
        from probes.critical_tokens.tables import SCHEMAS, Thoughts

        return {**SCHEMAS, "thoughts": Thoughts} if self.thinking_tokens else SCHEMAS

    @property
    def writes_chats(self) -> bool:
        """Whether problems may go through the model's chat template: those of a file do."""
        return self.task_file is not None and self.prompt_format != "plain"

    def input_files(self) -> Sequence[Path]:
        """Returns the user's grader, problem file, examples and adapters."""
        from probes.critical_tokens.grader import grader_file

        own = () if self.grader is None else (grader_file(self.grader),)
        return [
            path
            for path in (*own, self.task_file, self.examples, self.positive_adapter, self.negative_adapter)
            if path is not None
        ]

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when problems cannot be read or a response does not fit the model."""
        from probes.critical_tokens.problems import check_tasks

        check_tasks(self)
        if self.sampler == "vllm":
            from interp.models.language.vllm_sampling import check_vllm

            check_vllm()
        window = facts.context_window
        if window is not None and self.thinking_tokens and self.max_new_tokens + self.thinking_tokens >= window:
            raise ArgumentError(
                f"Thoughts of {self.thinking_tokens} tokens and responses of {self.max_new_tokens} do not fit {facts.name}, which reads "
                f"{window}: use --thinking-tokens {max(1, window // 2)} and --max-new-tokens {max(1, window // 4)}, or less."
            )
        if window is not None and self.max_new_tokens >= window:
            raise ArgumentError(
                f"Responses of {self.max_new_tokens} tokens do not fit {facts.name}, which reads {window}: use --max-new-tokens "
                f"{window // 2}."
            )

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units to find trajectories, then those that analyse them, then those that test what was found."""
        from probes.critical_tokens.plan import plan_units

        return plan_units(self, facts.name, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> "Work | None":  # type: ignore[override]
        """Returns what a unit reads and writes."""
        from probes.critical_tokens.plan import work_of

        return work_of(self, model, unit)

    def uncounted(self) -> str:
        """Returns what depends on the answers."""
        return (
            ""
            if self.calibrate_only
            else "the search for wrong trajectories and all rollouts from them: they depend on the answers"
        )

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows."""
        from probes.critical_tokens.measure import measure_unit

        return measure_unit(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.critical_tokens.summaries import summarise_all

        return summarise_all(self, facts.name, measured)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.critical_tokens import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.critical_tokens.findings import find_all

        return find_all(self, tables)

    def documents(self, tables: "Tables") -> Mapping[str, str]:
        """Returns preference data as JSON lines that TRL reads."""
        from probes.critical_tokens.critical import preference_documents

        return preference_documents(tables)
