"""The settings of a retrieval-head run: their meanings, presets and limits. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Fraction, OpenShare, Share
from interp.experiments.experiment import ADDED, Experiment
from interp.models.identity import ModelFacts
from interp.models.tokens.template_args import parse_template_args

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of RetrievalHeads, with presets and checks."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"context_tokens": (256,), "samples_per_needle": 1, "random_draws": 2},
        "demo": {"context_tokens": (256, 512), "finding_needles": 4, "k": (10,)},
        "paper": {
            "context_tokens": tuple(round(1000 + step * 49000 / 19) for step in range(20)),
            "depths": tuple(step / 9 for step in range(10)),
            "samples_per_needle": None,
            "finding_needles": None,
            "max_new_tokens": 50,
            "random_draws": 5,
        },
        "reference": {
            "context_tokens": tuple(round(1000 + step * 49000 / 19) for step in range(20)),
            "depths": tuple(step / 9 for step in range(10)),
            "samples_per_needle": None,
            "finding_needles": None,
            "max_new_tokens": 50,
            "random_draws": 5,
            "prompt_format": "reference",
            "success_filter": True,
            "definition": "count",
            "recall_measure": "reference",
            "ablation_modes": ("uniform",),
            "ablation_phases": ("decode",),
        },
    }

    needles: Path | None = None
    """JSON-lines file with the fields needle, question and real_needle (the words that an answer must contain); by default the
    toolkit's own needles."""
    haystack: Path | None = None
    """Folder of .txt, .text and .md files to hide needles in; by default news prose."""
    context_tokens: Annotated[tuple[Count, ...], SOME] = (384, 640, 1024)
    """Prompt lengths in tokens, including question and template."""
    depths: Annotated[tuple[Fraction, ...], SOME] = (0.1, 0.5, 0.9)
    """Depths of the needle in the haystack: 0 is the beginning, 1 the end."""
    samples_per_needle: Count | None = 2
    """Number of cells of the (length, depth) grid to test each needle in, spread evenly over the grid; None tests every needle in
    every cell. Needles differ more than cells do, so a few samples of many needles are worth more than many samples of a few."""
    finding_needles: Count | None = 16
    """Maximum number of needles to find heads with, out of those not held out; None uses all. Two runs with 12 different needles
    and two prompts per needle agree on 94% of their top ten heads (docs/performance.md)."""
    prompt_format: Literal["auto", "chat", "plain", "reference"] = "auto"
    """chat: the model's chat template; plain: text, question, "Answer:"; reference: the public script's wording."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether plain prompts begin with the beginning-of-sequence token; auto follows the tokenizer."""
    max_new_tokens: Count = 28
    """Maximum length of an answer, in tokens."""
    sharing: bool = True
    """Read the common prefix of prompts once. --no-sharing is the slow reference path: same scores, far more work."""
    template_args: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Variables of the chat template, such as enable_thinking=false; system_message=TEXT becomes a system message."""
    thinking_tokens: CountOrNone = field(default=0, metadata=ADDED)
    """Maximum length of a thought before an answer, in tokens, for models that think; then the thought is closed. Scores are of
    answer tokens only (0: no thoughts)."""
    thinking_marks: tuple[str, ...] = field(default=(), metadata=ADDED)
    """The two marks around a thought, if the tokenizer has no pair such as <think> and </think>."""
    recall_measure: Literal["words", "reference"] = field(default="words", metadata=ADDED)
    """words: recall of Unicode words, in any script; reference: the public script's stemmed ROUGE-1, which reads only a-z and 0-9."""
    contributions: bool = field(default=True, metadata=ADDED)
    """Also score logit contributions (LOCOS, direct). Use --no-contributions for models whose logits are not a sum of head
    outputs; copy, echo and induction scores do not need that."""
    success_filter: bool = False
    """Score only samples that the model answers correctly (recall above 0.5)."""
    definition: Literal["set", "count"] = "set"
    """Which copy score ranks heads for the ablation."""
    until_stable: Count | None = None
    """Stop detection once the top K heads no longer change; by default use all needles."""
    stability: Share = 0.9
    """With --until-stable K: the share of bootstrap resamples of the needles that must keep nine tenths of the top K."""
    held_out_share: OpenShare = 0.3
    """Share of the needles that are held out for the ablation and never used to find heads."""
    k: tuple[Count, ...] | None = None
    """Numbers of heads to mask; by default 2 5 10 20 50, up to a fifth of the model's heads."""
    random_draws: Count = 3
    """Random control sets per k: as many heads, in the same layers, none of them in the top k."""
    ablation_modes: Annotated[tuple[Literal["zero", "mean", "uniform"], ...], SOME] = ("zero",)
    """What replaces a masked head: zero output, its mean output, or uniform attention (as in the reference)."""
    ablation_phases: Annotated[tuple[Literal["decode", "both"], ...], SOME] = ("decode",)
    """When heads are masked. decode: only while the answer is generated (as in the reference); both: while the prompt is read too."""
    ablation_context_tokens: Annotated[tuple[Count, ...], SOME] = (256,)
    """Prompt lengths in the ablation, in tokens."""
    ablation_depths: Annotated[tuple[Fraction, ...], SOME] = (0.5,)
    """Depths of the needle in the ablation."""
    prose_tokens: Annotated[int, Ge(2)] = 24
    """Length, in tokens, of the prose passages whose surprisal measures general damage to the model."""
    other_k: Count = 10
    """Number of top heads to mask for each of the other detectors; also k in the tables that compare detectors."""
    heads_from: Path | None = field(default=None, metadata=ADDED)
    """A second ranking to mask at every k beside this run's own: a file from another tool, or another retrieval_heads run (its
    folder or hash)."""
    echo_block_tokens: Count = 256
    """Length of the random block for the echo and induction scores, in tokens (RazorAttention: 2500)."""
    echo_repeats: Annotated[int, Ge(2)] = 4
    """How many times the block is repeated."""
    echo_draws: Count = 1
    """Number of random blocks to average over."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds and for arguments of the template that are none."""
        super().__post_init__()
        parse_template_args(self.template_args)

    def input_files(self) -> Sequence[Path]:
        """Returns the needle file and the haystack folder; the toolkit's own needles count too."""
        from interp.heads.given import given_files
        from probes.retrieval_heads.needles import OWN_NEEDLES

        given = given_files(self.heads_from) if self.heads_from else []
        return [self.needles or OWN_NEEDLES, *([self.haystack] if self.haystack else []), *given]

    @property
    def writes_chats(self) -> bool:
        """Whether prompts may go through the model's chat template."""
        return self.prompt_format in ("auto", "chat")

    def given(self, facts: ModelFacts) -> "pd.DataFrame | None":
        """Returns the heads of --heads-from, best first, as the table `heads_from` has them; None without."""
        from interp.heads.given import given_heads

        return given_heads(self.heads_from, facts, self.definition) if self.heads_from else None

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when the model cannot take these settings: window, number of heads, needles."""
        from probes.retrieval_heads.needles import read_needles

        assert facts.geometry is not None
        longest = max(*self.context_tokens, *self.ablation_context_tokens)
        window = facts.context_window
        written = self.max_new_tokens + self.thinking_tokens
        if window is not None and longest + written > window:
            raise ArgumentError(
                f"Prompts of {longest} tokens and answers of {written} do not fit {facts.name}, which reads {window}: "
                f"use --context-tokens up to {window - written} or a model with a longer window."
            )
        if window is not None and self.echo_block_tokens * self.echo_repeats + 1 > window:
            raise ArgumentError(
                f"{self.echo_repeats} blocks of {self.echo_block_tokens} tokens do not fit {facts.name}, which reads {window}: use "
                f"--echo-block-tokens {(window - 1) // self.echo_repeats}."
            )
        n_heads = facts.geometry.n_heads_in_all
        if self.k and max(self.k) > n_heads:
            raise ArgumentError(f"--k {max(self.k)} is more than the {n_heads} heads of {facts.name}.")
        if self.k and max(self.k) > n_heads // 2:
            raise ArgumentError(
                f"--k {max(self.k)} leaves fewer than as many other heads of {facts.name} for a random control: use at most "
                f"{n_heads // 2}."
            )
        self.given(facts)
        if len(read_needles(self.needles)) < 2:
            raise ArgumentError("At least two needles are needed: one to find heads, one to test them.")
