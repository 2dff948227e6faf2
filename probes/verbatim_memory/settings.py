"""The settings of the verbatim-memory experiment: fields, presets and checks. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, Hint, OpenShare
from interp.experiments.experiment import Dtype, Experiment
from interp.heads.kinds import GIVEN, is_file_of_heads
from interp.models.identity import ModelFacts

if TYPE_CHECKING:
    import pandas as pd

Length = Annotated[int, Ge(2), Hint("the first noun of a list is left out of the measure")]
RUN_SETS = ("retrieval", "induction")
"""Rankings that a retrieval-heads run gives."""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of VerbatimMemory; every other file of the experiment takes its settings as this type."""

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
    pools: Annotated[tuple[Literal["arbitrary", "coherent"], ...], SOME] = ("arbitrary",)
    """arbitrary: nouns of mixed subjects; coherent: lists of one category each."""
    nouns: Path | None = None
    """A pool of your own: one noun per line, "category: noun, noun" lines, or the public {"n3": [[…]]} JSON."""
    texts: Path | None = None
    """Preface, prompt and intervening texts of your own, as TOML (see the toolkit's texts.toml)."""
    list_lengths: Annotated[tuple[Length, ...], SOME] = (3, 5, 7, 10)
    """Nouns per list."""
    n_base_lists: Annotated[int, Ge(2), Hint("intervals resample base lists, novel lists are another's")] = 23
    """Lists without common nouns; intervals resample these."""
    rotations: Count = 2
    """Rotations of each base list (the paper has 10: every noun at every position)."""
    conditions: Annotated[tuple[Literal["repeat", "permute", "permute_strict", "novel"], ...], SOME] = (
        "repeat",
        "permute",
        "permute_strict",
        "novel",
    )
    """Second lists: the same; in another order; in an order that keeps no pair of neighbours; another base list."""
    intervening: Annotated[tuple[int, ...], SOME] = (1, 3)
    """Paragraphs between the lists; the first for all list lengths, the others for the longest lists."""
    contexts: Annotated[tuple[Literal["intact", "scrambled", "incongruent", "short"], ...], SOME] = ("intact", "short")
    """Kinds of text between the lists, for the longest lists: a story, its words shuffled, another subject, four words."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the beginning-of-sequence token; auto does as the tokenizer does."""
    exact_rotations: int = 1
    """Rotations of each base list whose nouns get the exact probability too (0: none): the longest lists, shortest text."""
    exact_threshold: OpenShare = 1e-3
    """Other spellings are followed while they are at least this likely, relative to the tokenizer's own."""
    nulls: tuple[Literal["random_init", "qk_shuffled", "qk_shuffled_per_head", "positions_shuffled"], ...] = ()
    """Damaged copies of the model to measure as controls, with the shortest intervening text."""
    revisions: tuple[str, ...] = ()
    """Checkpoints of the model to measure beside it (branches on the hub, subfolders of a folder): step0 step1000 …"""
    mask_sets: tuple[Literal["matching", "postmatch", "recent"], ...] = ("postmatch", "recent")
    """Heads to silence, by what they attend to when a noun of the second list comes next. matching: the token before the same noun
    in the first list; postmatch: that noun; recent: the words just before. Empty: no masking."""
    heads_from: Path | None = None
    """A finished retrieval_heads run of the same model (its folder or hash), to silence its retrieval and its induction heads
    too; or a file of another tool that ranks heads."""
    mask_k: tuple[int, ...] = ()
    """How many heads of each set to silence; if not given 2, 5, 10 and 20, up to a fifth of the model's heads."""
    mask_draws: int = 5
    """Random sets of heads of the same layers, for each set and size."""
    mask_phase: Literal["second_list", "everything"] = "second_list"
    """Heads are silent while the second list is read, or from the first token on."""
    batch_trials: Count = 24
    """Trials read at one time; changes speed and memory, no number."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds, and for lists, texts and masks that do not go together."""
        super().__post_init__()
        if self.nouns is not None and len(self.pools) > 1:
            raise ArgumentError("--nouns is one pool: give --pools one name.")
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
