"""The settings of a kv_policies run: their meanings, presets and limits. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, OpenShare, Share
from interp.experiments.experiment import Dtype, Experiment
from interp.models.identity import ModelFacts
from interp.named import own_files
from interp.retention.limits import HALVES, LONGEST_CONTINUATION, SHORTEST_PROMPT, n_kept
from interp.retention.policies.catalogue import OWN, entry_of, options_of

if TYPE_CHECKING:
    import pandas as pd

Material = Literal["prose", "lists", "needles"]
Protection = Literal["none", "sinks", "sinks_recent", "boundaries", "needle"]
Scope = Literal["context_only", "context_and_question"]

DEFAULT = (
    "random", "streaming", "knorm", "keydiff", "tova", "h2o_sum", "h2o_mean", "snapkv", "expected", "quest", "tokenselect",
    "duo", "razor", "oracle",
)  # fmt: skip
"""Policies that run unless others are named; the full cache is always there to pair with."""


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """What a kv_policies run is asked to measure."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "policies": ("random", "streaming", "knorm", "h2o_mean", "snapkv", "oracle"),
            "budgets": (0.2,),
            "protections": ("sinks_recent", "none"),
            "scopes": ("context_only",),
            "prompt_tokens": 160,
            "prose_texts": 2,
            "dynamics_texts": 1,
            "lists": 2,
            "needles": 3,
            "finding_needles": 3,
            "random_draws": 1,
            "restored_k": (2, 8),
        },
        "papers": {
            "policies": (
                "streaming",
                "last_query",
                "h2o_sum",
                "a2sf(alpha=0.5)",
                "a2sf(alpha=0.9)",
                "a2sf(alpha=0.99)",
                "keyformer",
                "keyformer(draw=1)",
                "keyformer(draw=2)",
                "keyformer(noise=normal)",
                "keyformer(noise=none)",
                "keyformer(event=every_step)",
                "keyformer(event=every_step, tau_delta=1.0)",
                "lazy_code",
                "lazy_notes",
                "razor",
                "razor_plain",
                "recycled",
                "recycled(stride=16)",
                "recycled(stride=16, refresh=0.8)",
                "tokenselect",
                "tokenselect(scaled=True)",
                "tokenselect_modulo",
                "tokenselect_free",
                "actqkv",
                "actqkv(weighted=False)",
                "actqkv(shared=True)",
                "landmark",
                "landmark(by=last)",
                "landmark(by=mean)",
                "cca",
                "cca(pool=mean)",
                "strided",
                "pyramidkv",
                "snapkv",
                "h2o_mean",
                "oracle",
            ),
            "budgets": (0.2,),
            "protections": ("sinks_recent",),
        },
    }

    dtype: Dtype = "float32"
    """Precision of the weights. Half precision rounds surprisals by hundredths of a nat."""
    policies: tuple[str, ...] | None = None
    """Policies to simulate, with options in brackets, such as a2sf(alpha=0.5), or your own as module:Class. By default those of the
    toolkit that the model can take."""
    budgets: Annotated[tuple[Share, ...], SOME] = (0.1, 0.2, 0.4)
    """Shares of the prompt's keys that each key-value head keeps."""
    protections: Annotated[tuple[Protection, ...], SOME] = ("sinks_recent", "none")
    """Tokens to keep whatever their score. The first protection is run with every budget, the others with the middle one. sinks: the
    first --sinks tokens; sinks_recent: these and the last --recent; boundaries: a tenth of the budget at each end of the prompt;
    needle: the needle (material needles only); none: no tokens."""
    sinks: CountOrNone = 4
    """Number of first tokens to protect (attention sinks)."""
    recent: CountOrNone = 16
    """Number of last tokens to protect."""
    materials: Annotated[tuple[Material, ...], SOME] = ("prose", "lists", "needles")
    """Texts to score. prose: the news text continues; lists: a word list is repeated; needles: a question about a sentence of it."""
    scopes: Annotated[tuple[Scope, ...], SOME] = ("context_only", "context_and_question")
    """With needles: whether the cache is cut before the question is read (context_only) or after it."""
    prompt_tokens: Annotated[int, Ge(SHORTEST_PROMPT)] = 384
    """Length of the prompts, in tokens."""
    prose_tokens: Annotated[int, Ge(2)] = 16
    """Number of prose tokens scored after each prompt."""
    prose_texts: Count = 5
    """Number of prose texts."""
    dynamics_texts: CountOrNone = 3
    """Number of prose texts on which attention over time is measured: stale keys, recurring keys, and the best discount per layer."""
    lists: Count = 5
    """Number of word lists."""
    list_words: Annotated[int, Ge(2)] = 8
    """Number of words per list."""
    needles: Count = 6
    """Number of needles to ask for."""
    finding_needles: Count = 5
    """Number of needles used to find retrieval heads: those that follow the ones of --needles, so with other --needles heads are found on
    others."""
    restored_k: tuple[Count, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of key-value heads that keep the whole prompt while all others keep sinks and recent tokens. Those above half of the
    heads that policies act on are left out."""
    random_draws: Count = 2
    """Number of random control sets for each k and each role: as many heads in the same layers."""
    role_share: OpenShare = 0.1
    """Share of the model's heads that count as retrieval, induction and echo heads: those with the highest scores."""
    heads_from: Path | None = None
    """A ranking of retrieval heads: a retrieval_heads run (its folder or hash), or a file of another tool. By default heads are
    found here, on needles of their own."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether prompts begin with the beginning-of-sequence token; auto follows the tokenizer."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds and for policies that are not there."""
        super().__post_init__()
        for text in self.policies or ():
            entry_of(text)
            options_of(text)
        if not self.policies and self.policies is not None:
            raise ArgumentError("--policies needs at least one name: leave it out to run the toolkit's own.")

    def input_files(self) -> Sequence[Path]:
        """Returns the file of heads, and those of the user's own policies."""
        from interp.heads.given import given_files

        return [*(given_files(self.heads_from) if self.heads_from else []), *own_files(self.policies or ())]

    @property
    def main_budget(self) -> float:
        """The budget that goes with every protection: the middle one."""
        return sorted(self.budgets)[len(self.budgets) // 2]

    def chosen(self, facts: ModelFacts) -> tuple[str, ...]:
        """Returns the policies to run, in order; the full cache is always there beside them.

        Raises ArgumentError for one that needs a rotary embedding that the model does not have.
        """
        turns = facts.model_type in HALVES
        if self.policies is None:
            return tuple(name for name in DEFAULT if turns or not OWN[name].rotary)
        for text in self.policies:
            if entry_of(text).rotary and not turns:
                raise ArgumentError(
                    f"{text} needs a rotary embedding in halves, and {facts.name} ({facts.model_type}) has none that is known: leave "
                    "it out of --policies."
                )
        return tuple(text for text in dict.fromkeys(self.policies) if text != "full")

    def given(self, facts: ModelFacts) -> "pd.DataFrame | None":
        """Returns the heads of --heads-from, best first, as the table `heads_from` has them; None without."""
        from interp.heads.given import given_heads

        return given_heads(self.heads_from, facts) if self.heads_from else None

    def n_kept(self, budget: float) -> int:
        """Returns how many keys a budget is."""
        return n_kept(self.prompt_tokens, budget)

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the model cannot take these settings: window, policies, heads."""
        self.chosen(facts)
        window = facts.context_window
        if window is not None and self.prompt_tokens + LONGEST_CONTINUATION > window:
            raise ArgumentError(
                f"Prompts of {self.prompt_tokens} tokens and what follows do not fit {facts.name}, which reads {window}: use "
                f"--prompt-tokens up to {window - LONGEST_CONTINUATION}."
            )
        self.given(facts)
