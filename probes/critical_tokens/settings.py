"""The settings of a critical-token run: every field with its meaning, the presets, and what is refused. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Hint
from interp.experiments.experiment import Experiment
from interp.models.tokens.template_args import parse_template_args


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """What can be set in a critical-token run."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "calibration_problems": 2,
            "n_trajectories": 4,
            "max_problems": 16,
            "scan_rollouts": 12,
            "replacement_rollouts": 0,
            "contrastive_examples": 0,
        },
        "paper": {
            "definitions": ("paper",),
            "method": "brute",
            "n_trajectories": 100,
            "temperature": 0.5,
            "top_p": 0.95,
        },
    }

    levels: Annotated[tuple[str, ...], SOME] = ("arithmetic-2-5", "arithmetic-1-9", "tally-3-1", "lookup-4-0")
    """Problems to calibrate on, written family-size-difficulty: families arithmetic, lookup, tally and words."""
    task_file: Path | None = None
    """GSM8K or MATH problems of your own, one JSON object a line, in place of the generated ones."""
    task_format: Literal["gsm8k", "math"] = "gsm8k"
    """How the lines of --task-file are read."""
    examples: Path | None = None
    """Text of worked examples to put before each problem of --task-file."""
    percent_tolerance: bool = False
    """Take answers that are 100 times too large or small as right too, as the paper's script does."""
    grader: str | None = None
    """Your own grader of --task-file, module:function, called as function(problem, response) -> bool | None."""
    prompt_format: Literal["auto", "plain", "chat"] = "auto"
    """Whether problems of --task-file are put through the model's chat template; auto: if it has one."""
    template_args: tuple[str, ...] = ()
    """Arguments of the chat template, NAME=VALUE."""
    shots: Count = 6
    """Worked examples before each generated problem."""
    calibration_problems: Count = 4
    """Problems per level to calibrate on: a level is used if the model solves between 5% and 95% of them."""
    responses_per_problem: Count = 16
    """Responses to each problem. Their share of right answers estimates V_0, the value V before the first token (V: the chance that a
    continuation ends in the right answer); trajectories are taken from the wrong ones."""
    calibrate_only: bool = False
    """Stop after calibration: which levels does this model sometimes solve?"""
    max_problems: Count = 40
    """Problems per level to look through for trajectories."""
    n_trajectories: Count = 10
    """Wrong trajectories to analyse, one per problem."""
    temperature: Annotated[float, Gt(0), Hint("for greedy decoding use --top-k 1")] = 0.6
    """Sampling temperature of responses and rollouts; what the model's own generation_config asks for is not taken."""
    top_p: Annotated[float, Gt(0), Le(1), Hint("1 keeps every token")] = 1.0
    """Keep the smallest set of tokens with this probability; 1 keeps all."""
    top_k: Annotated[int, Ge(1), Hint("leave it out to keep every token")] | None = None
    """Keep this many tokens; all if not given."""
    max_new_tokens: Count = 48
    """Longest response, in tokens."""
    definitions: Annotated[tuple[Literal["paper", "cliff", "pivot"], ...], SOME] = ("paper", "cliff", "pivot")
    """paper: the first token after which 0 of --rule-rollouts are right, and fewer than 5% after every later one; cliff: a token at
    which V is proven to drop; pivot: one at which it is proven to drop or rise."""
    method: Literal["recycled", "brute"] = "recycled"
    """recycled: rollouts are shared between positions; brute: --rule-rollouts independent rollouts after every token, the oracle."""
    scan_rollouts: Count = 24
    """Rollouts from every position for the curve of V, the chance that a continuation from there ends in the right answer."""
    rule_rollouts: Count = 64
    """Rollouts per position for the paper's rule and for --method brute."""
    effect: float = 0.2
    """Change of V to look for. A token of probability p changes V by at most 1 − p, so a token with a smaller 1 − p is not tested."""
    margin: float = 0.1
    """Changes of V up to this size count as none: a discovery claims a larger one."""
    alpha: Annotated[float, Gt(0), Lt(0.5)] = 0.05
    """False discovery rate over a trajectory, and one minus the coverage of every interval (0.05: 95%)."""
    max_pairs: Count = 64
    """At most this many fresh pairs of rollouts (token kept, token resampled) per candidate."""
    exact_tokens: CountOrNone = 3
    """How many of a trajectory's last tokens have V bounded exactly too, by the tree of continuations, as a check (0: none)."""
    exact_nodes: Count = 32
    """At most this many continuations are read for one such bound."""
    replacement_rollouts: CountOrNone = 16
    """Rollouts per condition of the causal test (0: none)."""
    contrastive_examples: CountOrNone = 48
    """Right and wrong responses that each adapter is trained on (0: no contrastive estimation)."""
    contrastive_epochs: Count = 2
    """Passes over these responses."""
    contrastive_learning_rate: float = 1e-3
    """Learning rate of the adapters. The paper's is 3e-4, over far more steps."""
    contrastive_beta: float = 1.0
    """β, the weight of the negative model in contrastive estimation."""
    positive_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the positive model; trained here if not given."""
    negative_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the negative model; trained here if not given."""
    sampler: Literal["own", "vllm"] = "own"
    """vllm: rollouts by vLLM (on a GPU; not yet run against it). The draws differ from the toolkit's own."""
    batch_rows: Count = 48
    """Rollouts written at one time; changes speed and memory, no number."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for settings that cannot be meant."""
        super().__post_init__()
        _check_together(self)
        _check_rule(self)
        _check_power(self)


def _check_together(settings: Settings) -> None:
    if not 0 < settings.margin < settings.effect < 1:
        raise ArgumentError("--margin lies above 0 and below --effect, and --effect below 1.")
    if settings.task_file is None and (settings.grader is not None or settings.prompt_format == "chat"):
        name = "--grader" if settings.grader is not None else "--prompt-format chat"
        raise ArgumentError(f"{name} goes with problems of your own: add --task-file.")
    parse_template_args(settings.template_args)


def _check_rule(settings: Settings) -> None:
    """Below 59 rollouts not even zero right ones say that V is under 5%."""
    if "paper" not in settings.definitions:
        return
    needed = math.ceil(math.log(settings.alpha) / math.log(1 - 0.05))
    if settings.rule_rollouts < needed:
        raise ArgumentError(
            f"0 right of {settings.rule_rollouts} rollouts does not show that V is below 5% at --alpha {settings.alpha:g}: use "
            f"--rule-rollouts {needed} or more."
        )


def _check_power(settings: Settings) -> None:
    """The clearest case there is, every rollout right without the token and none with it, must be provable."""
    if not {"cliff", "pivot"} & set(settings.definitions) or settings.method == "brute":
        return
    from interp.sequential import pairs_needed

    needed = pairs_needed(0.999, settings.margin / settings.effect, settings.alpha / 2)
    if needed is not None and settings.max_pairs < needed:
        raise ArgumentError(
            f"{settings.max_pairs} pairs cannot prove even the clearest drop at --alpha {settings.alpha:g}: use --max-pairs "
            f"{needed} or more."
        )
