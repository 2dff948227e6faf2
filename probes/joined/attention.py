"""Do function tokens receive retrieval heads' attention? Reads two runs and measures with the model. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import Count, Hint
from interp.experiments.experiment import Finding, WorkUnit
from interp.experiments.join import Join
from interp.models.identity import ModelFacts

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables

TEXTS_PER_UNIT = 8


@dataclass(frozen=True)
class TextsUnit(WorkUnit):
    """Some texts of one kind, by their numbers [first, end)."""

    context: str
    """prose or needle"""
    first: int
    end: int


@dataclass(frozen=True, kw_only=True)
class AttentionJoin(Join):
    """Do function tokens receive retrieval heads' attention?"""

    name: ClassVar[str] = "join_attention"
    summary: ClassVar[str] = "do function tokens receive retrieval heads' attention?"
    paper: ClassVar[str] = "a join of this toolkit; the methods are those of the runs it reads"
    schema_version: ClassVar[int] = 2
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {"quick": {"n_passages": 16, "n_prompts": 16}}
    reads: ClassVar[Mapping[str, str]] = {
        "retrieval_heads": "retrieval_heads",
        "function_tokens": "function_tokens",
    }
    tables_read: ClassVar[Mapping[str, Sequence[str]]] = {
        "retrieval_heads": ("head_scores", "samples"),
        "function_tokens": ("token_classes",),
    }

    retrieval_heads: Path | None = None
    """Folder of the retrieval_heads run that ranks the heads; its prompts are read again."""
    function_tokens: Path | None = None
    """Folder of the function_tokens run that defines which tokens are function tokens."""
    k: Count = 10
    """Number of top retrieval heads to test."""
    random_draws: Count = 5
    """Number of random control sets: as many heads in the same layers."""
    n_passages: Annotated[int, Ge(2), Hint("intervals resample passages")] = 48
    """Number of passages of news prose; every position is a query."""
    passage_tokens: Annotated[int, Ge(8)] = 256
    """Length of a passage, in tokens."""
    n_prompts: Count = 48
    """Number of prompts of the retrieval run; the answer's positions are the queries."""

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when no heads are ranked, the model has too few, or a window too short for the passages."""
        from interp.heads.given import scores_of_run

        super().check_model(facts)
        scores_of_run(self.run_of("retrieval_heads"))
        assert facts.geometry is not None
        n_heads = facts.geometry.n_heads_in_all
        if self.k > n_heads // 2:
            raise ArgumentError(
                f"{facts.name} has {n_heads} heads, and a random control needs as many others: use --k of at most {n_heads // 2}."
            )
        if facts.context_window is not None and self.passage_tokens > facts.context_window:
            raise ArgumentError(
                f"--passage-tokens {self.passage_tokens} does not fit {facts.name}: use at most {facts.context_window}."
            )

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.joined.tables import ATTENTION_SCHEMAS

        return ATTENTION_SCHEMAS

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units that read passages and prompts."""
        return [
            TextsUnit(f"{context}-{first:04d}", context, first, min(first + TEXTS_PER_UNIT, n))
            for context, n in (("prose", self.n_passages), ("needle", self.n_prompts))
            for first in range(0, n, TEXTS_PER_UNIT)
        ]

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the attention that every head gives to every class of tokens in the unit's texts."""
        import pandas as pd

        from probes.joined.class_mass import group_of_ids, measure_class_mass, needle_texts, prose_texts

        assert isinstance(unit, TextsUnit)
        if unit.context == "prose":
            texts = prose_texts(model.tokenizer, self.n_passages, self.passage_tokens, self.seed)
        else:
            texts = needle_texts(self.tables_of("retrieval_heads")["samples"], self.n_prompts, self.seed)
        embeddings: Any = model.hf.get_input_embeddings()
        n_ids = embeddings.weight.shape[0]
        group = group_of_ids(self.tables_of("function_tokens")["token_classes"], n_ids)
        rows = [measure_class_mass(model, text, group) for text in texts[unit.first : unit.end]]
        return {"class_mass": pd.concat(rows, ignore_index=True)} if rows else {}

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the lift of function tokens for sets of heads and for each head, and the answers."""
        from interp.heads.given import scores_of_run
        from interp.heads.sets import matched_draws
        from probes.joined.class_mass import heads_of
        from probes.joined.summaries import summarise_heads, summarise_lift
        from probes.joined.tables import attention_answers

        assert facts.geometry is not None
        scores = scores_of_run(self.run_of("retrieval_heads"))
        top = heads_of(scores.head(self.k))
        random = matched_draws(top, facts.geometry.n_heads, (self.seed, self.name, self.k), self.random_draws)
        mass = measured["class_mass"]
        lift = summarise_lift(mass, top, random, self.seed)
        return {
            "attention_lift": lift,
            "head_lift": summarise_heads(mass, scores),
            "answers": attention_answers(lift, self.k),
        }

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.atlas import plot_head_lift, plot_lift
        from figures.style import drawn

        return {
            "lift": drawn(plot_lift, tables, "attention_lift"),
            "head_lift": drawn(plot_head_lift, tables, "head_lift", k=self.k),
        }

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.joined.findings import find_attention

        return find_attention(tables, self.k)
