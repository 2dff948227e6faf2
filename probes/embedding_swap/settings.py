"""The settings of the embedding_swap experiment, and the frames that they name. Imports no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Share
from interp.experiments.experiment import Dtype, Experiment
from interp.kept import kept_while_unchanged
from interp.models.loading.names import checkpoint_files
from interp.models.transplant.rules import Rule

OWN_FRAMES = Path(__file__).with_name("frames.toml")
SLOT = "___"
TokenClass = Literal["words", "frequent", "all"]
Part = Literal["ciphers", "frames", "pieces"]
TwoOrMore = Annotated[int, Ge(2)]


@dataclass(frozen=True)
class PartOfSpeech:
    """Frames that a word of one part of speech fits, and known words of it."""

    name: str
    frames: tuple[str, ...]
    """Sentences with a slot, which say what part of speech is in it."""
    tests: tuple[str, ...]
    """Beginnings of sentences that go on with a word of this part of speech."""
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of EmbeddingSwap."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "texts_per_cipher": 3, "text_tokens": 96, "classes": ("words",), "nonce_words": 3, "words_per_class": 3,
            "held_out_tokens": 8, "rules": ("random", "mean", "spelling"),
        }
    }  # fmt: skip

    parts: Annotated[tuple[Part, ...], SOME] = ("ciphers", "frames", "pieces")
    """What to measure. ciphers: texts read with permuted or random embedding rows; frames: the part of speech of an unknown token from
    its context; pieces: embedding rows rebuilt from subword pieces."""
    dtype: Dtype = "float32"
    """Precision of the weights."""
    texts: Path | None = None
    """Folder of texts to read; news articles if not given."""
    texts_per_cipher: TwoOrMore = 6
    """Number of texts per cipher, each with its own key."""
    text_tokens: Annotated[int, Ge(32)] = 160
    """Length of each text, in tokens."""
    classes: Annotated[tuple[TokenClass, ...], SOME] = ("words", "frequent", "all")
    """Tokens to encipher. words: lower-case words; frequent: the 50 most frequent of them; all: all tokens but control tokens."""
    shares: Annotated[tuple[Share, ...], SOME] = (1.0,)
    """Shares of the first class's tokens to encipher; the other classes are enciphered completely."""
    nonce_words: TwoOrMore = 6
    """Number of rare tokens, and of random (Gaussian) embedding rows, to put into the frames."""
    words_per_class: TwoOrMore = 8
    """Maximum number of known words per part of speech."""
    frames: Path | None = None
    """TOML file in the format of probes/embedding_swap/frames.toml: frames, tests and words for each part of speech."""
    revisions: tuple[str, ...] = ()
    """Further checkpoints of the model to measure the frames on."""
    held_out_tokens: TwoOrMore = 16
    """Number of held-out tokens whose rows are rebuilt from their pieces."""
    rules: Annotated[tuple[Rule, ...], SOME] = ("random", "mean", "first", "last", "local", "local+global", "spelling")
    """Rules for building a row from a token's pieces."""

    def input_files(self) -> Sequence[Path]:
        """Returns the folder of texts and the file of frames."""
        named = [path for path in (self.texts, self.frames) if path]
        return [*named, *checkpoint_files(self.model, self.revisions)]

    def read_frames(self) -> tuple[PartOfSpeech, ...]:
        """Returns the parts of speech.

        Raises ArgumentError for a file that is not there or that holds something else.
        """
        return _read(self.frames or OWN_FRAMES)


@kept_while_unchanged(lambda path: (path,))
def _read(path: Path) -> tuple[PartOfSpeech, ...]:
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of frames with --frames.")
    try:
        found = tuple(
            _part_of_speech(name, table) for name, table in tomllib.loads(path.read_text(encoding="utf-8-sig")).items()
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{path} is not a file of frames ({error}): write [part of speech] with frames, tests and words."
        ) from error
    if len(found) < 2:
        raise ArgumentError(f"{path} holds {len(found)} parts of speech: give at least two.")
    for one in found:
        if any(frame.count(SLOT) != 1 or frame.startswith(SLOT) for frame in one.frames):
            raise ArgumentError(
                f"Every frame of {one.name} in {path} needs one slot ({SLOT}), with something before it."
            )
        if len(one.frames) < 4 or not one.tests or len(one.words) < 4:
            raise ArgumentError(f"{one.name} in {path} needs four frames, a test and four words.")
    return found


def _part_of_speech(name: str, table: Any) -> PartOfSpeech:
    """A table of a file; raises ValueError for a text where a list is meant, which would be read as its letters."""
    lists = ("frames", "tests", "words")
    if not isinstance(table, dict) or set(table) != set(lists):
        raise ValueError(f"{name} needs {', '.join(lists)}, and nothing else")
    for key in lists:
        texts = table[key]
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{key} of {name} is no list of texts")
        if len(set(texts)) < len(texts):
            raise ValueError(f"{key} of {name} holds a text twice")
    return PartOfSpeech(name, *(tuple(table[key]) for key in lists))
