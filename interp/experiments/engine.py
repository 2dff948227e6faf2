"""Engines measure units: this process, or the workers of a Ray cluster with one model each.

Units are pure functions of the configuration and their id, so an engine decides when and where a unit is measured and
never what its rows are. An engine only measures: the runner alone writes parts.

This process computes with as many threads as the machine has processors free when it starts. A matrix product ends when its
slowest thread does: on a machine that others use, every thread more is one more that may be waiting for a processor, so a
second thread there costs time instead of saving it. The number is settled once for a run and kept by those who resume it,
because the last bits of a sum depend on it.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from interp.errors import RunError
from interp.experiments.experiment import Experiment, WorkUnit
from interp.experiments.options import RunOptions

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel
    from interp.models.language.model import LanguageModel
    from interp.tables import Tables

WATCHED_SECONDS = 0.2
"""How long the machine is watched before a run."""
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Where these are set, their number of threads is kept."""


@runtime_checkable
class Engine(Protocol):
    """Measures units; can be called repeatedly, and keeps its models between calls."""

    workers_lost: int
    """Workers that died in the middle of a unit, which was then measured again."""

    def measure(self, units: Sequence[WorkUnit]) -> "Iterator[tuple[WorkUnit, Tables, float]]":
        """Yields each unit with its tables and the seconds it took, as they are finished."""
        ...


class Worker:
    """Measures one unit after the other with one model in memory; a unit of another one, or another revision, replaces it."""

    def __init__(
        self,
        experiment: Experiment,
        load_model: "Callable[..., LanguageModel | ImageModel]",
        place: Mapping[str, Any],
    ) -> None:
        """`place` has the options of `load_model` that say where and in which precision the model is."""
        self._experiment = experiment
        self._load_model = load_model
        self._place = place
        self._model: LanguageModel | ImageModel | None = None
        self._held: tuple[str, str | None] | None = None

    def enter(self, folder: str) -> None:
        """Changes to that folder: paths in the configuration are relative to it.

        Raises RunError when it is not there.
        """
        try:
            os.chdir(folder)
        except OSError as error:
            raise RunError(
                f"{folder} is not on {platform.node()}: start the run in a folder that all machines of the cluster share."
            ) from error

    def measure(self, unit: WorkUnit) -> "tuple[Tables, float]":
        """Returns a unit's tables and the seconds it took, without the time to load the model."""
        name, revision = checkpoint_of(self._experiment, unit)
        if self._model is None or (name, revision) != self._held:
            self._model, self._held = None, (name, revision)  # the old one is let go first
            model: Any = self._load_model(name, revision=revision, **self._place)
            for needed in self._experiment.needs:  # before anything is measured
                model.needs(needed)
            self._experiment.check_loaded(model)
            self._model = model
        assert self._model is not None
        started = time.perf_counter()
        tables = self._experiment.measure(self._model, unit)
        return tables, time.perf_counter() - started


def checkpoint_of(experiment: Experiment, unit: WorkUnit) -> tuple[str, str | None]:
    """Returns the name and the revision of the model that a unit is measured with."""
    return experiment.model_of(unit), experiment.revision_of(unit)


class LocalEngine:
    """Measures in this process, unit by unit in the order of the plan."""

    workers_lost = 0

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def measure(self, units: Sequence[WorkUnit]) -> "Iterator[tuple[WorkUnit, Tables, float]]":
        """Yields each unit with its tables and seconds."""
        for unit in units:
            yield unit, *self._worker.measure(unit)


def worker_device(options: RunOptions) -> str:
    """Returns the torch device that units are measured on.

    Raises ArgumentError for a device that this machine does not have; workers of a cluster may have others.
    """
    if options.engine == "ray":
        return "cuda" if gpus_per_worker(options) else "cpu"
    from interp.models.loading.language import pick_device

    return pick_device(options.device)


def gpus_per_worker(options: RunOptions) -> float:
    """Returns the GPUs of each Ray worker: those asked for, or one if the device is a GPU or this machine has one."""
    if options.gpus_per_worker is not None:
        return options.gpus_per_worker
    import torch

    return float(options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available()))


# ---------------------------------------------------------------------- how many threads


@contextmanager
def computing_threads(resumed: Mapping[str, Any]) -> Iterator[int]:
    """Sets torch's threads to those of a run for the duration of the block, and yields their number.

    `resumed` is what run.json says of a run that was begun before ({} for a new one): its number of threads is taken over.
    OMP_NUM_THREADS and torch.set_num_threads are upper bounds.
    """
    import torch

    before = torch.get_num_threads()
    kept = resumed.get("threads")
    threads = kept if isinstance(kept, int) and 0 < kept <= before else threads_for(before)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def threads_for(most: int) -> int:
    """Returns how many threads, at most `most`, a run should use: all if the user chose the number, else one per idle processor."""
    if most == 1 or any(os.environ.get(name) for name in CHOSEN_BY_USER):
        return most
    return max(1, min(most, round(free_processors())))


def free_processors(seconds: float = WATCHED_SECONDS) -> float:
    """Returns how many processors were not used by other processes during a short observation.

    Of those this process may run on, where the system says which (Linux).
    """
    import psutil

    own = psutil.Process()
    usable = list(own.cpu_affinity()) if hasattr(own, "cpu_affinity") else list(range(psutil.cpu_count() or 1))
    used_before, started = _own_seconds(own), time.perf_counter()
    busy = psutil.cpu_percent(interval=seconds, percpu=True)
    used = (_own_seconds(own) - used_before) / (time.perf_counter() - started)
    others = sum(busy[index] for index in usable if index < len(busy)) / 100 - used
    return len(usable) - max(0.0, others)


def _own_seconds(process: Any) -> float:
    times = process.cpu_times()
    return times.user + times.system
