"""Settings and files that cannot be meant, refused with what to type instead. Imports no torch."""

from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from probes.critical_tokens.settings import CriticalTokensSettings

if TYPE_CHECKING:
    from probes.critical_tokens.families import Level
    from probes.critical_tokens.problems import Problem


def check_tasks(settings: CriticalTokensSettings) -> None:
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


def parsed_levels(settings: CriticalTokensSettings) -> "list[Level]":
    """Returns the levels by their knobs."""
    from probes.critical_tokens.families import parse_level

    return [parse_level(text) for text in settings.levels]


def file_problems(settings: CriticalTokensSettings) -> "list[Problem]":
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
