"""The settings of a critical-token run: every field with its meaning, the presets, and what is refused. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Hint
from interp.experiments.experiment import ADDED, Experiment
from interp.models.tokens.template_args import parse_template_args


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """The fields of CriticalTokens, with presets and checks."""

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
    """Generated problems to calibrate on, as family-size-difficulty; the families are arithmetic, lookup, tally and words."""
    task_file: Path | None = None
    """Your own GSM8K or MATH problems, one JSON object per line, in place of the generated ones."""
    task_format: Literal["gsm8k", "math"] = "gsm8k"
    """Format of --task-file."""
    examples: Path | None = None
    """Text file of worked examples, placed before each problem of --task-file."""
    percent_tolerance: bool = False
    """Also accept answers that are off by a factor of 100, as the paper's script does."""
    grader: str | None = None
    """Your own grader for --task-file, as module:function; it is called as function(problem, response) -> bool | None."""
    prompt_format: Literal["auto", "plain", "chat"] = "auto"
    """Whether problems of --task-file go through the model's chat template; auto: if the model has one."""
    template_args: tuple[str, ...] = ()
    """Variables of the chat template, as NAME=VALUE."""
    thinking_tokens: CountOrNone = field(default=0, metadata=ADDED)
    """Maximum length of a thought before each response, in tokens, for models that think; then the thought is closed. Responses,
    their answers and their tokens are what comes after it (0: no thoughts)."""
    thinking_marks: tuple[str, ...] = field(default=(), metadata=ADDED)
    """The two marks around a thought, if the tokenizer has no pair such as <think> and </think>."""
    shots: Count = 6
    """Worked examples before each generated problem."""
    calibration_problems: Count = 4
    """Problems per level in the calibration; a level is used if the model solves between 5% and 95% of them."""
    responses_per_problem: Count = 16
    """Responses sampled per problem. The share that is right estimates V_0, where V_n is the probability of ending in the right
    answer after the first n tokens of a response. Trajectories are taken from the wrong responses."""
    calibrate_only: bool = False
    """Stop after calibration, which shows the levels that this model sometimes solves."""
    max_problems: Count = 40
    """Maximum number of problems per level to search for trajectories."""
    n_trajectories: Count = 10
    """Number of wrong trajectories to analyse, one per problem."""
    temperature: Annotated[float, Gt(0), Hint("for greedy decoding use --top-k 1")] = 0.6
    """Sampling temperature of responses and rollouts; the model's generation_config is ignored."""
    top_p: Annotated[float, Gt(0), Le(1), Hint("1 keeps every token")] = 1.0
    """Nucleus sampling: keep the smallest set of tokens with this total probability; 1 keeps all."""
    top_k: Annotated[int, Ge(1), Hint("leave it out to keep every token")] | None = None
    """Sample from this many most probable tokens; by default from all."""
    max_new_tokens: Count = 48
    """Maximum length of a response, in tokens."""
    definitions: Annotated[tuple[Literal["paper", "cliff", "pivot"], ...], SOME] = ("paper", "cliff", "pivot")
    """What makes a token critical. paper: it is the first token after which none of --rule-rollouts rollouts are right, and fewer
    than 5% are right after every later token; cliff: V drops at the token, with statistical proof; pivot: V drops or rises there."""
    method: Literal["recycled", "brute"] = "recycled"
    """recycled: share rollouts between positions; brute: sample --rule-rollouts independent rollouts after every token (slow
    reference)."""
    scan_rollouts: Count = 24
    """Rollouts per position for the curve of V, the probability of ending in the right answer from there."""
    rule_rollouts: Count = 64
    """Rollouts per position for the paper's rule and for --method brute."""
    effect: float = 0.2
    """δ, the change of V to look for. A token that the model writes with probability p can change V by at most 1 − p, so tokens
    with 1 − p < δ are not tested."""
    margin: float = 0.1
    """Null hypothesis of the test: V changes by at most this margin. A discovery is a change larger than the margin."""
    alpha: Annotated[float, Gt(0), Lt(0.5)] = 0.05
    """False discovery rate within a trajectory, and error rate of the intervals (0.05 gives 95% intervals)."""
    max_pairs: Count = 64
    """Maximum number of fresh pairs of rollouts (token kept, token forbidden) per candidate token."""
    exact_tokens: CountOrNone = 3
    """As a check, bound V exactly at this many of a trajectory's last tokens, from the tree of continuations (0: none)."""
    exact_nodes: Count = 32
    """Maximum number of continuations read per exact bound."""
    replacement_rollouts: CountOrNone = 16
    """Rollouts per condition of the causal test, which forbids the critical token (0: no test)."""
    contrastive_examples: CountOrNone = 48
    """Responses to train each adapter on: right ones for the positive model, wrong ones for the negative (0: no contrastive
    estimation)."""
    contrastive_epochs: Count = 2
    """Epochs of adapter training."""
    contrastive_learning_rate: float = 1e-3
    """Learning rate of the adapters. The paper uses 3e-4, over far more steps."""
    contrastive_beta: float = 1.0
    """β, the weight of the negative model in contrastive estimation."""
    positive_adapter: Path | None = None
    """Folder of a LoRA adapter to use as the positive model; by default one is trained."""
    negative_adapter: Path | None = None
    """Folder of a LoRA adapter to use as the negative model; by default one is trained."""
    sampler: Literal["own", "vllm"] = "own"
    """vllm: sample rollouts with vLLM (needs a GPU; untested so far). Its draws differ from those of the toolkit's own sampler."""
    batch_rows: Count = 48
    """Rollouts generated at once; affects speed and memory, not results."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for settings that cannot be meant."""
        super().__post_init__()
        _check_together(self)
        _check_rule(self)
        _check_power(self)


def _check_together(settings: Settings) -> None:
    if not 0 < settings.margin < settings.effect < 1:
        raise ArgumentError("--margin must be above 0 and below --effect, and --effect below 1.")
    if settings.task_file is None and (settings.grader is not None or settings.prompt_format == "chat"):
        name = "--grader" if settings.grader is not None else "--prompt-format chat"
        raise ArgumentError(f"{name} goes with problems of your own: add --task-file.")
    if settings.thinking_tokens and (settings.task_file is None or settings.prompt_format == "plain"):
        raise ArgumentError(
            "--thinking-tokens goes with problems that are put through a chat template: add --task-file, and leave out --prompt-format "
            "plain."
        )
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
