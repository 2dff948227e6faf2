"""The settings of a critical-token run: every field with its meaning, the presets, and what is refused. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from interp.errors import ArgumentError
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

    levels: tuple[str, ...] = ("arithmetic-2-5", "arithmetic-1-9", "tally-3-1", "lookup-4-0")
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
    shots: int = 6
    """Worked examples before each generated problem."""
    calibration_problems: int = 4
    """Problems per level that tell whether a level is usable (success between 5% and 95%)."""
    responses_per_problem: int = 16
    """Responses to each problem; they estimate V_0 and are where trajectories come from."""
    calibrate_only: bool = False
    """Stop after calibration: which levels does this model sometimes solve?"""
    max_problems: int = 40
    """Problems per level to look through for trajectories."""
    n_trajectories: int = 10
    """Wrong trajectories to analyse, one per problem."""
    temperature: float = 0.6
    """Sampling temperature of responses and rollouts; what the model's own generation_config asks for is not taken."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability; 1 keeps all."""
    top_k: int | None = None
    """Keep this many tokens; all if not given."""
    max_new_tokens: int = 48
    """Longest response, in tokens."""
    definitions: tuple[Literal["paper", "cliff", "pivot"], ...] = ("paper", "cliff", "pivot")
    """paper: first token with 0 right of --rule-rollouts and less than 5% after every later one; cliff: a proven drop;
    pivot: a proven drop or rise."""
    method: Literal["recycled", "brute"] = "recycled"
    """brute: --rule-rollouts independent rollouts after every token, nothing shared: the oracle."""
    scan_rollouts: int = 24
    """Draws from every position for the curve of V."""
    rule_rollouts: int = 64
    """Draws per position of the paper's rule and of the brute way."""
    effect: float = 0.2
    """Change of V that is sought; tokens with 1 − p below it cannot have it and are not tested."""
    margin: float = 0.1
    """Largest change of V that does not count: a discovery claims more than this."""
    alpha: float = 0.05
    """Rate of false discoveries over a trajectory, and error of every interval (0.05: 95%)."""
    max_pairs: int = 64
    """Most fresh pairs of rollouts per candidate token."""
    exact_tokens: int = 3
    """Last tokens of a trajectory at which V is also bounded by the tree of continuations, as a check (0: none)."""
    exact_nodes: int = 32
    """Most continuations to read for one such bound."""
    replacement_rollouts: int = 16
    """Rollouts per condition of the causal test (0: none)."""
    contrastive_examples: int = 48
    """Right and wrong responses that each adapter is trained on (0: no contrastive estimation)."""
    contrastive_epochs: int = 2
    """Passes over them."""
    contrastive_learning_rate: float = 1e-3
    """Learning rate of the adapters. The paper's is 3e-4, over far more steps."""
    contrastive_beta: float = 1.0
    """Weight β of the negative model."""
    positive_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the positive model; trained here if not given."""
    negative_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the negative model; trained here if not given."""
    sampler: Literal["own", "vllm"] = "own"
    """vllm: rollouts by vLLM (on a GPU; not yet run against it). The draws differ from the toolkit's own."""
    batch_rows: int = 48
    """Rollouts written at one time; changes speed and memory, no number."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for settings that cannot be meant."""
        _check_ranges(self)
        _check_rule(self)
        _check_power(self)


_AT_LEAST_ONE = (
    "shots",
    "calibration_problems",
    "responses_per_problem",
    "max_problems",
    "n_trajectories",
    "max_new_tokens",
    "scan_rollouts",
    "rule_rollouts",
    "max_pairs",
    "batch_rows",
    "exact_nodes",
    "contrastive_epochs",
)


def _check_ranges(settings: Settings) -> None:
    for name in _AT_LEAST_ONE:
        if getattr(settings, name) < 1:
            raise ArgumentError(f"--{name.replace('_', '-')} must be at least 1.")
    for name in ("levels", "definitions"):
        if not getattr(settings, name):
            raise ArgumentError(f"--{name} needs at least one value.")
    if not settings.temperature > 0:
        raise ArgumentError("--temperature lies above 0: for greedy decoding use --top-k 1.")
    if not 0 < settings.top_p <= 1:
        raise ArgumentError(f"--top-p lies above 0 and at most at 1, not at {settings.top_p:g}: 1 keeps every token.")
    if settings.top_k is not None and settings.top_k < 1:
        raise ArgumentError("--top-k is at least 1; leave it out to keep every token.")
    if not 0 < settings.margin < settings.effect < 1:
        raise ArgumentError("--margin lies above 0 and below --effect, and --effect below 1.")
    if not 0 < settings.alpha < 0.5:
        raise ArgumentError("--alpha lies above 0 and below 0.5, such as 0.05.")
    for name in ("replacement_rollouts", "contrastive_examples", "exact_tokens"):
        if getattr(settings, name) < 0:
            raise ArgumentError(f"--{name.replace('_', '-')} is 0 or more.")
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
