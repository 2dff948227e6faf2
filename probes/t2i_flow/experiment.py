"""The text-to-image flow experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding, WorkUnit
from interp.models.identity import ModelFacts
from interp.models.loading.names import ModelKind
from interp.named import own_files
from probes.t2i_flow.plan import check_texts, expected_units, plan_units, prompts_of, work_of
from probes.t2i_flow.settings import JUDGE_MODELS, Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.image.model import ImageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class T2IFlow(Settings):
    """Which text tokens carry an item into the picture, what leaks between items, and what repairs it?"""

    name: ClassVar[str] = "t2i_flow"
    summary: ClassVar[str] = "which text tokens carry an item into the picture, and what leaks"
    paper: ClassVar[str] = (
        "Kaplan, Toker, Reif, Belinkov, Schwartz 2025, Follow the Flow: On Information Flow Across Textual Tokens in Text-to-Image "
        "Models, arXiv:2504.01137"
    )
    schema_version: ClassVar[int] = 4
    model_kind: ClassVar[ModelKind] = "image"

    # ------------------------------------------------------------------ plan

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.t2i_flow.tables import SCHEMAS

        return SCHEMAS

    def input_files(self) -> Sequence[Path]:
        """Returns the user's prompts, and the file of a judge of their own or the folder of the model that judges."""
        kind, _, model = self.judge.partition(":")
        folder = Path(model).expanduser()
        judge = [folder] if kind in JUDGE_MODELS and folder.is_dir() else []
        return [
            *([self.prompts] if self.prompts else []),
            *(judge if kind in JUDGE_MODELS else own_files([self.judge])),
        ]

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the prompts are not as they must be, the judge cannot see what they name, or there are no
        blocks to edit.
        """
        from interp.models.image.families import family_of
        from probes.t2i_flow.judges import check_descriptions

        if self.edit_blocks == "every" and not family_of(facts.name, facts.model_type).joint:
            raise ArgumentError(
                f"{facts.name} gives every block of its denoiser the same text vectors: leave out --edit-blocks every, which "
                "needs joint attention, as in SD3 and FLUX."
            )
        prompts = prompts_of(self)
        check_descriptions(self.judge, [question.description for prompt in prompts for question in prompt.questions])

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns all units known to be needed."""
        return plan_units(self, measured)

    def expected_units(self, model: "ImageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the units of the plan, and stand-ins for later ones. Raises ArgumentError as `check_loaded` does."""
        check_texts(self, model)
        return expected_units(self, model, measured)

    def work_of(self, model: "ImageModel", unit: WorkUnit) -> "Work | None":  # type: ignore[override]
        """Returns what a unit reads and writes."""
        return work_of(self, model, unit)

    def uncounted(self) -> str:
        """Returns what depends on pictures."""
        return (
            "the subsets of items of more than six tokens, drawn until one shows the item"
            if "in_item" in self.parts
            else ""
        )

    # ------------------------------------------------------------------ measure

    def check_loaded(self, model: "ImageModel") -> None:  # type: ignore[override]
        """Raises ArgumentError for a text that the model cannot read, or draw in all its variants."""
        check_texts(self, model)

    def measure(self, model: "ImageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the unit's rows."""
        from probes.t2i_flow.measure import measure_unit

        return measure_unit(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.t2i_flow.summaries import summarise_all

        return summarise_all(self, measured)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.t2i_flow import draw_all

        return draw_all(tables)

    def documents(self, tables: "Tables") -> "Mapping[str, str | bytes]":
        """Returns the grids as PNG files, and the fitted rule that tells representative tokens."""
        from figures.t2i_flow_grids import grid_documents
        from probes.t2i_flow.predictor import predictor_document

        return {**grid_documents(tables), **predictor_document(tables)}

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.t2i_flow.findings import find_all

        return find_all(self, tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns the rates of several models side by side."""
        from figures.t2i_flow_comparison import draw_comparison
        from probes.t2i_flow.summaries import compare_all

        tables = compare_all(runs)
        return tables, draw_comparison(tables)
