"""The verbatim-memory experiment: joins settings, plan, measurement, tables, figures and findings. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from interp.errors import ArgumentError
from interp.experiments.experiment import Finding, WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from interp.models.loading.names import checkpoint_files
from probes.verbatim_memory.plan import ListUnit, LooksUnit, MaskUnit, expected_units, plan_units, work_of
from probes.verbatim_memory.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.experiment import Work
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class VerbatimMemory(Settings):
    """How much does a model's surprisal fall when a list of nouns comes back?"""

    name: ClassVar[str] = "verbatim_memory"
    summary: ClassVar[str] = "how surprisal falls when a noun list is repeated"
    paper: ClassVar[str] = (
        "Armeni, Honey, Linzen 2022, Characterizing Verbatim Short-Term Memory in Neural Language Models, arXiv:2210.13569; Armeni, "
        "Pranjić, Pollak 2024, arXiv:2411.07075"
    )
    schema_version: ClassVar[int] = 2
    needs_attention: ClassVar[bool] = False
    reads: ClassVar[Mapping[str, str]] = {"heads_from": "retrieval_heads"}

    # ------------------------------------------------------------------ plan

    def schemas(self) -> "Schemas":
        """Returns the schema of every table; the heads of --heads-from are one where they are given (empty of a run, which has
        its own tables).
        """
        from interp.heads.given import HeadsFrom
        from probes.verbatim_memory.tables import SCHEMAS

        return {**SCHEMAS, GIVEN: HeadsFrom} if self.heads_from else SCHEMAS

    def input_files(self) -> Sequence[Path]:
        """Returns the files that words and texts come from."""
        from probes.verbatim_memory.lists import OWN_POOLS
        from probes.verbatim_memory.trials import OWN_TEXTS

        pools = [self.nouns] if self.nouns else [OWN_POOLS[pool] for pool in self.pools]
        checkpoints = checkpoint_files(self.model, self.revisions)
        return [*pools, self.texts or OWN_TEXTS, *self._run_files(), *checkpoints]

    def _run_files(self) -> Sequence[Path]:
        from probes.verbatim_memory.heads import run_files

        return run_files(self.heads_from) if self.heads_from else ()

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError if the nouns or texts do not fit the settings."""
        from probes.verbatim_memory.lists import first_lists
        from probes.verbatim_memory.trials import read_texts

        texts = read_texts(self.texts)
        for context in self.contexts:
            for length in self.intervening:
                texts.between(context, length, self.seed)
        for pool in self.pools:
            for length in self.list_lengths:
                first_lists(self, pool, length)
        if facts.geometry is None and any(null != "random_init" for null in self.nulls):
            raise ArgumentError(f"{facts.name} has no attention heads to shuffle: use --nulls random_init.")
        self._check_heads(facts)
        self._check_revisions()

    def _check_heads(self, facts: ModelFacts) -> None:
        """Refuses masks that the model, or the run that ranks its heads, cannot have."""
        from probes.verbatim_memory.heads import check_same_model

        if facts.geometry is None:
            if self.heads_from is not None:
                raise ArgumentError(f"{facts.name} has no attention heads to silence: leave out --heads-from.")
            return
        n_heads = facts.geometry.n_heads_in_all
        if self.head_sets and max(self.mask_k, default=1) > n_heads // 2:
            raise ArgumentError(
                f"{facts.name} has {n_heads} heads, and a random control needs as many others: use --mask-k of at most {n_heads // 2}."
            )
        if self.heads_from is not None:
            check_same_model(self.heads_from, facts)

    def _check_revisions(self) -> None:
        """Refuses a checkpoint that does not exist before anything is measured."""
        from interp.models.loading.language import look_up

        for revision in self.revisions:
            look_up(self.model, dtype=self.dtype, revision=revision)

    def revision_of(self, unit: WorkUnit) -> str | None:
        """Returns the checkpoint that a unit is read with."""
        own = unit.revision if isinstance(unit, ListUnit) else None
        return own or self.revision

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns all units known to be needed."""
        return plan_units(self, facts, measured)

    def expected_units(self, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:  # type: ignore[override]
        """Returns the units of the plan, and stand-ins for later ones."""
        return expected_units(self, model, measured)

    def work_of(self, model: "LanguageModel", unit: WorkUnit) -> "Work | None":  # type: ignore[override]
        """Returns what a unit reads and writes."""
        return work_of(self, model, unit)

    def uncounted(self) -> str:
        """Returns what exact probabilities read."""
        return "the other spellings that --exact-rotations follows" if self.exact_rotations else ""

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows.

        Raises UserError, before anything is measured, when heads are to be masked and the model's cannot be.
        """
        from probes.verbatim_memory.heads import check_maskable
        from probes.verbatim_memory.measure import measure_lists, measure_looks_of, measure_masks_of

        if self.head_sets:
            check_maskable(model, self.mask_phase)
        if isinstance(unit, LooksUnit):
            return measure_looks_of(self, model, unit)
        if isinstance(unit, MaskUnit):
            return measure_masks_of(self, model, unit)
        assert isinstance(unit, ListUnit)
        return measure_lists(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.verbatim_memory.summaries import (
            audit_lists,
            audit_texts,
            summarise_checkpoints,
            summarise_masking,
            summarise_positions,
            summarise_repeat_surprisal,
        )

        surprisals = measured["token_surprisals"]
        repeat_surprisal = summarise_repeat_surprisal(surprisals, self.seed)
        given = self.given(facts)
        return {
            "repeat_surprisal": repeat_surprisal,
            "checkpoints": summarise_checkpoints(repeat_surprisal),
            "masking_summary": summarise_masking(measured["masking"], surprisals, self.seed),
            "position_curve": summarise_positions(surprisals, self.seed),
            "stimulus_audit": audit_lists(surprisals),
            "intervening_audit": audit_texts(surprisals, self),
            **({} if given is None else {GIVEN: given}),
        }

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.verbatim_memory import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.verbatim_memory.findings import find_all

        return find_all(self, tables)

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns repeat surprisal of several models side by side."""
        from figures.verbatim_memory import draw_comparison
        from probes.verbatim_memory.summaries import compare_all

        tables = compare_all(runs)
        return tables, draw_comparison(tables)
