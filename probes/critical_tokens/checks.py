"""Settings and files that cannot be meant, refused with what to type instead. Imports no torch."""

from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from interp.models.template_args import parse_template_args

if TYPE_CHECKING:
    from probes.critical_tokens.experiment import CriticalTokens
    from probes.critical_tokens.families import Level
    from probes.critical_tokens.problems import Problem

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


def check_settings(settings: "CriticalTokens") -> None:
    """Raises ArgumentError for settings that cannot be meant."""
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
    _check_rule(settings)
    _check_power(settings)


def _check_rule(settings: "CriticalTokens") -> None:
    """Below 59 rollouts not even zero right ones say that V is under 5%."""
    if "paper" not in settings.definitions:
        return
    import math

    needed = math.ceil(math.log(settings.alpha) / math.log(1 - 0.05))
    if settings.rule_rollouts < needed:
        raise ArgumentError(
            f"0 right of {settings.rule_rollouts} rollouts does not show that V is below 5% at --alpha {settings.alpha:g}: use "
            f"--rule-rollouts {needed} or more."
        )


def _check_power(settings: "CriticalTokens") -> None:
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


def check_tasks(settings: "CriticalTokens") -> None:
    """Raises ArgumentError when levels, files of problems or adapters cannot be read."""
    for folder in (settings.positive_adapter, settings.negative_adapter):
        if folder is not None and not (folder / "adapter_config.json").is_file():
            raise ArgumentError(
                f"{folder} holds no adapter_config.json: give a folder that peft's save_pretrained wrote."
            )
    if settings.task_file is None:
        parsed_levels(settings)
    else:
        file_problems(settings)


def parsed_levels(settings: "CriticalTokens") -> "list[Level]":
    """Returns the levels by their knobs."""
    from probes.critical_tokens.families import parse_level

    return [parse_level(text) for text in settings.levels]


def file_problems(settings: "CriticalTokens") -> "list[Problem]":
    """Returns the problems of the user's file."""
    from probes.critical_tokens.readers import read_problems

    assert settings.task_file is not None
    return read_problems(
        settings.task_file,
        settings.task_format,
        settings.examples,
        percent=settings.percent_tolerance,
        grader=settings.grader,
    )
