"""The one way every experiment runs: plan, skip what is done, measure, store, summarise, draw, report."""

import dataclasses
import errno
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from interp.errors import RunError, UserError
from interp.experiments.catalogue import usable_on, usable_without_attention
from interp.experiments.engine import Engine, LocalEngine, Worker, checkpoint_of, computing_threads, worker_device
from interp.experiments.experiment import Experiment
from interp.experiments.options import RunOptions
from interp.experiments.provenance import command_line, versions
from interp.experiments.run import Run, with_checked_settings
from interp.experiments.run_names import run_hash
from interp.experiments.store import MeasuredTables, RunStore, folder_bytes
from interp.models.check.verdicts import kept_verdicts
from interp.models.identity import ModelFacts
from interp.models.loading.language import load, look_up, pick_dtype
from interp.models.loading.names import IN_WORDS, ModelKind, aliases, known_kind

LOG = logging.getLogger(__name__)


def run_experiment(experiment: Experiment, options: RunOptions) -> Run:
    """Measures what is missing of a run and returns the finished run; a finished run is returned unchanged.

    Raises UserError, with what stands on disk kept, when the run cannot begin or end.
    """
    experiment = with_checked_settings(experiment)
    check_kind(experiment)
    facts = facts_of(experiment, options)
    check_usable(experiment, facts)
    folder = options.out / experiment.name / facts.name / run_hash(experiment, facts)
    store = RunStore(folder, experiment.schemas())
    with _explaining_disk(folder), store.locked():
        if options.fresh:
            store.clear()
        description = store.read_description()
        if description.get("status") != "done" or not store.tables_whole(description):
            store.sweep()
            with computing_threads(description) as threads:
                description = _describe(experiment, options, facts)
                description["threads"] = threads if options.engine == "local" else None
                with _recording_outcome(store, description):
                    load_model, _ = _loaders(experiment.model_kind)
                    with _open_engine(experiment, options, facts, load_model) as engine:
                        _measure_all(experiment, engine, facts, store)
                        description["workers_lost"] = engine.workers_lost
                    description["check_at_load"] = _verdicts(experiment, options, facts)
                    _finish(experiment, facts, store, description)
        run = Run(folder, experiment, store.read_description())
        if options.export:
            from interp.experiments.export import export_run

            export_run(run, options.export)
    if options.log:
        from interp.experiments.trackers import log_run

        log_run(run, options.log)
    return run


def facts_of(experiment: Experiment, options: RunOptions) -> ModelFacts:
    """Returns identity and size of the model in the precision it will be loaded in, without loading it.

    Raises UserError when there is no such model.
    """
    _, look_up_model = _loaders(experiment.model_kind)
    dtype = pick_dtype(experiment.dtype, worker_device(options))
    return look_up_model(experiment.model, dtype=dtype, revision=experiment.revision, **experiment.of_weights)


def check_kind(experiment: Experiment) -> None:
    """Raises UserError if the model is not of the kind (language or image) that the experiment needs."""
    kind = known_kind(experiment.model)
    if kind is None or kind == experiment.model_kind:
        return
    usable = ", ".join(usable_on(kind)) or "none of the installed experiments"
    fitting = [entry.name for entry in aliases().values() if entry.kind == experiment.model_kind]
    raise UserError(
        f"{experiment.model} is {IN_WORDS[kind]} and can be used in {usable}; {experiment.name} takes "
        f"{experiment.model_kind} models, such as {fitting[0]}."
    )


def _loaders(kind: ModelKind) -> tuple[Callable[..., Any], Callable[..., ModelFacts]]:
    """The functions that load a model and that look it up; diffusers is imported only where pictures are made."""
    if kind == "image":
        from interp.models.loading.image import load_image, look_up_image

        return load_image, look_up_image
    return load, look_up


def check_usable(experiment: Experiment, facts: ModelFacts) -> None:
    """Raises UserError when the experiment cannot be run on the model."""
    if experiment.model_kind == "language" and experiment.needs_attention and facts.geometry is None:
        usable = ", ".join(usable_without_attention()) or "none of the installed experiments"
        raise UserError(
            f"{facts.name} ({facts.model_type}) has no attention heads, which {experiment.name} looks at: it can be used in "
            f"{usable}."
        )
    experiment.check_model(facts)


