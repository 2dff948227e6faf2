"""The settings of a context_recall run: their meanings, presets and limits. Imports no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, OpenShare, Share
from interp.experiments.experiment import ADDED, Dtype, Experiment
from interp.models.identity import ModelFacts
from interp.retention.limits import HALVES
from interp.retention.policies.catalogue import entry_of, options_of
from probes.context_recall.tasks.catalogue import NATURAL, check_name

if TYPE_CHECKING:
    import pandas as pd

OWN_FRAMES = Path(__file__).with_name("frames.toml")
USUAL = (
    "mqar", "forgetting", "compositional", "kv_single", "thread", "variables(hops=1, direction=forward)", "list_recall", "order", NATURAL,
)  # fmt: skip
"""Tasks of a run without --tasks: about six minutes of one core with a model of 135 million parameters."""
LONGEST_QUESTION = 128
"""Room for what is read behind a context."""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """What a context_recall run is asked to measure."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "tasks": ("mqar(pairs=8)", "forgetting", "compositional", "thread(hops=1)", "list_recall(anchor=comma)"),
            "samples": 3,
            "lengths": (64, 128),
            "length_samples": 3,
            "finding_needles": 3,
            "random_draws": 1,
            "policies": ("streaming", "snapkv(window=4)"),
            "kept_contexts": 3,
        },
    }  # fmt: skip

    dtype: Dtype = "float32"
    """Precision of the weights."""
    tasks: Annotated[tuple[str, ...], SOME] = USUAL
    """Tasks by name, with options in brackets for one size instead of the usual ones, such as mqar(pairs=32), or your own as
    module:name."""
    samples: Annotated[int, Ge(2)] = 8
    """Contexts of every task at every size; long tasks take fewer."""
    words: str = "english"
    """What keys and values are taken from, single tokens alone: english (a list of nouns), vocabulary (every whole word that the
    tokenizer knows, of any script), or a text file of words."""
    frames: Path | None = None
    """A .toml file of the texts around keys and values, like probes/context_recall/frames.toml, for prompts in other words or another
    language."""
    lengths: tuple[Annotated[int, Ge(64)], ...] = (128, 256, 512)
    """Lengths in tokens of the contexts that the curve of recall against length is made of; none for no curve."""
    length_samples: Annotated[int, Ge(2)] = 3
    """Contexts of each length."""
    effective_at: Share = 0.5
    """The recall down to which a length counts as effective; RULER's convention is 0.856."""
    role_share: OpenShare = 0.03
    """Share of the model's heads that count as retrieval and as induction heads, the best of each score."""
    random_draws: Count = 2
    """Random sets of as many heads in the same layers, for retrieval and for induction heads."""
    finding_needles: Count = 8
    """Contexts on which retrieval heads are found; other words and other prose than those that are scored."""
    heads_from: Path | None = None
    """A ranking of retrieval heads: a retrieval_heads run (its folder or hash), or a file of another tool. By default heads are
    found here."""
    moved_tokens: tuple[Annotated[int, Ge(1)], ...] = field(default=(), metadata=ADDED)
    """Positions by which a question is moved away from its context while the text stays, each a condition of its own; for models with
    rotary positions. None for no such condition."""
    policies: tuple[str, ...] = ("streaming", "snapkv(window=4)", "tova", "tokenselect")
    """Rules for which of the context's keys a question may read, each a condition of its own beside keys kept at random: policies of
    kv_policies by name, with options in brackets, or your own as module:Class. None for no such condition."""
    kept_share: Share = 0.5
    """Share of a context's keys that each policy keeps, the first token's among them."""
    kept_contexts: Annotated[int, Ge(2)] = 8
    """Contexts of each task that are answered under policies, shared out among its sizes."""
    natural_texts: Annotated[int, Ge(2)] = 4
    """Texts of prose whose repeated bigrams are scored."""
    natural_tokens: Annotated[int, Ge(64)] = 128
    """Tokens of each."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether contexts begin with the beginning-of-sequence token; auto does as the tokenizer does."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds and for tasks that are not there."""
        super().__post_init__()
        for text in self.tasks:
            check_name(text)
        for text in self.policies:
            options_of(text)
            if entry_of(text).heads:
                raise ArgumentError(
                    f"{text} spares heads that a kv_policies run finds for it: leave it out of --policies, or run kv_policies."
                )

    def input_files(self) -> Sequence[Path]:
        """Returns the files of words, frames, and heads."""
        from interp.heads.given import given_files

        words = [] if self.words in ("english", "vocabulary") else [Path(self.words)]
        frames = [self.frames] if self.frames else []
        return [*words, *frames, *(given_files(self.heads_from) if self.heads_from else [])]

    def read_frames(self) -> Mapping[str, Any]:
        """Returns the texts around keys and values.

        Raises ArgumentError for a file that is not there, is no TOML, or lacks one of them.
        """
        return _frames(self.frames or OWN_FRAMES)

    def given(self, facts: ModelFacts) -> "pd.DataFrame | None":
        """Returns the heads of --heads-from, best first, as the table `heads_from` has them; None without."""
        from interp.heads.given import given_heads

        return given_heads(self.heads_from, facts) if self.heads_from and facts.geometry else None

    def check_policies(self, facts: ModelFacts) -> None:
        """Raises ArgumentError for a policy that needs a rotary embedding which the model does not have."""
        for text in self.policies:
            if facts.geometry and entry_of(text).rotary and facts.model_type not in HALVES:
                raise ArgumentError(
                    f"{text} needs a rotary embedding in halves, and {facts.name} ({facts.model_type}) has none that is known: leave "
                    "it out of --policies."
                )

    def fitting_lengths(self, facts: ModelFacts) -> tuple[int, ...]:
        """Returns the lengths of the curve, shortest first.

        Raises ArgumentError for one that the model's window has no room for.
        """
        window = facts.context_window
        for length in self.lengths:
            if window is not None and length + LONGEST_QUESTION > window:
                raise ArgumentError(
                    f"A context of {length} tokens and its question do not fit {facts.name}, which reads {window}: use --lengths up to "
                    f"{window - LONGEST_QUESTION}."
                )
        return tuple(sorted(set(self.lengths)))


@lru_cache(maxsize=2)
def _frames(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of texts with --frames.")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f'{path} is no TOML file of texts ({error}): write name = "text".') from error
    if path == OWN_FRAMES:
        return found
    own = _frames(OWN_FRAMES)
    for name, value in own.items():
        if type(found.get(name)) is not type(value):
            raise ArgumentError(f"{path} lacks {name}: copy probes/context_recall/frames.toml and change its texts.")
        if isinstance(value, str):
            _check_places(path, name, value, found[name])
    return found


def _check_places(path: Path, name: str, own: str, text: str) -> None:
    """Raises ArgumentError for a text without the places in braces that the toolkit's has."""
    from string import Formatter

    try:
        places = {place for _, place, _, _ in Formatter().parse(text) if place}
    except ValueError as error:
        raise ArgumentError(f"{path}: {name} has braces that do not match ({error}): write {own!r}.") from error
    wanted = {place for _, place, _, _ in Formatter().parse(own) if place}
    if places != wanted:
        raise ArgumentError(f"{path}: {name} needs the places {sorted(wanted)} in braces: write {own!r} in your words.")
