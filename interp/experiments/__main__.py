"""The command line: `interp EXPERIMENT --model NAME …`, also `python -m interp.experiments …`. Its help imports no torch."""

import dataclasses
import logging
import os
import sys
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from interp.errors import ArgumentError, UserError, did_you_mean
from interp.experiments import verbs
from interp.experiments.atlas_settings import Atlas, read_configuration
from interp.experiments.bounds import flag_of, takes_several, types_of
from interp.experiments.catalogue import experiment_names, experiments, find_experiment, joins
from interp.experiments.experiment import Experiment
from interp.experiments.meanings import as_kind, with_help
from interp.experiments.options import RunOptions
from interp.experiments.run import configured

PROGRAM = "interp" if Path(sys.argv[0]).stem == "interp" else "python -m interp.experiments"
"""What was typed: the console command and the module are the same."""
STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""

PLAN = "plan"
PLAN_SUMMARY = "Estimate what a run will do and cost, without running it: plan EXPERIMENT, then the settings and options of the run."
ATLAS = "atlas"
ATLAS_SUMMARY = "Run every experiment that applies to a model and join the results in one report."

VERBS: dict[str, Callable[..., None]] = {
    "list": verbs.list_experiments,
    "models": verbs.list_models,
    "runs": verbs.list_runs,
    "show": verbs.show,
    "compare": verbs.compare,
    "figures": verbs.figures,
    "transplant": verbs.transplant,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 the run failed, 2 wrong arguments, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        try:
            _command(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        verbs.say("Stopped; every finished unit is kept. The same command goes on from there.", error=True)
        return STOPPED
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        return _explain(error)
    return 0


def _explain(error: Exception) -> int:
    """Says what went wrong; returns the exit status."""
    if isinstance(error, UserError):
        verbs.say(str(error), error=True)
        return error.exit_status
    verbs.say(f"{type(error).__name__}: {error}. This should not happen: --debug shows where.", error=True)
    return 1


def _command(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        verbs.say(_overview())
        return
    name, rest = words[0], words[1:]
    if name in VERBS:
        tyro.cli(VERBS[name], prog=f"{PROGRAM} {name}", args=[word for word in rest if word != "--debug"])
        return
    if name == ATLAS:
        _run_atlas(rest)
        return
    if name == PLAN:
        _plan(rest)
        return
    known = [ATLAS, PLAN, *VERBS, *experiment_names()]
    if name.replace("-", "_") not in known:
        raise ArgumentError(
            f"There is no command or experiment called {name}.{did_you_mean(name, known)} Try {PROGRAM} --help"
        )
    _run(find_experiment(name), rest)


def _overview() -> str:
    return "\n".join(
        [
            f"usage: {PROGRAM} EXPERIMENT [--model NAME] [--preset NAME] [--config FILE.toml] [settings]",
            f"       {PROGRAM} {ATLAS} [--model NAME] [--preset NAME] [--config FILE.toml]",
            f"       {PROGRAM} {PLAN} EXPERIMENT [the same settings]",
            f"       {PROGRAM} list | models | runs | show RUN | compare RUN RUN … | figures RUN --format pdf svg png",
            f"       {PROGRAM} transplant --model NAME --tokenizer NAME --out FOLDER",
            "",
            "experiments, each with its own --help:",
            *(f"  {name:<24} {kind.summary}" for name, kind in experiments().items()),
            "",
            "questions across finished runs; an atlas answers all of them:",
            *(f"  {name:<24} {kind.summary}" for name, kind in joins().items()),
            "",
            "other commands:",
            f"  {ATLAS:<24} {ATLAS_SUMMARY}",
            f"  {PLAN:<24} {PLAN_SUMMARY.partition(': ')[0]}.",
            *(f"  {name:<24} {str(verb.__doc__).splitlines()[0]}" for name, verb in VERBS.items()),
        ]
    )


# ---------------------------------------------------------------------- running an experiment


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where settings come from when the command line does not give them."""

    preset: str | None = None
    """Name of one of the experiment's presets, listed above."""
    config: Path | None = None
    """TOML file of settings; takes precedence over the preset."""


def _run(kind: type[Experiment], words: list[str]) -> None:
    experiment, options = _parsed(kind, words, kind.name)
    run = experiment.run(**{field.name: getattr(options, field.name) for field in dataclasses.fields(RunOptions)})
    verbs.say_findings(run)


def _plan(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        verbs.say(f"usage: {PROGRAM} {PLAN} EXPERIMENT [--model NAME] [--preset NAME] [settings]\n\n{PLAN_SUMMARY}")
        verbs.say(f"The experiments: {', '.join(experiment_names())}.")
        return
    kind = find_experiment(words[0])
    verbs.plan(*_parsed(kind, words[1:], f"{PLAN} {kind.name}"))


def _parsed(kind: type[Experiment], words: list[str], command_name: str) -> tuple[Experiment, RunOptions]:
    """The experiment and the options that were typed."""
    words = _gathered(kind, words)
    source = tyro.cli(_Source, args=words, return_unknown_args=True, add_help=False)[0]
    documented = with_help(kind)
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("experiment", Annotated[documented, tyro.conf.OmitArgPrefixes]),
            ("run", Annotated[RunOptions, tyro.conf.OmitArgPrefixes]),
            ("preset", Annotated[_Source, tyro.conf.OmitArgPrefixes]),
        ],
    )
    presets = f"\n\nPresets: {', '.join(kind.presets)}." if kind.presets else ""
    parsed: Any = tyro.cli(
        command,
        prog=f"{PROGRAM} {command_name}",
        description=f"{_sentence(kind.summary)}{presets}",
        default=command(as_kind(documented, _given(kind, source)), RunOptions(), source),
        args=words,
    )
    return as_kind(kind, parsed.experiment), parsed.run


def _sentence(summary: str) -> str:
    """A summary with its capital and its stop; a question has one of its own."""
    return f"{summary[:1].upper()}{summary[1:]}{'' if summary.endswith('?') else '.'}"


def _gathered(kind: type[Experiment], words: list[str]) -> list[str]:
    """The words with all values of a setting of several behind its first flag: of a flag that comes twice, tyro takes the last alone."""
    parts: list[list[str]] = [[]]  # a flag and what follows it
    for word in words:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    types = {**types_of(kind), **types_of(RunOptions)}
    several = {flag_of(name) for name, of in types.items() if takes_several(of)}
    first: dict[str, list[str]] = {}
    for part in parts[1:]:
        typed, given, value = part[0].partition("=")
        flag = flag_of(typed)
        if flag not in several:
            continue
        values = [value, *part[1:]] if given else part[1:]
        if flag in first:
            first[flag] += values
            part.clear()
        else:
            part[:] = [flag, *values]
            first[flag] = part
    return [word for part in parts for word in part]


def _run_atlas(words: list[str]) -> None:
    config = tyro.cli(_Source, args=words, return_unknown_args=True, add_help=False)[0].config
    shared = read_configuration(config)[0] if config else {}
    documented = with_help(Atlas)
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("atlas", Annotated[documented, tyro.conf.OmitArgPrefixes]),
            ("run", Annotated[RunOptions, tyro.conf.OmitArgPrefixes]),
        ],
    )
    parsed: Any = tyro.cli(
        command,
        prog=f"{PROGRAM} {ATLAS}",
        description=ATLAS_SUMMARY,
        default=command(as_kind(documented, configured(Atlas, {**shared, "config": config})), RunOptions()),
        args=words,
    )
    verbs.atlas(as_kind(Atlas, parsed.atlas), parsed.run)


def _given(kind: type[Experiment], source: _Source) -> Experiment:
    """The experiment as the preset and the configuration file have it."""
    values: dict[str, Any] = {}
    if source.preset is not None:
        if source.preset not in kind.presets:
            raise ArgumentError(
                f"{kind.name} has no preset {source.preset}.{did_you_mean(source.preset, list(kind.presets))} It has: "
                f"{', '.join(kind.presets) or 'none'}."
            )
        values.update(kind.presets[source.preset])
    if source.config is not None:
        values.update(_read_toml(source.config, kind))
    return configured(kind, values)


def _read_toml(path: Path, kind: type[Experiment]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read as TOML ({error}).") from error
    if values.pop("experiment", kind.name) != kind.name:
        raise ArgumentError(f"{path} is a configuration of another experiment than {kind.name}.")
    return values


if __name__ == "__main__":
    sys.exit(main())