@contextmanager
def _open_engine(
    experiment: Experiment, options: RunOptions, facts: ModelFacts, load_model: Callable[..., Any]
) -> Iterator[Engine]:
    """Gives the engine the options name; its workers end with the block. Nothing is started before the first unit."""
    place = {"device": worker_device(options), "dtype": facts.identity.dtype, "device_map": options.device_map}
    place |= experiment.of_weights
    if options.engine == "local":
        yield LocalEngine(Worker(experiment, load_model, place))
        return
    from interp.experiments.ray_engine import RayEngine

    engine = RayEngine((experiment, load_model, place), options, partial(checkpoint_of, experiment))
    try:
        yield engine
    finally:
        engine.close()


def _measure_all(experiment: Experiment, engine: Engine, facts: ModelFacts, store: RunStore) -> None:
    """Measures the units that are not done, wave by wave, until the plan names nothing new."""
    from tqdm.auto import tqdm

    from interp.tables import named

    done = store.done_units()
    with tqdm(unit="unit", disable=None, desc=experiment.name) as progress:
        while True:
            planned = experiment.plan(facts, MeasuredTables(store, _in_plan_order(experiment, facts, store, done)))
            missing = [unit for unit in planned if unit.id not in done]
            progress.total = len(planned)
            progress.n = len(planned) - len(missing)
            progress.refresh()
            if not missing:
                return
            for unit, tables, seconds in engine.measure(missing):
                store.write_part(unit.id, named(tables, facts.name), seconds)
                done[unit.id] = seconds
                progress.update()


def _finish(experiment: Experiment, facts: ModelFacts, store: RunStore, description: dict[str, Any]) -> None:
    """Writes whole tables, figures, foreign formats and the report, all from the parts."""
    from interp.experiments.export import write_figures
    from interp.experiments.report import write_report
    from interp.tables import named

    done = store.done_units()
    order = _in_plan_order(experiment, facts, store, done)
    measured = MeasuredTables(store, order)
    summaries = named(experiment.summarise(facts, measured), facts.name)
    store.write_tables({name: measured[name] for name in store.schemas if name not in summaries} | summaries)
    description["unit_seconds"] = {id: done[id] for id in order}
    description["table_sha256"] = store.table_sha256()
    description["finished"] = _now()
    run = Run(store.folder, experiment, description)
    write_figures(run)
    for name, content in experiment.documents(run.tables).items():
        store.write_document(name, content)
    description["status"] = "done"
    description["headlines"] = [finding.text for finding in run.findings if finding.kind == "result"]
    write_report(run)
    description["n_bytes"] = folder_bytes(store.folder)


def _in_plan_order(experiment: Experiment, facts: ModelFacts, store: RunStore, done: dict[str, float]) -> list[str]:
    """The done units in the order an uninterrupted run would have measured them."""
    order: list[str] = []
    while True:
        planned = [unit.id for unit in experiment.plan(facts, MeasuredTables(store, order)) if unit.id in done]
        if len(planned) == len(order):
            return order
        order = planned


def _verdicts(experiment: Experiment, options: RunOptions, facts: ModelFacts) -> dict[str, str] | None:
    """What the check at load said of the model, or None where this machine keeps no verdicts on it."""
    if experiment.model_kind != "language":
        return None
    kept = kept_verdicts(facts.identity, worker_device(options))
    return None if kept is None else {name: verdict.in_words() for name, verdict in kept.by_name.items()}


def _describe(experiment: Experiment, options: RunOptions, facts: ModelFacts) -> dict[str, Any]:
    return {
        "status": "running",
        "experiment": experiment.name,
        "schema_version": experiment.schema_version,
        "command": command_line(experiment, options),
        "configuration": experiment.configuration(),
        "model": dataclasses.asdict(facts),
        "device": options.device_map or worker_device(options),
        "engine": options.engine,
        "started": _now(),
        "versions": versions(),
        "error": None,
    }


@contextmanager
def _recording_outcome(store: RunStore, description: dict[str, Any]) -> Iterator[None]:
    """Writes run.json at the start and at every end: done, stopped by the user, or failed and why."""
    store.write_description(description)
    try:
        yield
    except KeyboardInterrupt:
        description.update(status="stopped", error="stopped by the user")
        store.write_description(description)
        raise
    except Exception as error:
        description.update(status="failed", error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        try:
            store.write_description(description)
        except OSError as also:
            LOG.warning("run.json could not be written either: %s", also)
        raise
    store.write_description(description)


@contextmanager
def _explaining_disk(folder: Path) -> Iterator[None]:
    """Turns a full or read-only disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk that holds {folder} is full; every finished unit is kept: make room and type the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise RunError(
                f"{error.filename or folder} cannot be written: choose another folder with --out."
            ) from error
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
