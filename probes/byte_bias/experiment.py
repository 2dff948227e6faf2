"""The byte_bias experiment: how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from interp.experiments.experiment import Finding, Work, WorkUnit
from interp.models.identity import ModelFacts
from probes.byte_bias.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True)
class PromptUnit(WorkUnit):
    """One prompt, cut wherever it is cut."""

    index: int


@dataclass(frozen=True)
class WordsUnit(WorkUnit):
    """The words of all texts of prose."""


@dataclass(frozen=True)
class ConceptsUnit(WorkUnit):
    """The names of all texts of prose."""


@dataclass(frozen=True, kw_only=True)
class ByteBias(Settings):
    """What does a prompt that ends inside a token cost, compared with exact byte probabilities?"""

    name: ClassVar[str] = "byte_bias"
    summary: ClassVar[str] = "what a prompt that ends inside a token costs, compared with exact byte probabilities"
    paper: ClassVar[str] = (
        "Phan et al. 2024, Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles, "
        "arXiv:2410.09303; the partial token problem, arXiv:2601.23223; Thawani et al. 2023, Learn Your Tokens, arXiv:2310.11628; "
        "Chen et al. 2025, Improving Large Language Models with Concept-Aware Fine-Tuning, arXiv:2506.07833"
    )
    schema_version: ClassVar[int] = 5
    needs_attention: ClassVar[bool] = False
    in_atlas: ClassVar[bool] = False

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.byte_bias.tables import SCHEMAS

        return SCHEMAS

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the prompts or the texts cannot be read."""
        self.read_prompts()
        if self.corpus:
            from probes.byte_bias.words import read_texts

            read_texts(self, max(self.articles, self.concept_articles))

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns one unit for every prompt, one for the words of prose and one for its names."""
        prompts = [PromptUnit(one.id, index) for index, one in enumerate(self.read_prompts())]
        words = [WordsUnit("words")] if self.articles else []
        return [*prompts, *words, *([ConceptsUnit("concepts")] if self.concept_articles else [])]

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> Work:  # type: ignore[override]
        """Returns about what a unit reads: a prompt's tokens, and a token or two for every byte behind its first end."""
        if isinstance(unit, WordsUnit):
            return Work(tokens_read=self.articles * self.passage_tokens, tokens_held=4 * self.passage_tokens)
        if isinstance(unit, ConceptsUnit):
            return Work(tokens_read=self.concept_articles * self.passage_tokens, tokens_held=self.passage_tokens)
        assert isinstance(unit, PromptUnit)
        prompt = self.read_prompts()[unit.index]
        n_bytes = len(prompt.text)
        return Work(tokens_read=n_bytes + 2 * (n_bytes - prompt.cuts[0]), tokens_held=32 * n_bytes)

    def uncounted(self) -> str:
        """Returns what is not read by the model but takes time."""
        return "the tokenizer's check of every likely token, and the maps of names"

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":  # type: ignore[override]
        """Returns what is expected at every end of one prompt, or the words of prose, or its names."""
        from probes.byte_bias.concepts import measure_concepts
        from probes.byte_bias.measure import measure_prompts
        from probes.byte_bias.words import measure_words

        if isinstance(unit, WordsUnit):
            return {"words": measure_words(model, self)}
        if isinstance(unit, ConceptsUnit):
            return {"concepts": measure_concepts(model, self)}
        assert isinstance(unit, PromptUnit)
        return measure_prompts(model, [self.read_prompts()[unit.index]], self)

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns means over prompts and words."""
        from probes.byte_bias.summaries import summarise

        return summarise(measured, self.seed)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns what a prompt's end costs by domain, how far ways are from exact, what words cost by pieces, what names hold ahead."""
        from figures.byte_bias import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns what a prompt that ends inside a token costs, what healing gives back, and what words and names of several tokens do."""
        from probes.byte_bias.findings import findings

        found = findings(tables)
        if self.concept_articles and not len(tables["concepts"]):
            text = "No names: the states between this model's layers cannot be read by a lens."
            return [*found, Finding(text, "warning")]
        return found
