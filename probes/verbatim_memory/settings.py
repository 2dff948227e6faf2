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
    """Noun pools. arbitrary: nouns of mixed categories; coherent: each list from one category."""
    nouns: Path | None = None
    """Your own noun pool: one noun per line, lines of "category: noun, noun", or the published {"n3": [[…]]} JSON."""
    texts: Path | None = None
    """Your own preface, prompt and intervening texts, as TOML (the toolkit's texts.toml is the model)."""
    list_lengths: Annotated[tuple[Length, ...], SOME] = (3, 5, 7, 10)
    """Nouns per list."""
    n_base_lists: Annotated[int, Ge(2), Hint("intervals resample base lists, novel lists are another's")] = 23
    """Number of base lists, which share no nouns; intervals resample them."""
    rotations: Count = 2
    """Rotations of each base list (10 in the paper, so that every noun comes in every position)."""
    conditions: Annotated[tuple[Literal["repeat", "permute", "permute_strict", "novel"], ...], SOME] = (
        "repeat",
        "permute",
        "permute_strict",
        "novel",
    )
    """The second list. repeat: the same list; permute: another order; permute_strict: an order in which no two neighbours stay
    neighbours; novel: another base list."""
    intervening: Annotated[tuple[int, ...], SOME] = (1, 3)
    """Numbers of paragraphs between the lists; the first is used with all list lengths, the others with the longest only."""
    contexts: Annotated[tuple[Literal["intact", "scrambled", "incongruent", "short"], ...], SOME] = ("intact", "short")
    """Text between the longest lists. intact: a story; scrambled: its words shuffled; incongruent: a story on another subject;
    short: four words."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the beginning-of-sequence token; auto follows the tokenizer."""
    exact_rotations: int = 1
    """Rotations of each base list for which nouns also get their exact probability, summed over all tokenizations (0: none);
    longest lists and shortest text only."""
    exact_threshold: OpenShare = 1e-3
    """Follow other tokenizations of a noun while they are at least this likely relative to the tokenizer's own."""
    nulls: tuple[Literal["random_init", "qk_shuffled", "qk_shuffled_per_head", "positions_shuffled"], ...] = ()
    """Damaged copies of the model to measure as controls, with the shortest intervening text."""
    revisions: tuple[str, ...] = ()
    """Checkpoints of the model to measure too: branches on the hub or subfolders of a folder, such as step0 step1000."""
    mask_sets: tuple[Literal["matching", "postmatch", "recent"], ...] = ("postmatch", "recent")
    """Sets of heads to mask, chosen by their attention just before a noun of the second list. matching: attention to the token
    before the same noun in the first list; postmatch: to that noun; recent: to the preceding words. Empty: no masking."""
    heads_from: Path | None = None
    """A finished retrieval_heads run on the same model (its folder or hash), to mask its retrieval and induction heads too; or
    another tool's ranking of heads."""
    mask_k: tuple[int, ...] = ()
    """Numbers of heads to mask per set; by default 2, 5, 10 and 20, up to a fifth of the model's heads."""
    mask_draws: int = 5
    """Random control sets, drawn from the same layers, for each set and size."""
    mask_phase: Literal["second_list", "everything"] = "second_list"
    """When heads are masked. second_list: while the second list is read; everything: from the first token on."""
    batch_trials: Count = 24
    """Trials read at once; affects speed and memory, not results."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds, and for lists, texts and masks that do not go together."""
        super().__post_init__()
        if self.nouns is not None and len(self.pools) > 1:
            raise ArgumentError("--nouns is one pool: give --pools one name.")
        if self.head_sets and (min(self.mask_k, default=1) < 1 or self.mask_draws < 1):
            raise ArgumentError(
                "--mask-k and --mask-draws must be at least 1 (--mask-sets with nothing after it: no masking)."
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
