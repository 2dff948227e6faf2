"""Logging a finished run's headlines to Weights & Biases, MLflow or Trackio.

Where these send or store things is their own matter (WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR, …). A run that is logged
again is the same run there: it goes by its hash.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from interp.errors import RunError
from interp.experiments.options import TrackerName
from interp.experiments.run import Run

PROJECT = "interp"
"""Project (in MLflow: experiment) of all runs, where the tracker's own environment variable names no other."""
LONGEST_PARAMETER = 500
"""Characters of a value that every MLflow server takes."""


@dataclass(frozen=True)
class Record:
    """What is logged of a run."""

    name: str
    key: str
    """The run's hash."""
    experiment: str
    settings: Mapping[str, Any]
    """The configuration, and what the run was made with: model, device, versions, folder."""
    numbers: Mapping[str, float]
    headlines: Mapping[str, str]


def record_of(run: Run) -> Record:
    """Returns what is logged of a finished run."""
    told = run.description
    identity = told["model"]["identity"]
    made_with = {
        "experiment": told["experiment"],
        "schema_version": told["schema_version"],
        **{f"model_{name}": identity[name] for name in ("name", "source", "revision", "dtype")},
        **{name: told.get(name) for name in ("device", "engine", "command", "started", "finished")},
        "git_commit": told.get("versions", {}).get("git_commit"),
        "folder": str(run.folder),
    }
    seconds = told.get("unit_seconds", {})
    results = [finding.text for finding in run.findings if finding.kind == "result"]
    warnings = [finding.text for finding in run.findings if finding.kind == "warning"]
    return Record(
        f"{told['experiment']} {run.label}",
        run.folder.name,
        told["experiment"],
        {**told["configuration"], **made_with},
        {"seconds": float(sum(seconds.values())), "units": float(len(seconds))},
        {
            **{f"headline_{number}": text for number, text in enumerate(results, start=1)},
            **{f"warning_{number}": text for number, text in enumerate(warnings, start=1)},
        },
    )


def log_run(run: Run, tracker: TrackerName) -> None:
    """Logs a finished run to a tracker.

    Raises RunError, with the run kept, when the tracker does not take it.
    """
    send = _SENDERS[tracker]
    try:
        send(record_of(run))
    except (OSError, ValueError, RuntimeError, *_errors_of(tracker)) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RunError(
            f"The run is done ({run.folder}), but {tracker} did not take it ({reason}): the same command logs it again."
        ) from error


def _errors_of(tracker: TrackerName) -> tuple[type[Exception], ...]:
    """What a tracker raises of its own; the others are a server that does not answer, and a folder that cannot be written."""
    if tracker == "wandb":
        from wandb.errors import Error

        return (Error,)
    if tracker == "mlflow":
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        return (MlflowException,)
    return ()


def _to_wandb(record: Record) -> None:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=record.key,
        name=record.name,
        group=record.experiment,
        config=dict(record.settings),
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )
    run.summary.update({**record.numbers, **record.headlines})
    run.finish()


def _to_mlflow(record: Record) -> None:
    import mlflow  # pyright: ignore[reportMissingImports]

    project = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    found = mlflow.MlflowClient().search_runs([project.experiment_id], f"tags.`interp.run` = '{record.key}'")
    again = {"run_id": found[0].info.run_id} if found else {"run_name": record.name}
    with mlflow.start_run(**again):
        if not found:  # parameters are written once
            mlflow.log_params({name: str(value)[:LONGEST_PARAMETER] for name, value in record.settings.items()})
        mlflow.log_metrics(dict(record.numbers))
        mlflow.set_tags({"interp.run": record.key, **record.headlines})


def _to_trackio(record: Record) -> None:
    import trackio  # pyright: ignore[reportMissingImports]

    trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT),
        name=f"{record.name} {record.key}",
        group=record.experiment,
        config=dict(record.settings),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    trackio.log({**record.numbers, **record.headlines})
    trackio.finish()


_SENDERS: Mapping[TrackerName, Callable[[Record], None]] = {
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
}
