"""The settings of a context_recall run: their meanings, presets and limits. Imports no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, OpenShare, Share
from interp.experiments.experiment import ADDED, Dtype, Experiment
from interp.kept import kept_while_unchanged
from interp.models.identity import ModelFacts
from interp.named import own_files
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
    """Tasks to measure. Options in brackets select one size in place of the default sizes, such as mqar(pairs=32); module:name is a
    task of your own."""
    samples: Annotated[int, Ge(2)] = 8
    """Number of contexts per task and size; long tasks use fewer."""
    words: str = "english"
    """Source of keys and values, of which only single-token words are used: english (a list of nouns), vocabulary (every whole word in
    the tokenizer's vocabulary, in any script), or a text file of words."""
    frames: Path | None = None
    """TOML file with the text around keys and values, in the format of probes/context_recall/frames.toml, for another wording or
    language."""
    lengths: tuple[Annotated[int, Ge(64)], ...] = (128, 256, 512)
    """Context lengths in tokens for the curve of recall against length; give none to skip the curve."""
    length_samples: Annotated[int, Ge(2)] = 3
    """Number of contexts per length."""
    effective_at: Share = 0.5
    """Recall that the effective length must still reach; RULER uses 0.856."""
    role_share: OpenShare = 0.03
    """Share of the model's heads that count as retrieval heads, and as induction heads: those with the highest scores."""
    random_draws: Count = 2
    """Number of random control sets for the retrieval heads and for the induction heads: as many heads in the same layers."""
    finding_needles: Count = 8
    """Number of contexts used to find retrieval heads; their words and prose differ from those of the scored contexts."""
    heads_from: Path | None = None
    """Ranking of retrieval heads to use: a retrieval_heads run (its folder or hash), or another tool's file. By default heads are found in
    this run."""
    moved_tokens: tuple[Annotated[int, Ge(1)], ...] = field(default=(), metadata=ADDED)
    """Shifts, in positions, of the question away from its context by position ids alone, with the text unchanged; each is a
    condition. Only for models with rotary positions; by default none."""
    policies: tuple[str, ...] = ("streaming", "snapkv(window=4)", "tova", "tokenselect")
    """Retention policies to test: rules for which of the context's keys the question may read, each compared with keys kept at
    random. Policies of kv_policies, with options in brackets, or your own as module:Class; give none to skip this part."""
    kept_share: Share = 0.5
    """Share of the context's keys that each policy keeps; the first token's key is always kept."""
    kept_contexts: Annotated[int, Ge(2)] = 8
    """Number of contexts per task that are answered under policies, divided among its sizes."""
    natural_texts: Annotated[int, Ge(2)] = 4
    """Number of prose texts whose repeated bigrams are scored (task natural)."""
    natural_tokens: Annotated[int, Ge(64)] = 128
    """Length of each of these texts, in tokens."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether contexts begin with the beginning-of-sequence token; auto follows the tokenizer."""

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
        """Returns the files of words, frames, and heads, and of the user's own tasks and policies."""
        from interp.heads.given import given_files

        words = [] if self.words in ("english", "vocabulary") else [Path(self.words)]
        frames = [self.frames] if self.frames else []
        given = given_files(self.heads_from) if self.heads_from else []
        return [*words, *frames, *given, *own_files((*self.tasks, *self.policies))]

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


@kept_while_unchanged(lambda path: (path,))
def _frames(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}: name a file of texts with --frames.")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f'{path} is not a TOML file of texts ({error}): write name = "text".') from error
    if path == OWN_FRAMES:
        return found
    own = _frames(OWN_FRAMES)
    for name, value in own.items():
        if type(found.get(name)) is not type(value):
            raise ArgumentError(f"{path} lacks {name}: copy probes/context_recall/frames.toml and change its texts.")
        if isinstance(value, str):
            _check_places(path, name, value, found[name])
        elif wrong := [key for key, text in found[name].items() if not isinstance(text, str)]:
            raise ArgumentError(f'{path}: {wrong[0]!r} in [{name}] is no text: write "{wrong[0]}" = "…".')
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
