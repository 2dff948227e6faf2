"""The verbatim-memory experiment: its settings, and how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from interp.errors import ArgumentError
from interp.experiments.experiment import Dtype, Experiment, Finding, WorkUnit
from interp.heads.kinds import GIVEN
from interp.heads.places import is_file_of_heads
from interp.models.identity import ModelFacts
from probes.verbatim_memory.plan import RUN_SETS, ListUnit, LooksUnit, MaskUnit, plan_units

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class VerbatimMemory(Experiment):
    """How much does a model's surprisal fall when a list of nouns comes back?"""

    name: ClassVar[str] = "verbatim_memory"
    summary: ClassVar[str] = "how surprisal falls when a noun list is repeated"
    paper: ClassVar[str] = (
        "Armeni, Honey, Linzen 2022, Characterizing Verbatim Short-Term Memory in Neural Language Models, arXiv:2210.13569; Armeni, "
        "Pranjić, Pollak 2024, arXiv:2411.07075"
    )
    schema_version: ClassVar[int] = 1
    needs_attention: ClassVar[bool] = False
    reads: ClassVar[Mapping[str, str]] = {"heads_from": "retrieval_heads"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "list_lengths": (3, 10),
            "n_base_lists": 12,
            "rotations": 1,
            "conditions": ("repeat", "permute", "novel"),
            "intervening": (1,),
            "contexts": ("intact",),
            "exact_rotations": 0,
            "mask_draws": 2,
        },
        "paper": {
            "rotations": 10,
            "pools": ("arbitrary", "coherent"),
            "intervening": (1, 3, 4, 5),
            "contexts": ("intact", "scrambled", "incongruent", "short"),
            "conditions": ("repeat", "permute", "novel"),
        },
    }

    dtype: Dtype = "float32"
    """Precision of the weights. Surprisals of repeated nouns are tenths of a nat, which half precision does not resolve."""
    pools: tuple[Literal["arbitrary", "coherent"], ...] = ("arbitrary",)
    """arbitrary: nouns of mixed subjects; coherent: lists of one category each."""
    nouns: Path | None = None
    """A pool of your own: one noun per line, "category: noun, noun" lines, or the public {"n3": [[…]]} JSON."""
    texts: Path | None = None
    """Preface, prompt and intervening texts of your own, as TOML (see the toolkit's texts.toml)."""
    list_lengths: tuple[int, ...] = (3, 5, 7, 10)
    """Nouns per list."""
    n_base_lists: int = 23
    """Lists without common nouns; intervals resample these."""
    rotations: int = 2
    """Rotations of each base list (the paper has 10: every noun at every position)."""
    conditions: tuple[Literal["repeat", "permute", "permute_strict", "novel"], ...] = (
        "repeat",
        "permute",
        "permute_strict",
        "novel",
    )
    """Second lists: the same; in another order; in an order that keeps no pair of neighbours; another base list."""
    intervening: tuple[int, ...] = (1, 3)
    """Paragraphs between the lists; the first for all list lengths, the others for the longest lists."""
    contexts: tuple[Literal["intact", "scrambled", "incongruent", "short"], ...] = ("intact", "short")
    """Kinds of text between the lists, for the longest lists: a story, its words shuffled, another subject, four words."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the beginning-of-sequence token; auto does as the tokenizer does."""
    exact_rotations: int = 1
    """Rotations of each base list whose nouns get the exact probability too (0: none): the longest lists, shortest text."""
    exact_threshold: float = 1e-3
    """Other spellings are followed while they are at least this likely, relative to the tokenizer's own."""
    nulls: tuple[Literal["random_init", "qk_shuffled", "qk_shuffled_per_head", "positions_shuffled"], ...] = ()
    """Damaged copies of the model to measure beside it, with the shortest intervening text."""
    revisions: tuple[str, ...] = ()
    """Checkpoints of the model to measure beside it (branches on the hub, subfolders of a folder): step0 step1000 …"""
    mask_sets: tuple[Literal["matching", "postmatch", "recent"], ...] = ("postmatch", "recent")
    """Heads to silence, chosen by where they look from before a noun of the second list: before the same noun in the first
    list, at it, at the words just before. Empty: no masking."""
    heads_from: Path | None = None
    """A finished retrieval_heads run of the same model (its folder or hash), to silence its retrieval and its induction heads
    too; or a file of another tool that ranks heads."""
    mask_k: tuple[int, ...] = ()
    """How many heads of each set to silence; if not given 2, 5, 10 and 20, up to a fifth of the model's heads."""
    mask_draws: int = 5
    """Random sets of heads of the same layers, for each set and size."""
    mask_phase: Literal["second_list", "everything"] = "second_list"
    """Heads are silent while the second list is read, or from the first token on."""
    batch_trials: int = 24
    """Trials read at one time; changes speed and memory, no number."""

    def __post_init__(self) -> None:
        """Refuses settings that cannot be meant."""
        for name in ("pools", "list_lengths", "conditions", "intervening", "contexts"):
            if not getattr(self, name):
                raise ArgumentError(f"--{name.replace('_', '-')} needs at least one value.")
        if min(self.list_lengths) < 2:
            raise ArgumentError("--list-lengths start at 2: the first noun of a list is left out of the measure.")
        if self.n_base_lists < 2:
            raise ArgumentError(
                "--n-base-lists must be at least 2: intervals resample base lists, novel lists are another's."
            )
        if self.nouns is not None and len(self.pools) > 1:
            raise ArgumentError("--nouns is one pool: give --pools one name.")
        for name in ("rotations", "batch_trials"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"--{name.replace('_', '-')} must be at least 1.")
        if not 0 < self.exact_threshold < 1:
            raise ArgumentError("--exact-threshold lies between 0 and 1.")
        if self.head_sets and (min(self.mask_k, default=1) < 1 or self.mask_draws < 1):
            raise ArgumentError(
                "--mask-k and --mask-draws must be at least 1 (--mask-sets with nothing behind it: no masking)."
            )
        if "short" not in self.contexts and "intact" not in self.contexts:
            raise ArgumentError("--contexts must hold intact: the other contexts are compared with it.")

    @property
    def head_sets(self) -> tuple[str, ...]:
        """Rankings whose top heads are silenced."""
        if self.heads_from is None:
            return self.mask_sets
        return (*self.mask_sets, *((GIVEN,) if is_file_of_heads(self.heads_from) else RUN_SETS))

    def given(self, facts: ModelFacts) -> "pd.DataFrame | None":
        """Returns the heads of a file in --heads-from, best first, as the table `heads_from` has them; None without one."""
        from interp.heads.given import given_heads

        if self.heads_from is None or not is_file_of_heads(self.heads_from):
            return None
        return given_heads(self.heads_from, facts)

    # ------------------------------------------------------------------ plan

    def schemas(self) -> "Schemas":
        """Returns the schema of every table; the heads of --heads-from are one where they are given (empty of a run, which has
        its own tables).
        """
        from interp.heads.table import HeadsFrom
        from probes.verbatim_memory.tables import SCHEMAS

        return {**SCHEMAS, GIVEN: HeadsFrom} if self.heads_from else SCHEMAS

    def input_files(self) -> Sequence[Path]:
        """Returns the files that words and texts come from."""
        from probes.verbatim_memory.plan import OWN_POOLS
        from probes.verbatim_memory.texts import OWN_TEXTS

        pools = [self.nouns] if self.nouns else [OWN_POOLS[pool] for pool in self.pools]
        return [*pools, self.texts or OWN_TEXTS, *self._run_files()]

    def _run_files(self) -> Sequence[Path]:
        from probes.verbatim_memory.rankings import run_files

        return run_files(self.heads_from) if self.heads_from else ()

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the words and texts do not do for these settings."""
        from probes.verbatim_memory.plan import first_lists
        from probes.verbatim_memory.texts import read_texts

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
        from probes.verbatim_memory.rankings import check_same_model

        if facts.geometry is None:
            if self.heads_from is not None:
                raise ArgumentError(f"{facts.name} has no attention heads to silence: leave out --heads-from.")
            return
        n_heads = facts.geometry.n_layers * facts.geometry.n_heads
        if self.head_sets and max(self.mask_k, default=1) > n_heads // 2:
            raise ArgumentError(
                f"{facts.name} has {n_heads} heads, and a random control needs as many others: use --mask-k of at most {n_heads // 2}."
            )
        if self.heads_from is not None:
            check_same_model(self.heads_from, facts)

    def _check_revisions(self) -> None:
        """Refuses a checkpoint that does not exist before anything is measured."""
        from interp.models.loading import look_up

        for revision in self.revisions:
            look_up(self.model, dtype=self.dtype, revision=revision)

    def revision_of(self, unit: WorkUnit) -> str | None:
        """Returns the checkpoint that a unit is read with."""
        own = unit.revision if isinstance(unit, ListUnit) else None
        return own or self.revision

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns all units known to be needed."""
        return plan_units(self, facts, measured)

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows."""
        from probes.verbatim_memory import units

        if isinstance(unit, LooksUnit):
            return units.measure_looks_of(self, model, unit)
        if isinstance(unit, MaskUnit):
            return units.measure_masks_of(self, model, unit)
        assert isinstance(unit, ListUnit)
        return units.measure_lists(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.verbatim_memory.audit import audit_lists, audit_texts
        from probes.verbatim_memory.checkpoints import summarise_checkpoints
        from probes.verbatim_memory.mask_effects import summarise_masking
        from probes.verbatim_memory.summarise import summarise_positions, summarise_repeat_surprisal

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
        from figures.verbatim_memory_comparison import draw_comparison
        from probes.verbatim_memory.comparison import compare_all

        tables = compare_all(runs)
        return tables, draw_comparison(tables)
