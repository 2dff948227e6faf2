"""The settings of the training_memory experiment. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Positive
from interp.experiments.experiment import Dtype, Experiment
from interp.models.loading.names import checkpoint_files

Condition = Literal["natural", "scrambled", "random"]
Foil = Literal["other", "changed", "natural"]
FOILS: Mapping[Condition, tuple[Foil, ...]] = {
    "natural": ("other", "changed"), "scrambled": ("other", "natural"), "random": ("other", "natural"),
}  # fmt: skip
"""What a studied sentence is told from. other: a sentence of its own kind; changed: itself with one word replaced; natural: the sentence
that was scrambled, or another news sentence."""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of TrainingMemory."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "conditions": ("natural",), "sentences": 8, "exposures": (0, 1, 3), "kept_for": (), "layer_groups": 0, "years_step": 0,
        },
        "sweep": {"learning_rates": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3), "sentences": 48, "years_step": 0},
    }  # fmt: skip

    model: str = "transformer-news-4"
    """Name of the model, a Hugging Face id, or a folder; the default is small, so that training it takes seconds."""
    dtype: Dtype = "float32"
    """Precision of the weights; training needs float32."""
    conditions: Annotated[tuple[Condition, ...], SOME] = ("natural", "scrambled", "random")
    """What the model is trained on. natural: news sentences; scrambled: their words in another order; random: random words."""
    sentences: Count = 24
    """Number of studied sentences per condition; as many more serve as foils."""
    texts: Path | None = None
    """A .txt file with one sentence per line to study instead of news sentences; twice as many as --sentences, half of them foils."""
    most_tokens: Count = 24
    """Maximum sentence length in tokens; longer sentences are truncated."""
    learning_rates: Annotated[tuple[Positive, ...], SOME] = (1e-3,)
    """Learning rates of AdamW (no weight decay), each with its own training; larger models need smaller ones."""
    batch: Count = 4
    """Batch size: sentences per update."""
    exposures: Annotated[tuple[CountOrNone, ...], SOME] = (0, 1, 2, 3, 5, 10)
    """Numbers of passes over the sentences after which the model is tested; must include 0, the model before any training."""
    seeds: Count = 1
    """Number of trainings per condition and learning rate, each on different sentences."""
    studied: Count = 3
    """Number of passes before the tests of which layers carry the memory and how long it lasts (condition natural)."""
    kept_for: tuple[Count, ...] = (1, 2, 5, 10, 20, 50)
    """Numbers of further updates on other news text after which the studied sentences are tested again; give none to skip this test."""
    layer_groups: CountOrNone = 4
    """Number of groups of neighbouring layers whose weights are reset, one group at a time; 0 skips this test."""
    duplicates: Path | None = None
    """File (.tsv, .csv or .jsonl) with columns text, duplicates (times in the training data) and optionally foil, for models whose
    training data is known; they are not trained here."""
    revisions: tuple[str, ...] = ()
    """With --duplicates: checkpoints of the model to test, such as steps of its training; the model itself if empty."""
    twin: str | None = None
    """With --duplicates: a model that was trained without these texts, such as Hubble's standard one: a name, a Hugging Face id, or a
    folder. Its tokenizer must be the same."""
    twin_revision: str | None = None
    """Branch, tag or commit of --twin on the hub; a subfolder of its folder."""
    offset_tokens: Count = 64
    """With --duplicates: number of news tokens before the text in the shifted placement; the other placement is the start of the window."""
    heads_off: CountOrNone = 8
    """With --duplicates: number of retrieval heads, and of induction heads, to switch off, so that copying from the window can be told
    from memory; 0 skips this test."""
    years_step: CountOrNone = 3
    """Step in years through the shipped annual series; 0 skips this part."""
    window_end: int = 2017
    """Last year assumed to be covered by the training data; the default model was trained on news of 2017."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for settings that do not go together."""
        super().__post_init__()
        if 0 not in self.exposures:
            raise ArgumentError("--exposures needs 0: what is known before any study is in every table.")
        if (
            named := next((one for one in ("revisions", "twin") if getattr(self, one)), None)
        ) and self.duplicates is None:
            raise ArgumentError(f"--{named} goes with --duplicates: name a file of texts with their counts.")
        if self.twin_revision and self.twin is None:
            raise ArgumentError("--twin-revision goes with --twin: name the model that it is a revision of.")
        if self.duplicates is None and self.dtype not in ("auto", "float32"):
            raise ArgumentError(f"--dtype must be float32, not {self.dtype}: small updates vanish in half precision.")

    def input_files(self) -> Sequence[Path]:
        """Returns the user's files."""
        twin = Path(self.twin).expanduser() if self.twin else None
        named = [path for path in (self.texts, self.duplicates, twin if twin and twin.is_dir() else None) if path]
        return [*named, *checkpoint_files(self.model, self.revisions)]

    @property
    def twin_name(self) -> str:
        """What the twin is called in tables."""
        folder = Path(self.twin or "").expanduser()
        name = folder.resolve().name if folder.is_dir() else self.twin or ""
        return f"{name} {self.twin_revision}" if self.twin_revision else name
