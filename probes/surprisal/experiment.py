"""The surprisal experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, WorkUnit
from interp.models.identity import ModelFacts
from probes.surprisal.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables

TEXTS_PER_UNIT = 32


@dataclass(frozen=True)
class TextsUnit(WorkUnit):
    """Texts that are read together: those at the places [first, last) of the file."""

    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Surprisal(Settings):
    """How surprising is every word of your own texts?"""

    name: ClassVar[str] = "surprisal"
    summary: ClassVar[str] = "surprisal of every word of your own texts"
    paper: ClassVar[str] = (
        "Pimentel, Meister 2024, How to Compute the Probability of a Word, arXiv:2406.14561; Oh, Schuler 2024, Leading Whitespaces of "
        "Language Models' Subword Vocabulary Pose a Confound for Calculating Word Probabilities, arXiv:2406.10851"
    )
    schema_version: ClassVar[int] = 3
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.surprisal.summaries import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the texts cannot be read."""
        self.read_texts()

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns one unit for every few texts."""
        n = len(self.read_texts())
        return [
            TextsUnit(f"texts-{first:06d}", first, min(first + TEXTS_PER_UNIT, n))
            for first in range(0, n, TEXTS_PER_UNIT)
        ]

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> "Work":  # type: ignore[override]
        """Returns the tokens of a unit's texts, padded as they are read."""
        from interp.experiments.experiment import Work
        from probes.surprisal.measure import tokens_to_read

        assert isinstance(unit, TextsUnit)
        read, held = tokens_to_read(model, self.read_texts()[unit.first : unit.last], self)
        return Work(tokens_read=read, tokens_held=held)

    def uncounted(self) -> str:
        """Returns what exact probabilities read."""
        return "the other spellings of words that the mode exact follows" if "exact" in self.modes else ""

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns the words of a unit's texts."""
        from probes.surprisal.measure import measure_words

        assert isinstance(unit, TextsUnit)
        return {"words": measure_words(model, self.read_texts()[unit.first : unit.last], self)}

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns sums and means over texts and places."""
        from probes.surprisal.summaries import summarise

        return summarise(measured["words"], self.seed)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the words of the first texts, and the mean by place."""
        from figures.surprisal import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the mean of every mode, and how many first words could not be scored."""
        found = [
            Finding(
                f"A word has a {row.mode} surprisal of {row.mean_nats:.2f} nats [{row.ci_low:.2f}, {row.ci_high:.2f}] on average over "
                f"{row.n_words} words of {row.n} texts."
            )
            for row in tables["means"].itertuples()
        ]
        words = tables["words"]
        unscored = words[(words["mode"] == words["mode"].iloc[0]) & words["surprisal_nats"].isna()]
        if len(unscored):
            found.append(
                Finding(
                    f"{len(unscored)} first words have no surprisal, because nothing stands before them: --bos always or a --prefix gives "
                    "them something.",
                    "warning",
                )
            )
        return found
