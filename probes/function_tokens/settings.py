"""The settings of the function-token experiment, with their presets and checks. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, OpenShare, Positive
from interp.experiments.experiment import ADDED, Experiment
from interp.models.identity import ModelFacts

Part = Literal["graph", "losses", "reactivation", "steering"]


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """What a function-token run measures, and on which texts and dictionaries."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "tokens": 12_000,
            "blocks": 6,
            "shuffles": 2,
            "random_sets": 4,
            "loss_tokens": 4_000,
            "reactivation_prompts": 8,
            "steering_prompts": 2,
        },
        "million": {
            "tokens": 1_050_000,
            "blocks": 40,
            "loss_tokens": 100_000,
            "reactivation_prompts": 3000,
            "steering_prompts": 600,
        },
        "losses": {"parts": ("losses",), "loss_tokens": 200_000, "tokens": 200_000},
    }

    dictionary: tuple[str, ...] = ()
    """Dictionaries (sparse autoencoders): folders, or RELEASE:ID of SAELens releases; by default those shipped for the model."""
    expected_l0: Positive | None = None
    """L0, the mean number of active features per position that the dictionary's authors report, if its release does not say."""
    expected_explained_variance: Annotated[float, Le(1)] | None = field(default=None, metadata=ADDED)
    """Share of variance explained that the dictionary's authors report, if its release does not say."""
    allow_other_model: bool = False
    """Accept a dictionary trained on a model with another name, such as a copy of this one."""
    corpus: Path | None = None
    """Folder of .txt files, one text per file; by default news prose. Texts that a dictionary was trained on are left out."""
    tokens: Count = 24_000
    """Number of corpus tokens to measure, in whole texts; the remaining texts supply token frequencies."""
    blocks: Annotated[int, Ge(2)] = 12
    """Number of blocks to split the measured texts into; a block is a unit of work, and intervals resample blocks."""
    context_tokens: int = 128
    """Length in tokens of the windows that texts are cut into."""
    bos: Literal["auto", "always", "never"] = field(default="auto", metadata=ADDED)
    """Whether windows begin with the beginning-of-sequence token; auto: as when the dictionary was trained, else as the tokenizer
    does."""
    skip_first: CountOrNone = 4
    """Positions at the start of each window that are read but not counted."""
    norm_limit: Positive = 5.0
    """Do not count attention sinks: positions whose residual norm exceeds this multiple of the median."""
    threshold: OpenShare = 0.4
    """Function tokens are the most frequent tokens that together account for this share of all occurrences."""
    parts: Annotated[tuple[Part, ...], SOME] = ("graph", "losses", "reactivation", "steering")
    """What to measure; losses alone needs no dictionary."""
    shuffles: Annotated[int, Ge(2)] = 4
    """Number of label shuffles per stratum, the null distribution of the graph."""
    random_sets: Count = 8
    """Number of random token sets of each size, as controls."""
    loss_tokens: Count = 8_000
    """Number of tokens of the measured texts to measure prediction loss on."""
    reactivation_prompts: Count = 32
    """Number of prompts per dictionary in which attention is knocked out."""
    steering_prompts: Count = 8
    """Number of prompts per dictionary in which features are steered."""
    steering_strength: Positive = 8.0
    """Length of the steering vector, as a multiple of the feature's highest activation in the prompt."""
    graphml: bool = False
    """Also write the bipartite graph as GraphML (up to a million edges)."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds, and for windows of which too little is counted."""
        super().__post_init__()
        if self.context_tokens < self.skip_first + 9:
            raise ArgumentError(
                f"--context-tokens must be at least 9 more than --skip-first, not {self.context_tokens}."
            )

    @property
    def needs_dictionary(self) -> bool:
        """Whether any part looks at features."""
        return set(self.parts) != {"losses"}

    def dictionary_names(self, model: str) -> list[str]:
        """Returns the dictionaries of a run on the model.

        Raises ArgumentError when none is named and the toolkit ships none.
        """
        if self.dictionary or not self.needs_dictionary:
            _refuse_equal_names(self.dictionary)
            return list(self.dictionary)
        folder = _shipped_folder() / model
        shipped = sorted(folder.glob("layer_*"), key=lambda path: int(path.name.removeprefix("layer_")))
        if not shipped:
            raise ArgumentError(
                f"The toolkit ships no dictionary for {model}: give --dictionary a folder or RELEASE:ID of a SAELens release, or "
                "measure --parts losses alone."
            )
        return [str(path) for path in shipped]

    def input_files(self) -> Sequence[Path]:
        """Returns the corpus, and the dictionaries that are folders with the lists of texts that they were trained on, which the
        corpus is without: for the shipped ones, of any model.
        """
        folders = [Path(name) for name in self.dictionary if Path(name).is_dir()]
        places = {place for folder in folders for place in (folder.absolute(), folder.resolve())}
        lists = sorted({place.parent / "training_texts.txt" for place in places})
        folders += [file for file in lists if file.is_file()]
        if not self.dictionary and self.needs_dictionary:
            folders = [_shipped_folder()]
        return [*folders, *([self.corpus] if self.corpus else [])]

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the model cannot take these settings."""
        if facts.geometry is None and self.needs_dictionary:
            raise ArgumentError(
                f"{facts.name} ({facts.model_type}) has no attention heads, so no dictionary of it can be used: measure --parts losses "
                "alone."
            )
        window = facts.context_window
        if window is not None and self.context_tokens > window:
            raise ArgumentError(
                f"--context-tokens {self.context_tokens} does not fit {facts.name}, which reads {window}: use at most {window}."
            )
        self.dictionary_names(facts.name)


def _refuse_equal_names(dictionaries: Sequence[str]) -> None:
    """Raises ArgumentError when two dictionaries could not be told apart in the tables, where folders go by their last two names."""
    seen: dict[str, str] = {}
    for given in dictionaries:
        name = "/".join(Path(given).absolute().parts[-2:]) if Path(given).is_dir() else given
        if name in seen:
            raise ArgumentError(
                f"--dictionary {seen[name]} and {given} are both called {name} in the tables: rename a folder, or measure them in two runs."
            )
        seen[name] = given


def _shipped_folder() -> Path:
    """Where interp.models.dictionary.dictionary.SHIPPED is, without importing torch."""
    import interp

    return Path(str(interp.__file__)).parent / "models" / "dictionaries"
