"""The settings of the sequence_representation experiment. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from interp.assets import ENCODERS
from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone
from interp.experiments.experiment import Dtype, Experiment
from probes.sequence_representation.pairs import Pair, own_pairs, read_pairs

Arm = Literal["plain", "prompt", "slot", "prepend", "other", "mean", "random", "echo"]
WRITING: tuple[Arm, ...] = ("prepend", "other", "mean", "random")
"""Arms that put a state into the slot."""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of SequenceRepresentation."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "sentences": 3, "arms": ("plain", "prompt", "slot", "prepend"), "exits": (7,), "prose_sentences": 24,
            "distractors": 10, "shifted_texts": 6,
        }
    }  # fmt: skip

    dtype: Dtype = "float32"
    """Precision of the weights of --model; the encoder is always read in float32."""
    encoder: str = "all-minilm-l6-v2"
    """Sentence encoder to compare with the model: all-minilm-l6-v2, a folder written by save_pretrained, or none."""
    pairs: Path | None = None
    """File of graded text pairs, as in STS (.tsv or .csv with a header, or .jsonl); by default the toolkit's own pairs."""
    first_column: str = "sentence1"
    """Column (or JSON key) of the first text."""
    second_column: str = "sentence2"
    """Column (or JSON key) of the second text."""
    grade_column: str = "score"
    """Column (or JSON key) of the grade: the higher, the more similar."""
    sentences: Count | None = None
    """Use only the first n sentences of the toolkit's own pairs (seven pairs each), or the first n pairs of a file; by default all."""
    arms: Annotated[tuple[Arm, ...], SOME] = ("plain", "prompt", "slot", "prepend", "other")
    """How the model reads a text. plain: by itself; prompt: 'This sentence : "…" means in one word:"'; slot: with a placeholder before
    the sentence; prepend: the last token's state is written into it (Token Prepending); other, mean, random: another text's, the mean
    one, noise; echo: the sentence twice."""
    start: Count = 1
    """First layer at whose input the slot is overwritten."""
    exits: Annotated[tuple[Count, ...], SOME] = (7,)
    """The slot is overwritten at the inputs of layers from --start up to, not including, this one; the controls use the largest value."""
    shifted_texts: Count = 24
    """Number of texts on which the shift of token states by Token Prepending is measured."""
    prose_sentences: CountOrNone = 240
    """Number of news sentences whose words are decoded from pooled states (DupMAE); 0 skips this part."""
    distractors: CountOrNone = 100
    """Number of news sentences to add as distractors to the documents of token retrieval (XTR); the others are the pairs' second texts."""
    top_k: Annotated[tuple[Count, ...], SOME] = (10, 100, 1000)
    """Numbers of document tokens that each query token retrieves (XTR)."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for layers that do not follow each other."""
        super().__post_init__()
        if min(self.exits) <= self.start:
            raise ArgumentError(f"--exits {min(self.exits)} must be above --start {self.start}.")
        if "prompt" not in self.arms:
            raise ArgumentError("--arms needs prompt: it is what the others are compared with.")

    def input_files(self) -> Sequence[Path]:
        """Returns the file of pairs and the folder of an encoder."""
        files = [self.pairs] if self.pairs else []
        if self.encoder not in ("none", *ENCODERS):
            files.append(Path(self.encoder).expanduser())
        return [path for path in files if path.exists()]

    def read_pairs(self) -> tuple[Pair, ...]:
        """Returns the pairs.

        Raises ArgumentError for a file that is not there or cannot be read.
        """
        if self.pairs is None:
            return own_pairs(self.sentences)
        if not self.pairs.is_file():
            raise ArgumentError(f"There is no file {self.pairs}: name a file of pairs with --pairs.")
        columns = (self.first_column, self.second_column, self.grade_column)
        return read_pairs(self.pairs, columns)[: self.sentences]
