"""The Ray engine: actors that hold one model each, and the loop that assigns units to them."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from interp.errors import ArgumentError, RunError
from interp.experiments.engine import Worker, gpus_per_worker
from interp.experiments.experiment import WorkUnit
from interp.experiments.options import RunOptions

if TYPE_CHECKING:
    from interp.tables import Tables

LOG = logging.getLogger(__name__)

TRIES = 3
"""How many workers a unit may take down before it is the unit's fault."""
PATIENCE_SECONDS = 60
"""How long to wait for the first worker before saying what is waited for."""


class RayEngine:
    """Measures on workers of the cluster at RAY_ADDRESS, or of one started on this machine for the run.

    A worker that dies is replaced and its unit measured again, until a unit has taken down TRIES workers. An error that a
    unit raises is raised here, as it would be without Ray.
    """

    def __init__(
        self,
        arguments: tuple[Any, ...],
        options: RunOptions,
        checkpoint_of: Callable[[WorkUnit], tuple[str, str | None]],
    ) -> None:
        """`arguments` are those of a Worker. Nothing is started before the first unit is measured."""
        try:
            import ray.exceptions
        except ImportError as error:
            raise ArgumentError("--engine ray needs Ray, which is not installed: pip install 'interp[ray]'.") from error
        self.workers_lost = 0
        self._ray = ray
        self._arguments = arguments
        self._options = options
        self._checkpoint_of = checkpoint_of
        self._needs = {"CPU": options.cpus_per_worker, "GPU": gpus_per_worker(options)}
        self._connected = False
        self._workers: dict[Any, tuple[str, str | None] | None] = {}
        """All workers, with the model and revision that they hold or are about to."""
        self._starting: dict[Any, Any] = {}
        """Workers that are not there yet, by the reference to their first sign of life."""
        self._idle: list[Any] = []

    def measure(self, units: Sequence[WorkUnit]) -> "Iterator[tuple[WorkUnit, Tables, float]]":
        """Yields each unit with its tables and seconds, as they are finished."""
        self._connect()
        for _ in range(min(self._size(), len(units)) - len(self._workers)):
            self._start_worker()
        waiting = list(units)
        running: dict[Any, tuple[Any, WorkUnit]] = {}
        losses: Counter[str] = Counter()
        while waiting or running:
            self._hand_out(waiting, running)
            for reference in self._signs([*running, *self._starting]):
                worker, unit = running.pop(reference, None) or (self._starting.pop(reference), None)
                try:
                    result = self._ray.get(reference)
                except self._ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except self._ray.exceptions.RayError as error:  # the worker died, or its machine
                    self._replace(worker, unit, losses, error)
                    waiting[:0] = [unit] if unit else []
                    continue
                self._idle.append(worker)
                if unit:
                    yield unit, *result

    def close(self) -> None:
        """Stops the workers, and the cluster if it was started here."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers.clear()
        if self._connected:
            self._ray.shutdown()

    # ------------------------------------------------------------------ the cluster

    def _connect(self) -> None:
        if self._ray.is_initialized():  # by an earlier wave, or by whoever called from Python
            return
        address = os.environ.get("RAY_ADDRESS", "local")
        own = {"num_cpus": _processors(), "include_dashboard": False} if address == "local" else {}
        try:
            _knock(address)
            self._ray.init(address, logging_level=logging.ERROR, **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"No Ray cluster can be reached at {address} ({_first_line(error)}): set RAY_ADDRESS to one that runs, with "
                "RAY_AUTH_MODE=token if it asks for a token, or unset it to start one on this machine."
            ) from error
        self._connected = True

    def _size(self) -> int:
        """How many workers there should be.

        Raises RunError when not even one fits.
        """
        there = self._ray.cluster_resources()
        fitting = int(min(there.get(kind, 0) / need + 1e-9 for kind, need in self._needs.items() if need))
        if fitting < 1:
            raise RunError(
                f"A worker asks for {_in_words(self._needs)} and the cluster has {_in_words(there)}: ask for less with "
                "--cpus-per-worker and --gpus-per-worker."
            )
        if there.get("GPU") and not self._needs["GPU"] and self._options.device == "auto":
            LOG.warning("The cluster has %s and the workers use none: see --gpus-per-worker.", _in_words(there))
        if (self._options.workers or 0) > fitting:
            LOG.warning(
                "%d of %s workers fit in the cluster; the others start when there is room.",
                *(fitting, self._options.workers),
            )
        return self._options.workers or fitting

    def _signs(self, references: list[Any]) -> list[Any]:
        """The references that are done, one at least; where no worker has come for long, none, after a word to the user."""
        someone = len(self._workers) > len(self._starting)
        done, _ = self._ray.wait(references, timeout=None if someone else PATIENCE_SECONDS)
        if not done:
            free = _in_words(self._ray.available_resources())
            LOG.warning("Waiting for room: a worker asks for %s, and %s are free.", _in_words(self._needs), free)
        return done

    # ------------------------------------------------------------------ the workers

    def _start_worker(self) -> None:
        actor = self._ray.remote(num_cpus=self._needs["CPU"], num_gpus=self._needs["GPU"])(Worker)
        worker = actor.remote(*self._arguments)
        self._workers[worker] = None
        self._starting[worker.enter.remote(os.getcwd())] = worker

    def _hand_out(self, waiting: list[WorkUnit], running: dict[Any, tuple[Any, WorkUnit]]) -> None:
        """Gives each idle worker a unit: one for the model it holds, or else for the model that fewest hold."""
        while waiting and self._idle:
            worker = self._idle.pop(0)
            holders = Counter(self._workers.values())
            unit = min(waiting, key=lambda unit: self._preference(unit, self._workers[worker], holders))
            waiting.remove(unit)
            self._workers[worker] = self._checkpoint_of(unit)
            running[worker.measure.remote(unit)] = worker, unit

    def _preference(
        self, unit: WorkUnit, held: tuple[str, str | None] | None, holders: Counter[tuple[str, str | None] | None]
    ) -> tuple[bool, int]:
        checkpoint = self._checkpoint_of(unit)
        return checkpoint != held, holders[checkpoint]

    def _replace(self, worker: Any, unit: WorkUnit | None, losses: Counter[str], error: Exception) -> None:
        """Starts another worker for one that is lost.

        Raises RunError when the unit has been lost too often.
        """
        what = unit.id if unit else "the start of a worker"
        losses[what] += 1
        self.workers_lost += 1
        del self._workers[worker]
        self._ray.kill(worker)  # it may only be out of reach
        if losses[what] == TRIES:
            raise RunError(
                f"{TRIES} workers died in {what} ({_first_line(error)}). Memory is the usual reason: take fewer --workers, or "
                "more of each machine with --cpus-per-worker or --gpus-per-worker."
            ) from error
        LOG.warning("A worker died in %s, which is tried again with another.", what)
        self._start_worker()


def _knock(address: str) -> None:
    """Raises OSError when nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_SECONDS).close()


def _processors() -> int | None:
    """The processors this process may use, which under Slurm are not all of the machine's; None leaves it to Ray."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _in_words(resources: Any) -> str:
    return " and ".join(f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
